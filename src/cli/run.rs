//! `run`.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, Place, dry_run, log, state};
use crate::{
    app::{App, Failure, Options},
    aws::Aws,
    record::{Clock, Lane},
    shutdown,
};

pub const HELP: &str = "\
With --dry-run, nothing is sent and nothing in the state directory is read or written. Every lane is
read once, as a daemon that is started anew would read it: its nodes with all details from Systems
Manager, its findings from Security Hub; what would be sent is compared with what the hub holds, field
by field. A daemon may run meanwhile, but they share AWS's quotas of reading.

Exit codes of a dry run: 0 everything was looked at, whatever would be done (--json counts it) · 2 a lane
wasn't swept, or the hub may not be read.";

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Say what would be opened, updated, resolved, reopened and refreshed, and end
    #[arg(long)]
    dry_run: bool,
    /// Only this lane, ACCOUNT/REGION; may be given several times
    #[arg(long, value_name = "LANE", requires = "dry_run")]
    pub lane: Vec<Lane>,
    /// Print all of it as JSON
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    /// How long to wait for what heals by itself
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30m",
        requires = "dry_run",
        value_parser = humantime::parse_duration
    )]
    pub timeout: Duration,
}

/// Runs the daemon until a signal, or until it can't go on; or looks what it would do.
pub async fn run(args: &RunArgs, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    if args.dry_run {
        return Box::pin(dry_run::dry_run(args, config)).await;
    }
    log::init(&config.log)?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        state_dir = %config.state_dir.display(),
        config = config.file.as_ref().map_or("(none)".into(), |file| file.display().to_string()),
        "starting"
    );
    let aws = Aws::load().await.map_err(|error| Failed::of(Exit::Usage, &error))?;
    let options = Options { config, aws, clock: Clock::system(), listen: true };
    let started = tokio::select! {
        started = App::start(options) => started,
        () = stop.cancelled() => return Ok(Exit::Ok),
    };
    let mut app = started.map_err(|error| state::start_failed(&error))?;
    announce(&app);
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        failure = app.failed() => Some(failure),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let closed = app.shutdown().await;
    match failure {
        Some(failure) => {
            let exit = match failure {
                Failure::Store(_) => Exit::StartAgain,
                Failure::Stage(_) => Exit::Failed,
            };
            Err(Failed::of(exit, &failure))
        }
        None => match closed {
            Ok(()) => {
                tracing::info!("stopped: everything is on disk");
                Ok(Exit::Ok)
            }
            Err(error) => Err(Failed::of(Exit::StartAgain, &error)),
        },
    }
}

fn announce(app: &App) {
    let lanes: Vec<String> = app.lanes().iter().map(|lane| lane.lane.to_string()).collect();
    let page = app.http_address().map(|address| format!("http://{address}/"));
    tracing::info!(
        lanes = lanes.len(),
        first = lanes.first().map(String::as_str),
        page = page.as_deref(),
        queued = app.queues().accounting().queued.total(),
        "running"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}
