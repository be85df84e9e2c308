//! `drill`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, Place, demo::log, print};
use crate::{drill, shutdown};

const HELP: &str = "\
The product's own binary runs as a child process against a simulated AWS in this one, with a store
in a temporary directory: no AWS account is touched, no credentials are read, nothing is written
elsewhere. Fleets change, the hubs of one Region are out, others throttle, lose answers and talk
nonsense, some findings are poison, and the child gets SIGKILL at instants drawn from the seed.
Then it is left alone, and what the hubs hold, what the store says and what the fleets are must
agree. Exit code 0: every guarantee held; 1: one did not, or the drill came to no end.

Examples:
  patchferry drill
  patchferry drill --outage 10m --kill 20 --poison 5
  patchferry drill --duration 1h --json";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DrillArgs {
    /// How long the hubs of one Region are out [default: a third of the duration]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    outage: Option<Duration>,
    /// How often the daemon is killed
    #[arg(long, value_name = "TIMES", default_value_t = drill::Options::KILLS_DEFAULT)]
    kill: usize,
    /// How many findings the hub calls invalid
    #[arg(long, value_name = "FINDINGS", default_value_t = drill::Options::POISON_DEFAULT)]
    poison: usize,
    /// How long things change and fail [default: 1m, or what the outage and the kills need]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Nodes in all four lanes together
    #[arg(long, default_value_t = drill::Options::NODES_DEFAULT)]
    nodes: usize,
    /// The same seed plans the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the directory with the store and the daemon's log
    #[arg(long)]
    keep: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl DrillArgs {
    fn options(&self, binary: PathBuf, directory: Option<PathBuf>) -> drill::Options {
        let default = drill::Options::DURATION_DEFAULT;
        let needed = drill::Options::duration_for(self.outage.unwrap_or_default(), self.kill);
        let duration = self.duration.unwrap_or_else(|| default.max(needed));
        drill::Options {
            binary,
            duration,
            outage: self.outage.unwrap_or(duration / 3),
            kills: self.kill,
            poison: self.poison,
            nodes: self.nodes,
            seed: self.seed,
            keep: self.keep,
            directory,
        }
    }
}

/// Runs the drill; exit 0 only if every guarantee held.
pub async fn drill(args: DrillArgs, place: &Place) -> Result<Exit, Failed> {
    log()?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    let binary = std::env::current_exe().map_err(|error| {
        Failed::new(Exit::Failed, format!("can't find out which file this program is: {error}"))
    })?;
    let options = args.options(binary, place.state_dir.clone());
    let summary =
        drill::run(options, stop).await.map_err(|error| Failed::of(exit_of(&error), &error))?;
    print(&if args.json { summary.to_json() } else { summary.to_text() })?;
    Ok(if summary.guarantees_held() { Exit::Ok } else { Exit::Failed })
}

fn exit_of(error: &drill::DrillError) -> Exit {
    use drill::DrillError as E;
    match error {
        E::Duration(_) | E::Outage { .. } | E::Kills { .. } | E::Poison(_) | E::Nodes(_) => {
            Exit::Usage
        }
        _ => Exit::Failed,
    }
}
