//! Reaching the state: over the socket of a running daemon, or the store itself.

use std::path::Path;

use super::{Exit, Failed, Place};
use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
        socket,
    },
    app::{self, StartError, offline},
    config::{Config, LoadOptions},
    queue::Queues,
    record::Clock,
    store::{self, OpenError, SpaceLimits},
};

pub fn load_config(place: &Place) -> Result<Config, Failed> {
    let options = LoadOptions::from_process(place.config.clone(), place.state_dir.clone());
    Config::load(&options).map_err(|error| Failed::verbatim(Exit::Usage, error.to_string()))
}

/// Whoever carries out commands: a daemon, asked anew each time, or this process.
pub struct Reach {
    config: Config,
    /// The store, once it was opened because no daemon runs.
    own: Option<Admin>,
}

impl Reach {
    pub fn new(config: Config) -> Self {
        Self { config, own: None }
    }

    /// Has a command carried out.
    pub async fn ask<C: Command>(&mut self, command: C) -> Result<C::Answer, Failed> {
        if self.own.is_none() {
            if let Some(answered) = self.ask_daemon(&command).await? {
                return answered.map_err(|refusal| refused(&refusal));
            }
            let queues = open(&self.config).await?;
            self.own = Some(offline::admin(queues, self.config.clone()));
        }
        let own = self.own.as_ref().expect("it was opened above");
        let answered = own.run(command, Caller::this_process()).await;
        answered.map_err(|refusal| refused(&refusal))
    }

    async fn ask_daemon<C: Command>(
        &self,
        command: &C,
    ) -> Result<Option<Result<C::Answer, Refusal>>, Failed> {
        let path = socket::path(&self.config.state_dir);
        socket::ask(&path, command).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failed::new(
                Exit::NotPermitted,
                format!("{} belongs to another user: run this as that user", path.display()),
            ),
            _ => Failed::new(
                Exit::Failed,
                format!("the daemon at {} doesn't answer: {error}", path.display()),
            ),
        })
    }

    /// Lets go of the store, if it was opened. To be called also after a failure.
    pub async fn close(self) -> Result<(), Failed> {
        let Some(own) = self.own else { return Ok(()) };
        let queues = own.queues().clone();
        drop(own);
        queues.close().await.map_err(|error| Failed::of(Exit::StartAgain, &error))
    }

    /// Lets go of the store after work that came to `ended`, which goes before its own failure.
    pub async fn end<T>(self, ended: Result<T, Failed>) -> Result<T, Failed> {
        let closed = self.close().await;
        let ended = ended?;
        closed.map(|()| ended)
    }
}

fn refused(refusal: &Refusal) -> Failed {
    let exit = match refusal.kind {
        RefusalKind::Usage => Exit::Usage,
        RefusalKind::NotNow | RefusalKind::Io => Exit::Failed,
        RefusalKind::Store => Exit::Store,
    };
    Failed::new(exit, refusal.text.clone())
}

/// Opens the store of a daemon that doesn't run.
async fn open(config: &Config) -> Result<Queues, Failed> {
    let state_dir = config.state_dir.clone();
    check_owner(&state_dir)?;
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

/// Refuses unless the state directory is there and is the caller's.
pub fn check_owner(state_dir: &Path) -> Result<(), Failed> {
    match store::owner_uid(state_dir) {
        Ok(owner) if owner == rustix::process::geteuid().as_raw() => Ok(()),
        Ok(owner) => Err(Failed::new(
            Exit::NotPermitted,
            format!(
                "{} belongs to uid {owner}: run this as that user, lest it can't open its store afterwards",
                state_dir.display()
            ),
        )),
        Err(error) => Err(Failed::new(
            Exit::Store,
            format!(
                "there is no state directory {}: {error}; name another with --state-dir",
                state_dir.display()
            ),
        )),
    }
}

/// The exit code of a daemon that could not start.
pub fn start_failed(error: &StartError) -> Failed {
    let exit = match error {
        StartError::Open(OpenError::Store(store)) if store.is_fatal() => Exit::Store,
        StartError::Open(_) | StartError::Queue(_) => Exit::Store,
        StartError::NoRegion => Exit::Usage,
        StartError::Identity(_)
        | StartError::Organization(_)
        | StartError::Listen { .. }
        | StartError::Socket { .. } => Exit::Unavailable,
    };
    Failed::of(exit, error)
}
