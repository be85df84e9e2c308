//! Lines that somebody hands in, in the operator's terms, with a daemon and without one.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::OnceCell;

use super::{discovery, fleet::Fleet, lanes};
pub use crate::pipeline::ingest::file::{
    CHUNK_LINES_MAX,
    door::{LINE_BYTES_MAX, Refusal as LineRefusal},
};
use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        commands::ingest::{IngestAnswer, RefusedLine},
    },
    aws::Aws,
    config::Config,
    metrics::{BuildInfo, Metrics},
    pipeline::ingest::file::{Answer, FileIngest, Wait, door::Door},
    queue::Queues,
    store::Pause,
};

/// What becomes of a chunk, to be awaited.
pub(super) type Taking<'a> =
    Pin<Box<dyn Future<Output = Result<IngestAnswer, Refusal>> + Send + 'a>>;

/// In a daemon, whose stages drain what is accepted.
pub(super) struct RunningIngest {
    queues: Queues,
    metrics: Arc<Metrics>,
    fleet: Arc<Fleet>,
}

impl RunningIngest {
    pub fn new(queues: Queues, metrics: Arc<Metrics>, fleet: Arc<Fleet>) -> Self {
        Self { queues, metrics, fleet }
    }

    pub async fn take(&self, first_line: u64, lines: &[String]) -> Result<IngestAnswer, Refusal> {
        // Which lanes are served may have changed since the last chunk.
        let door = Door::new(self.fleet.lanes());
        let metrics = Arc::clone(&self.metrics);
        let ingest = FileIngest::running(self.queues.clone(), metrics, door);
        Ok(told(ingest.take(first_line, lines).await?))
    }
}

/// On a store that no daemon has open: what is accepted waits for the next start.
pub(super) struct StoppedIngest {
    queues: Queues,
    config: Config,
    /// Made when it is first needed: whose the lanes are may have to be asked.
    ingest: OnceCell<FileIngest>,
}

impl StoppedIngest {
    pub fn new(queues: Queues, config: Config) -> Self {
        Self { queues, config, ingest: OnceCell::new() }
    }

    pub async fn take(&self, first_line: u64, lines: &[String]) -> Result<IngestAnswer, Refusal> {
        let ingest = self.ingest.get_or_try_init(|| self.begin()).await?;
        match ingest.take(first_line, lines).await? {
            // What makes room, or resumes, is another process, and the store is ours.
            Answer::Wait(wait @ (Wait::Store(Pause::LiveBytes) | Wait::Operator { .. })) => {
                let text = format!("{wait}; start the daemon first");
                Err(Refusal::new(RefusalKind::NotNow, text))
            }
            answer => Ok(told(answer)),
        }
    }

    async fn begin(&self) -> Result<FileIngest, Refusal> {
        let unknown = |error: &dyn std::error::Error| {
            let text = format!(
                "which lanes are served can't be found out: {error}; name them under [[lanes]], \
                 or start the daemon"
            );
            Refusal::new(RefusalKind::NotNow, text)
        };
        let served = if let Some(lanes) = &self.config.lanes {
            lanes.clone()
        } else {
            let aws = Aws::load().await.map_err(|error| unknown(&error))?;
            lanes::resolve(&self.config, &aws).await.map_err(|error| unknown(&error))?
        };
        // Nobody looks at them: this process ends with its command.
        let metrics =
            Metrics::new(BuildInfo { version: env!("CARGO_PKG_VERSION"), revision: "unknown" });
        let served = served.into_iter().map(|lane| lane.lane);
        let door = Door::new(served.chain(discovery::known_lanes(&self.config)));
        Ok(FileIngest::stopped(self.queues.clone(), metrics, door))
    }
}

fn told(answer: Answer) -> IngestAnswer {
    match answer {
        Answer::Taken { refused } => IngestAnswer::Taken {
            refused: refused
                .into_iter()
                .map(|(line, refusal)| RefusedLine { line, reason: refusal.to_string() })
                .collect(),
        },
        Answer::Wait(Wait::Backlog) => IngestAnswer::Busy,
        Answer::Wait(wait) => IngestAnswer::Paused { why: wait.to_string() },
    }
}
