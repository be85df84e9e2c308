//! `demo`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, Place, print};
use crate::{demo, shutdown};

/// What the product logs while it is shown; what it prints has a place of its own.
const LOG_LEVEL: &str = "patchferry=error";

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long the story takes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(8..=3600))]
    seconds: u64,
    /// Nodes in all four lanes together
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(40..=50_000))]
    nodes: u64,
    /// The same seed tells the same story
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stay up afterwards, with the status page and the metrics
    #[arg(long)]
    keep: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// The product's log, above the live display.
pub(super) fn log() -> Result<(), Failed> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(LOG_LEVEL))
        .with_writer(demo::Log)
        .with_ansi(terminal)
        .with_target(false)
        .try_init()
        .map_err(|error| Failed::new(Exit::Failed, format!("the log can't be set up: {error}")))
}

/// Runs the demo; exit 0 only if every guarantee held.
pub async fn demo(args: DemoArgs, place: &Place) -> Result<Exit, Failed> {
    log()?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    let state_dir: Option<PathBuf> = place.state_dir.clone();
    let options = demo::Options {
        duration: Duration::from_secs(args.seconds),
        nodes: usize::try_from(args.nodes).unwrap_or(usize::MAX),
        seed: args.seed,
        keep: args.keep,
        json: args.json,
        state_dir,
    };
    let summary =
        demo::run(options, stop).await.map_err(|error| Failed::of(Exit::Failed, &error))?;
    print(&if args.json { summary.to_json() } else { summary.to_text() })?;
    Ok(if summary.guarantees_held() { Exit::Ok } else { Exit::Failed })
}
