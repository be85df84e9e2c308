//! `status`.

use std::time::Duration;

use clap::Args;

use super::{Exit, Failed, Place, print, state};
use crate::{
    admin::{
        socket::{Request, Response},
        status::Status,
    },
    app::offline,
    config::Config,
};

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Clears the screen and puts the cursor home (ECMA-48: ED 2, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Look again every two seconds
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print JSON, as /api/v1/status gives it
    #[arg(long)]
    json: bool,
}

pub async fn status(args: &StatusArgs, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    loop {
        let (status, running) = look(&config).await?;
        let text = if args.json {
            status.to_json()
        } else if running {
            status.to_text()
        } else {
            format!(
                "patchferry is not running; this is what its store in {} holds.\n{}",
                config.state_dir.display(),
                status.to_text()
            )
        };
        if !args.watch {
            print(&text)?;
            return Ok(Exit::Ok);
        }
        print(&format!("{CLEAR}{text}"))?;
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn look(config: &Config) -> Result<(Status, bool), Failed> {
    if let Some(response) = state::ask(config, &Request::Status).await? {
        let Response::Status(status) = response else {
            return Err(Failed::new(Exit::Failed, "the daemon gave another answer than asked for"));
        };
        return Ok((*status, true));
    }
    let queues = state::open(config).await?;
    let now = queues.clock().now();
    let status = offline::status(&queues, now).await;
    let closed = queues.close().await;
    let status = status.map_err(|error| Failed::of(Exit::Store, &error))?;
    closed.map_err(|error| Failed::of(Exit::StartAgain, &error))?;
    Ok((status, false))
}
