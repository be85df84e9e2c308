//! Ingest: one task per lane that sweeps the lane's fleet, again and again.
//!
//! A sweep begins a poll interval (jittered) after the last one *ended*; hourly where there are
//! no nodes; sooner, backing off, after one that failed. While the store is full nothing is
//! accepted: SSM keeps what is there. While an operator has paused ingest no sweep begins, and one
//! that runs ends before its next request. A dormant lane isn't swept.
//!
//! - [`sweep`]: one complete read of the fleet.
//! - [`change`]: which nodes are worth a closer look (pure); [`look`]: that look.
//! - [`gone`]: which nodes are gone, after a sweep; in between, which aren't reported any more.
//! - [`associations`]: what scans by association have found.
//! - [`reads`]: requests at the lane's pace, tried again.
//! - [`file`]: lines that somebody hands in, without a sweep.
//! - [`event`]: nodes that something is known to have happened to, between two sweeps.
//!
//! Deliberately doesn't know: what becomes of what it accepts.

mod associations;
mod change;
mod error;
pub mod event;
pub mod file;
pub mod gone;
mod look;
mod reads;
mod sweep;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use error::{IngestError, Skipped};
pub use gone::{GoneGate, GoneReport, GoneWatch};
pub use reads::LaneReads;
pub use sweep::SweepReport;

use self::{event::Awaited, gone::Presence};
use super::backoff::LaneBackoff;
use crate::{
    aws::{AwsError, Fault, HoldReason, patch_digest},
    metrics::{LaneMetrics, Metrics},
    queue::{QueueError, Queues, details},
    record::{Lane, PatchDetail, ReadNumber, Severity, UnixMillis, observation::PatchList},
};

/// A lane without nodes is looked at hourly.
const EMPTY_INTERVAL: Duration = Duration::from_secs(3_600);
/// A lane that may not be read is tried this often.
const HELD_INTERVAL: Duration = Duration::from_secs(60);
/// How often a full store is looked at again.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);
/// Share of the poll interval by which it is drawn longer or shorter.
const JITTER: f64 = 0.1;

/// How a lane is swept; checked by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first sweep begins within this: not all lanes at once.
    pub start_spread: Duration,
    pub poll_interval: Duration,
    /// Whether the patches of non-compliant nodes are read.
    pub patch_details: bool,
    pub refresh_after: Duration,
    /// Fingerprint of the finding policy: when it changes, every node is told again.
    pub policy: u64,
}

/// What is known of a lane's sweeps.
#[derive(Clone, Debug, Default)]
pub struct SweepStatus {
    /// Complete sweeps since the start.
    pub complete: u64,
    pub last_complete_at: Option<UnixMillis>,
    pub last_report: SweepReport,
    /// What the last complete sweep led to.
    pub gone: GoneReport,
    /// Why the last sweep ended early, if it did.
    pub failure: Option<String>,
    /// Time alone won't mend that: a person must, or the lane is passed over until the next sweep.
    pub stuck: bool,
    /// No sweep runs, since an operator has paused ingest.
    pub paused: bool,
    /// Until the next sweep, as last drawn.
    pub next_interval: Duration,
}

/// What a lane's task is made of.
pub struct LaneIngest {
    pub reads: Arc<LaneReads>,
    pub settings: Settings,
    pub gone: GoneWatch,
    /// Sweeps at once when notified.
    pub trigger: Arc<Notify>,
    /// Nodes that events have left to a sweep.
    pub awaited: Arc<Awaited>,
    pub status: watch::Sender<SweepStatus>,
}

impl LaneIngest {
    /// Sweeps until shutdown or until the store has failed.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let lane = self.reads.lane().clone();
        let gauges = self.metrics().lane(&lane);
        let mut backoff = LaneBackoff::default();
        let state = self.queues().lane(&lane);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = self.trigger.notified() => {}
            () = tokio::time::sleep(self.settings.start_spread.mul_f64(fastrand::f64())) => {}
        }
        loop {
            self.status.send_modify(|status| status.paused = state.ingest_paused().is_some());
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = state.ingest_resumed() => {}
            }
            self.status.send_modify(|status| status.paused = false);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.reads.session().awake() => {}
            }
            let swept = tokio::select! {
                // A sweep that is cut keeps the pages that it accepted.
                () = shutdown.cancelled() => return Ok(()),
                // Boxed: most lanes are idle most of the time, and it is large.
                swept = Box::pin(self.sweep()) => swept,
            };
            let wait = match swept {
                Ok(report) => {
                    backoff.reset();
                    self.interval_after(&report)
                }
                Err(IngestError::Queue(error)) if error.is_fatal() => return Err(error),
                Err(IngestError::PausedByOperator) => continue,
                Err(error) => {
                    let wait = self.wait_after(&error, &mut backoff);
                    Box::pin(self.failed(&lane, &error)).await;
                    wait
                }
            };
            gauges.poll_interval_seconds.set(wait.as_secs_f64());
            self.status.send_modify(|status| status.next_interval = wait);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.trigger.notified() => {}
                () = state.observe.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if let Some(ended) = self.wait_for_room(&shutdown).await? {
                return Ok(ended);
            }
        }
    }

    fn queues(&self) -> &Queues {
        self.reads.queues()
    }

    fn metrics(&self) -> &Metrics {
        self.reads.metrics()
    }

    async fn sweep(&mut self) -> Result<SweepReport, IngestError> {
        let began = Instant::now();
        let mut met = Presence::default();
        self.awaited.begin();
        let sweep = sweep::Sweep::new(&self.reads, &self.settings, &mut met, &self.awaited);
        let swept = sweep.run().await;
        self.awaited.end(swept.is_ok());
        let report = match swept {
            Ok(report) => report,
            Err(error) => {
                self.gone.after_part(&self.reads, &met).await?;
                return Err(error);
            }
        };
        self.metrics().sweep_seconds.record(began.elapsed().as_secs_f64());
        // Boxed: a lane's task is to stay small, and most sweeps find nobody missing.
        let gone = Box::pin(self.gone.after_all(&self.reads, Arc::new(met))).await?;
        let lane = self.reads.lane();
        self.complete(lane, &report, &gone, &self.metrics().lane(lane));
        Ok(report)
    }

    fn complete(&self, lane: &Lane, report: &SweepReport, gone: &GoneReport, gauges: &LaneMetrics) {
        let now = self.queues().clock().now();
        #[allow(clippy::cast_precision_loss)] // milliseconds of this century are below 2^52
        gauges.last_complete_sweep_timestamp_seconds.set(now.0 as f64 / 1000.0);
        self.status.send_modify(|status| {
            if let Some(failure) = status.failure.take() {
                tracing::info!(%lane, after = failure, "sweeps are complete again");
            }
            status.stuck = false;
            status.complete += 1;
            status.last_complete_at = Some(now);
            status.last_report = *report;
            status.gone = *gone;
        });
        tracing::debug!(%lane, ?report, ?gone, "sweep complete");
    }

    async fn failed(&self, lane: &Lane, error: &IngestError) {
        let text = error.to_string();
        let (news, changed) = {
            let before = &self.status.borrow().failure;
            (before.is_none(), before.as_ref() != Some(&text))
        };
        let is_held = matches!(error, IngestError::Aws(AwsError { fault: Fault::Held { .. }, .. }));
        self.status.send_modify(|status| {
            status.failure = Some(text.clone());
            status.stuck = is_held || matches!(error, IngestError::Skipped(_));
        });
        if news {
            tracing::warn!(%lane, error = text, "a sweep ended early: what it accepted is kept, it is begun anew");
        }
        let IngestError::Aws(AwsError { fault: Fault::Held { reason, .. }, .. }) = error else {
            return;
        };
        self.reads.session().renew().await;
        if *reason == HoldReason::RegionOff && changed {
            self.reads.session().doubt();
            self.queues().lane(lane).deliver.notify_one();
        }
    }

    fn interval_after(&self, report: &SweepReport) -> Duration {
        let interval = self.settings.poll_interval;
        let state = self.queues().lane(self.reads.lane());
        let is_open = Severity::ALL.into_iter().any(|it| state.open_findings(it) > 0);
        // While findings are open, no nodes at all is too strange to be left so for long.
        let is_empty = report.nodes == 0 && !is_open;
        let interval = if is_empty { interval.max(EMPTY_INTERVAL) } else { interval };
        interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
    }

    fn wait_after(&self, error: &IngestError, backoff: &mut LaneBackoff) -> Duration {
        let wait = match error {
            IngestError::Aws(AwsError { fault: Fault::Held { .. }, .. }) => HELD_INTERVAL,
            IngestError::Paused(_) => PAUSED_INTERVAL,
            IngestError::Skipped(_) => self.settings.poll_interval,
            IngestError::Aws(_) | IngestError::PausedByOperator | IngestError::Queue(_) => {
                backoff.next_delay()
            }
        };
        wait.min(self.settings.poll_interval)
    }

    /// While the store is full there is no point in asking SSM. `Some` if shutdown came first.
    async fn wait_for_room(&self, shutdown: &CancellationToken) -> Result<Option<()>, QueueError> {
        loop {
            if self.queues().has_room().await? {
                return Ok(None);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Some(())),
                () = tokio::time::sleep(PAUSED_INTERVAL) => {}
            }
        }
    }
}

/// The list that `read` gave, cut for the store: of `total` patches, `kept` are.
fn patch_list(read: ReadNumber, kept: &[PatchDetail], total: usize) -> (PatchList, Vec<Vec<u8>>) {
    let chunks = details::chunks(kept);
    let list = PatchList {
        read,
        digest: patch_digest(kept),
        kept: u32::try_from(kept.len()).unwrap_or(u32::MAX),
        total: u32::try_from(total).unwrap_or(u32::MAX),
        chunks: u16::try_from(chunks.len()).unwrap_or(u16::MAX),
    };
    (list, chunks)
}
