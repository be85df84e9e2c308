//! `status`.

use std::time::Duration;

use clap::Args;

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::admin::commands::status::{GetStatus, Given};

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
        // Looked for anew each time: a daemon may start or end meanwhile.
        let mut reach = Reach::new(config.clone());
        let given = reach.ask(GetStatus {}).await;
        let Given { running, status } = reach.end(given).await?;
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
