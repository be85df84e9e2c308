//! `run`.

use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, Place, log, state};
use crate::{
    app::{App, Failure, Options},
    aws::Aws,
    record::Clock,
    shutdown,
};

/// Runs the daemon until a signal, or until it can't go on.
pub async fn run(place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
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
