//! Carries out commands: the one piece of code behind the daemon's socket and behind the command
//! line while no daemon runs.
//!
//! Guarantees: a command that changes something is in the audit log, on disk, before it is begun,
//! and again with its outcome before it is answered; one that can't be logged isn't begun.
//!
//! Deliberately doesn't know: where requests come from, and what a command does.

use std::{future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    audit::{Audit, Entry, Outcome},
    command::{Caller, Command, Refusal, RefusalKind, Request, Response},
    commands::{
        self,
        ingest::IngestAnswer,
        reconcile::{ReconcileLane, Reconciled},
    },
    status::Status,
};
use crate::{
    config::Config,
    queue::{QueueError, Queues},
    record::Lane,
};

/// A role that an operator has given: ARN and external id.
pub type GivenRole = (String, Option<String>);

/// A lane's way to its hub, of a lane that isn't served.
pub trait Way: Send {
    /// Waits until nothing waits in the lane.
    fn drain(&mut self) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + '_>>;
    fn end(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An opening way.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Way>, Refusal>> + Send + 'a>>;

/// What answers beside the queues: a daemon, or a store that lies still.
pub trait Host: Send + Sync + 'static {
    /// Whether a daemon's stages run.
    fn is_running(&self) -> bool;
    fn status(&self) -> Pin<Box<dyn Future<Output = Result<Status, QueueError>> + Send + '_>>;
    /// The lanes that are served, or will be when a daemon runs, as far as that is known.
    fn served(&self) -> Vec<Lane>;
    /// Keeps a lane out of service for as long as what is given lives; refused if it is served.
    fn keep_out(&self, lane: &Lane) -> Result<Box<dyn Send>, Refusal>;
    /// Opens a way to the lane's hub: with this role, or the one configured for its account.
    fn open_way(&self, lane: &Lane, role: Option<GivenRole>) -> Opening<'_>;
    /// Takes lines that somebody hands in, the first of which has this number.
    fn ingest(
        &self,
        first_line: u64,
        lines: Vec<String>,
    ) -> Pin<Box<dyn Future<Output = Result<IngestAnswer, Refusal>> + Send + '_>>;
    /// Compares the hub of a lane with the ledger.
    fn reconcile(
        &self,
        asked: ReconcileLane,
    ) -> Pin<Box<dyn Future<Output = Result<Reconciled, Refusal>> + Send + '_>>;
}

/// An answer as one line of JSON, without its end.
pub(super) type Encoded = Vec<u8>;

/// See the module.
pub struct Admin {
    queues: Queues,
    config: Config,
    host: Arc<dyn Host>,
    stopping: CancellationToken,
    audit: Audit,
}

impl Admin {
    /// Over `queues`, whose store is where `config` says. `stopping` asks what takes long to end early.
    pub fn new(
        queues: Queues,
        config: Config,
        host: Arc<dyn Host>,
        stopping: CancellationToken,
    ) -> Self {
        let audit = Audit::new(&config.state_dir);
        Self { queues, config, host, stopping, audit }
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether what takes long should end where it is.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// Lanes that are served or have anything in the store.
    pub fn known_lanes(&self) -> Vec<Lane> {
        let mut lanes = self.queues.lanes();
        lanes.extend(self.host.served());
        lanes.sort();
        lanes.dedup();
        lanes
    }

    /// Runs a command, logged if it changes something.
    pub async fn run<C: Command>(&self, command: C, caller: Caller) -> Result<C::Answer, Refusal> {
        let Some(arguments) = command.audited() else { return command.run(self, caller).await };
        let entry = Entry { caller, command: C::NAME, arguments };
        let number = self.log(&entry, None, &Outcome::Begun).await.map_err(|refusal| Refusal {
            text: format!("{}: nothing was changed", refusal.text),
            ..refusal
        })?;
        let ended = command.run(self, caller).await;
        let outcome = match &ended {
            Ok(answer) => Outcome::Done(serde_json::to_value(answer).unwrap_or(Value::Null)),
            Err(refusal) => Outcome::Refused(refusal.text.clone()),
        };
        self.log(&entry, Some(number), &outcome).await.map_err(|refusal| Refusal {
            text: format!("{}: what was asked is done all the same", refusal.text),
            ..refusal
        })?;
        ended
    }

    async fn log(
        &self,
        entry: &Entry,
        number: Option<u64>,
        outcome: &Outcome,
    ) -> Result<u64, Refusal> {
        let at = self.queues.clock().now();
        self.audit.append(at, entry, number, outcome).await.map_err(|error| {
            let path = self.audit.path().display();
            Refusal::new(RefusalKind::Io, format!("the audit log {path} can't be written: {error}"))
        })
    }

    pub(super) async fn run_encoded<C: Command>(
        &self,
        command: C,
        caller: Caller,
    ) -> Result<Encoded, Refusal> {
        encode(&Response::Done(self.run(command, caller).await?))
    }

    /// Answers one line of a connection; never fails, since a refusal is an answer.
    pub(super) async fn answer(&self, line: &[u8], caller: Caller) -> Encoded {
        let request = serde_json::from_slice::<Request<Value>>(line)
            .map_err(|error| Refusal::usage(format!("the request makes no sense: {error}")));
        let answered = match request {
            Ok(Request { command, arguments }) => {
                commands::dispatch(self, caller, &command, arguments, line.len()).await
            }
            Err(refusal) => Err(refusal),
        };
        let refused = |refusal| encode(&Response::<()>::Refused(refusal));
        answered.or_else(refused).unwrap_or_else(|refusal| refusal.text.into_bytes())
    }
}

fn encode<A: Serialize>(response: &Response<A>) -> Result<Encoded, Refusal> {
    serde_json::to_vec(response).map_err(|error| {
        Refusal::new(RefusalKind::Io, format!("the answer can't be written as JSON: {error}"))
    })
}
