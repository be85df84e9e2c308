//! `lanes`.

use clap::Args;

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::admin::{
    commands::status::{GetStatus, Given},
    lanes,
};

#[derive(Debug, Args)]
pub struct LanesArgs {
    /// Print JSON: an array with an object for each lane
    #[arg(long)]
    json: bool,
}

pub async fn lanes(args: LanesArgs, place: &Place) -> Result<Exit, Failed> {
    show(args.json, place).await
}

async fn show(json: bool, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let given = reach.ask(GetStatus {}).await;
    let Given { running, status } = reach.end(given).await?;
    if json {
        print(&lanes::to_json(&status))?;
        return Ok(Exit::Ok);
    }
    if !running {
        print("patchferry is not running; this is what its store holds.\n")?;
    }
    print(&lanes::to_text(&status))?;
    Ok(Exit::Ok)
}
