//! Reaching the state: over the socket of a running daemon, or the store itself.

use super::{Exit, Failed, Place};
use crate::{
    admin::socket::{self, Request, Response},
    app::{self, StartError},
    config::{Config, LoadOptions},
    queue::Queues,
    record::Clock,
    store::{self, OpenError, SpaceLimits},
};

pub fn load_config(place: &Place) -> Result<Config, Failed> {
    let options = LoadOptions::from_process(place.config.clone(), place.state_dir.clone());
    Config::load(&options).map_err(|error| Failed::verbatim(Exit::Usage, error.to_string()))
}

/// Asks the daemon; `None` if none runs.
pub async fn ask(config: &Config, request: &Request) -> Result<Option<Response>, Failed> {
    let path = socket::path(&config.state_dir);
    match socket::ask(&path, request).await {
        Ok(Some(Response::Failed(why))) => {
            Err(Failed::new(Exit::Failed, format!("the daemon could not answer: {why}")))
        }
        Ok(response) => Ok(response),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Failed::new(
            Exit::NotPermitted,
            format!("{} belongs to another user: run this as that user", path.display()),
        )),
        Err(error) => Err(Failed::new(
            Exit::Failed,
            format!("the daemon at {} doesn't answer: {error}", path.display()),
        )),
    }
}

/// Opens the store of a daemon that doesn't run.
pub async fn open(config: &Config) -> Result<Queues, Failed> {
    let state_dir = config.state_dir.clone();
    match store::owner_uid(&state_dir) {
        Ok(owner) if owner == rustix::process::geteuid().as_raw() => {}
        Ok(owner) => {
            return Err(Failed::new(
                Exit::NotPermitted,
                format!(
                    "{} belongs to uid {owner}: run this as that user, lest it can't open its store afterwards",
                    state_dir.display()
                ),
            ));
        }
        Err(error) => {
            return Err(Failed::new(
                Exit::Store,
                format!(
                    "there is no state directory {}: {error}; name another with --state-dir",
                    state_dir.display()
                ),
            ));
        }
    }
    let limits = SpaceLimits {
        live_bytes_max: config.store.max_bytes,
        free_bytes_min: config.store.min_free_bytes,
    };
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&state_dir, limits, Clock::system()));
    match opened.await {
        Ok(Ok(queues)) => Ok(queues),
        Ok(Err(error)) => Err(start_failed(&error)),
        Err(error) => Err(Failed::new(Exit::Store, format!("opening the store failed: {error}"))),
    }
}

/// The exit code of a daemon that could not start.
pub fn start_failed(error: &StartError) -> Failed {
    let exit = match error {
        StartError::Open(OpenError::Store(store)) if store.is_fatal() => Exit::Store,
        StartError::Open(_) | StartError::Queue(_) => Exit::Store,
        StartError::NoRegion => Exit::Usage,
        StartError::Identity(_) | StartError::Listen { .. } | StartError::Socket { .. } => {
            Exit::Unavailable
        }
    };
    Failed::of(exit, error)
}
