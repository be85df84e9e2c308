//! Lines that somebody hands in, in the admin socket's terms, for a daemon and without one.

use std::sync::Arc;

pub use crate::pipeline::ingest::file::{
    CHUNK_LINES_MAX,
    door::{LINE_BYTES_MAX, Refusal},
};
use crate::{
    admin::ingest::{IngestAnswer, RefusedLine},
    metrics::Metrics,
    pipeline::ingest::file::{Answer, FileIngest, Wait, door::Door},
    queue::{QueueError, Queues},
    record::Lane,
};

/// See the module.
pub struct LineIngest(FileIngest);

impl LineIngest {
    /// In a daemon, whose stages drain what is accepted.
    pub(super) fn running(
        queues: Queues,
        metrics: Arc<Metrics>,
        served: impl IntoIterator<Item = Lane>,
    ) -> Self {
        Self(FileIngest::running(queues, metrics, Door::new(served)))
    }

    /// On a store that no daemon has open: what is accepted waits for the next start.
    pub(super) fn stopped(
        queues: Queues,
        metrics: Arc<Metrics>,
        served: impl IntoIterator<Item = Lane>,
    ) -> Self {
        Self(FileIngest::stopped(queues, metrics, Door::new(served)))
    }

    /// Takes a chunk of lines.
    pub async fn take(&self, first_line: u64, lines: &[String]) -> Result<IngestAnswer, QueueError> {
        Ok(match self.0.take(first_line, lines).await? {
            Answer::Taken { refused, .. } => {
                let told = |refused: crate::pipeline::ingest::file::RefusedLine| RefusedLine {
                    line: refused.line,
                    reason: refused.reason,
                };
                IngestAnswer::Taken { refused: refused.into_iter().map(told).collect() }
            }
            Answer::Wait(Wait::Backlog) => IngestAnswer::Busy,
            Answer::Wait(Wait::Store(pause)) => IngestAnswer::Paused { why: pause.to_string() },
        })
    }
}
