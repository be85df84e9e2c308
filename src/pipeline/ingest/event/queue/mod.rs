//! One queue: takes its messages, deals them out to the lanes, and ends them.
//!
//! Two loops side by side. `receiver` takes messages, as long as there is room and ingest isn't paused;
//! what it can't get is told once, and tried again. `keeper` carries out fates, in batches, and keeps
//! the messages hidden that are still worked on; `held` is the table of these.
//!
//! Deliberately doesn't know: what is read of a node, and when it is accepted.

mod held;
mod keeper;
mod receiver;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{held::Held, keeper::Keeper, receiver::Receiver};
use super::Routes;
use crate::{
    aws::{AssumeRole, Aws, AwsError, FailedEntry, Fault, Sqs},
    metrics::{EventQueueState, Metrics, SqsOperation, SqsOutcome},
    queue::{QueueError, Queues},
    record::{AccountId, Region, UnixMillis},
};

/// Messages of a queue that are worked on at a time.
pub const HELD_MESSAGES_MAX: usize = 2_000;

/// Which queue, and with what credentials.
#[derive(Clone)]
pub struct Source {
    pub aws: Arc<Aws>,
    pub url: String,
    pub account: AccountId,
    pub region: Region,
    pub role: Option<AssumeRole>,
}

impl Source {
    /// `account/region/name`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.url.rsplit('/').next().unwrap_or_default();
        format!("{}/{}/{name}", self.account, self.region)
    }
}

/// What a queue is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQueueStatus {
    pub state: EventQueueState,
    pub since: UnixMillis,
    /// What SQS said last, if it can't be read.
    pub note: Option<String>,
}

/// See the module.
pub struct EventQueue {
    pub source: Source,
    pub routes: Routes,
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    /// How often it is tried whether a queue can be read that somebody has to act for.
    pub probe_interval: Duration,
    pub status: watch::Sender<EventQueueStatus>,
}

impl EventQueue {
    /// Until shutdown, or until the store has failed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let Self { source, routes, queues, metrics, probe_interval, status } = self;
        let sqs = source.aws.queue(&source.url, &source.region, source.role.as_ref()).await;
        let (fates, decided) = mpsc::unbounded_channel();
        let shared = Shared { source, metrics, sqs: RwLock::new(sqs), held: Held::default() };
        let receiver = Receiver::new(&shared, routes, queues, probe_interval, status, fates);
        let keeper = Keeper::new(&shared);
        let keeping = async {
            keeper.run(decided, &shutdown).await;
            Ok(())
        };
        tokio::try_join!(receiver.run(&shutdown), keeping).map(|((), ())| ())
    }
}

/// What both loops share.
struct Shared {
    source: Source,
    metrics: Arc<Metrics>,
    sqs: RwLock<Sqs>,
    held: Held,
}

impl Shared {
    fn sqs(&self) -> Sqs {
        self.sqs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the credentials anew.
    async fn renew(&self) {
        let Source { aws, url, region, role, .. } = &self.source;
        let sqs = aws.renewed_queue(url, region, role.as_ref()).await;
        *self.sqs.write().unwrap_or_else(PoisonError::into_inner) = sqs;
    }

    fn count<T>(&self, operation: SqsOperation, answer: &Result<T, AwsError>) {
        let outcome = match answer {
            Ok(_) => SqsOutcome::Ok,
            Err(AwsError { fault: Fault::Throttled { .. }, .. }) => SqsOutcome::Throttled,
            Err(AwsError { fault: Fault::Held { .. } | Fault::Refused { .. }, .. }) => {
                SqsOutcome::Denied
            }
            Err(_) => SqsOutcome::Failed,
        };
        self.metrics.sqs_requests[operation][outcome].increment(1);
    }

    fn count_batch(&self, operation: SqsOperation, answer: &Result<Vec<FailedEntry>, AwsError>) {
        if answer.as_ref().is_ok_and(|failed| !failed.is_empty()) {
            self.metrics.sqs_requests[operation][SqsOutcome::Partial].increment(1);
        } else {
            self.count(operation, answer);
        }
    }
}
