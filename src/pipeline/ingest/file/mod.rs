//! Lines that somebody hands in: the door, and the acceptance of what passes it.
//!
//! Guarantees: a chunk of lines is accepted in one commit and is on disk when it is answered, but
//! for the lines that are named as refused; or the chunk has to wait, and nothing of it was
//! accepted. Each line takes a read number of its lane in the order of the lines: it counts as a
//! read of its own, newer than all before it. While stages drain the queue, it holds at most
//! [`OBSERVED_ITEMS_MAX`] items and one chunk: whoever hands in more waits, with the rest still in
//! its file.
//!
//! - [`door`]: whether a line is an observation at all (pure); `fields` takes its JSON apart.
//!
//! Deliberately doesn't know: files, sockets, and who sends the lines.

pub mod door;
mod fields;

use std::{collections::BTreeMap, fmt, sync::Arc};

use self::door::{Door, Line, Refusal};
use crate::{
    metrics::{Metrics, ObservationOutcome},
    queue::{AcceptedNode, QueueError, Queues, details},
    record::{Lane, Observation, ReadNumber, Source, Stage},
    store::{Pause, StoreError},
};

/// Lines of one chunk: ten full pages, one commit.
pub const CHUNK_LINES_MAX: usize = 500;
/// Observations that may wait to be validated before more lines are taken: some seconds' work.
pub const OBSERVED_ITEMS_MAX: i64 = 10_000;

/// Why a chunk has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The stages are busy with what was handed in before: shortly.
    Backlog,
    /// The store takes nothing new.
    Store(Pause),
    /// Somebody has paused ingest.
    Operator { lane: Lane, reason: String },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backlog => f.write_str("what was handed in before is still being validated"),
            Self::Store(pause) => write!(f, "the store takes no new observations: {pause}"),
            Self::Operator { lane, reason } => {
                write!(f, "ingest of lane {lane} is paused")?;
                if !reason.is_empty() {
                    write!(f, " ({reason})")?;
                }
                f.write_str("; `patchferry status` shows since when")
            }
        }
    }
}

/// What became of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All lines are on disk but the refused, and the blank ones, which say nothing.
    Taken { refused: Vec<(u64, Refusal)> },
    /// Nothing of it was accepted: hand it in again.
    Wait(Wait),
}

/// See the module.
pub struct FileIngest {
    queues: Queues,
    metrics: Arc<Metrics>,
    door: Door,
    /// Whether stages run that empty the queue.
    drained: bool,
}

impl FileIngest {
    /// In a daemon, whose stages drain what is accepted.
    pub fn running(queues: Queues, metrics: Arc<Metrics>, door: Door) -> Self {
        Self { queues, metrics, door, drained: true }
    }

    /// On a store that no daemon has open: what is accepted waits for the next start.
    pub fn stopped(queues: Queues, metrics: Arc<Metrics>, door: Door) -> Self {
        Self { queues, metrics, door, drained: false }
    }

    /// Takes the lines from number `first_line` on.
    ///
    /// # Errors
    /// If the store has failed; then nobody knows what of the chunk is on disk.
    pub async fn take(&self, first_line: u64, lines: &[String]) -> Result<Answer, QueueError> {
        if self.drained && self.queues.accounting().queued.observed >= OBSERVED_ITEMS_MAX {
            return Ok(Answer::Wait(Wait::Backlog));
        }
        let began = std::time::Instant::now();
        let (mut fit, mut refused) = (Vec::with_capacity(lines.len()), Vec::new());
        for (number, line) in (first_line..).zip(lines) {
            match self.door.judge(line) {
                Ok(line) => fit.extend(line),
                Err(refusal) => refused.push((number, refusal)),
            }
        }
        if let Some(wait) = self.paused(&fit) {
            return Ok(Answer::Wait(wait));
        }
        let accepted = fit.len() as u64;
        match self.accept(fit).await {
            Ok(()) => {}
            Err(QueueError::Store(StoreError::Full(pause))) => {
                return Ok(Answer::Wait(Wait::Store(pause)));
            }
            Err(error) => return Err(error),
        }
        self.metrics.stage_seconds[Stage::Ingest].record(began.elapsed().as_secs_f64());
        let counted = &self.metrics.observations[Source::File];
        counted[ObservationOutcome::Accepted].increment(accepted);
        counted[ObservationOutcome::Refused].increment(refused.len() as u64);
        Ok(Answer::Taken { refused })
    }

    /// The pause that a line's lane is under.
    fn paused(&self, lines: &[Line]) -> Option<Wait> {
        lines.iter().find_map(|line| {
            let pause = self.queues.lane(&line.lane).ingest_paused()?;
            let reason = pause.reason.as_str().to_string();
            Some(Wait::Operator { lane: line.lane.clone(), reason })
        })
    }

    async fn accept(&self, lines: Vec<Line>) -> Result<(), QueueError> {
        let mut lanes = BTreeMap::<Lane, Vec<AcceptedNode>>::new();
        for line in lines {
            let read = self.queues.next_read(&line.lane).await?;
            let lane = line.lane.clone();
            lanes.entry(lane).or_default().push(self.accepted(line, read));
        }
        self.queues.accept_all(lanes.into_iter().collect()).await
    }

    fn accepted(&self, line: Line, read: ReadNumber) -> AcceptedNode {
        let Line { lane: _, node, patch_state, node_info, patches: given } = line;
        let (list, patches) = match given {
            None => (None, Vec::new()),
            Some(mut given) => {
                let total = given.len();
                given.truncate(details::PATCHES_KEPT_MAX);
                let (list, chunks) = super::patch_list(read, &given, total);
                (Some(list), chunks)
            }
        };
        let observation = Observation {
            node: node.as_str().into(),
            read,
            read_at: self.queues.clock().now(),
            source: Source::File,
            compliance: None,
            patch_state: Some(patch_state),
            node_info,
            patches: list,
            gone: None,
        };
        AcceptedNode { observation, seen: None, patches }
    }
}

#[cfg(test)]
mod tests;
