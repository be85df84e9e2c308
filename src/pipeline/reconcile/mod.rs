//! Reconcile: one task per lane that compares what its hub holds with the ledger, now and then and
//! when asked, and looks after the findings that people have resolved.
//!
//! - [`plan`]: where the two differ, and what to do about it (pure).
//! - [`reads`]: asking the hub.
//!
//! Guarantees: what is repaired goes through the outbox; nothing is resolved because something
//! isn't known; a hub that doesn't answer delays neither deliveries nor sweeps, since this task
//! shares nothing with them but the lane's quota of reading; when a lane is due again survives
//! restarts.
//!
//! Deliberately doesn't know: how findings are sent, and other lanes.

mod plan;
mod reads;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use plan::{Difference, Kind};

use super::{held, session::LaneSession};
use crate::{
    aws::{
        AwsError, Fault, HoldReason,
        security_hub::{HubQuery, HubWorkflow},
    },
    metrics::{DifferenceKind, Metrics, ObservationOutcome, ReconcileOutcome},
    queue::{LaneCare as Care, LookedAt, QueueError, Queues, ReadBack, Repaired},
    record::{Finding, Lane, Source, UnixMillis},
};

/// `GetFindings` is eventually consistent: it may show older versions for a while.
const SETTLES_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How often the time of the next comparison is looked at: the clock may be moved.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A comparison that came to nothing is tried again after at most this.
const FAILED_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Share of the interval by which it is drawn longer or shorter.
const JITTER: f64 = 0.1;
/// Findings that become due to be opened again while a sweep goes on are looked at together.
const DUE_TOGETHER: Duration = Duration::from_secs(2);
/// Requests that wait for a lane's task.
const REQUESTS_MAX: usize = 8;

/// How a lane's hub is looked after; checked by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub interval: Duration,
    /// Whether differences are repaired when the comparison comes by itself.
    pub repair: bool,
    /// Where findings go, if not to the lane's default product.
    pub product_arn: Option<String>,
    /// Whether each node has one finding: else there is nothing to compare.
    pub one_per_node: bool,
    /// Whether findings are ever resolved: else none can be opened again.
    pub resolves: bool,
}

/// Why a comparison has come to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the hub took longer than {} min to say what it holds", reads::READ_MAX.as_secs() / 60)]
    TooSlow,
    #[error("the lane is being read back from its hub, which does the same: try again afterwards")]
    BeingReadBack,
    #[error(
        "with finding.identity = \"operation\" each run has a finding of its own, so there is \
         nothing to compare"
    )]
    OnePerRun,
    #[error("the lane is dormant: its hub or its Region is off")]
    Dormant,
    #[error("the lane's task has ended")]
    Stopped,
}

/// What a comparison has come to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Findings of ours that the hub holds.
    pub held: usize,
    pub compared: usize,
    /// Nodes left alone, since something of them is on its way or is recent.
    pub moving: usize,
    pub differences: Vec<Difference>,
    pub repaired: Repaired,
    pub people: LookedAt,
}

impl Report {
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.differences.iter().filter(|difference| difference.kind == kind).count()
    }
}

/// What is known of a lane's comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileStatus {
    pub last_complete_at: Option<UnixMillis>,
    /// What the last complete one found, and left as it was.
    pub differences: u64,
    pub unrepaired: u64,
    /// Why the last one failed, if it did.
    pub failure: Option<String>,
}

struct Request {
    repair: bool,
    answer: oneshot::Sender<Result<Report, ReconcileError>>,
}

/// Asks a lane's task for a comparison.
#[derive(Clone)]
pub struct ReconcileHandle(mpsc::Sender<Request>);

/// What a lane's task hears requests by.
pub struct Requests(mpsc::Receiver<Request>);

/// Both ends of a lane's requests.
#[must_use]
pub fn requests() -> (ReconcileHandle, Requests) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (ReconcileHandle(sender), Requests(receiver))
}

impl ReconcileHandle {
    /// Compares now; with `repair`, repairs what differs.
    pub async fn reconcile(&self, repair: bool) -> Result<Report, ReconcileError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { repair, answer };
        self.0.send(request).await.map_err(|_| ReconcileError::Stopped)?;
        answered.await.map_err(|_| ReconcileError::Stopped)?
    }
}

/// What a lane's task is made of.
pub struct LaneReconcile {
    pub session: Arc<LaneSession>,
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub requests: Requests,
    /// Has the lane swept at once, when nodes are to be observed anew.
    pub sweep: Arc<Notify>,
    pub status: watch::Sender<ReconcileStatus>,
}

impl LaneReconcile {
    /// Compares until shutdown or until the store has failed.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut care = self.begin().await?;
        let state = self.queues.lane(self.lane());
        loop {
            let wait = self.wait(&mut care).await?;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(Request { repair, answer }) = self.requests.0.recv() => {
                    let result = tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        result = self.reconcile(repair) => result,
                    };
                    self.note(&mut care, &result).await?;
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
                () = state.reopening_is_due.notified() => {
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        looked = self.look_after_due() => self.note_look(looked)?,
                    }
                }
                () = tokio::time::sleep(wait), if self.settings.one_per_node => {
                    if !self.is_due(&care) {
                        continue;
                    }
                    let result = tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        result = self.reconcile(self.settings.repair) => result,
                    };
                    self.note(&mut care, &result).await?;
                }
            }
        }
    }

    fn lane(&self) -> &Lane {
        self.session.lane()
    }

    fn product_arn(&self) -> String {
        let configured = self.settings.product_arn.clone();
        configured.unwrap_or_else(|| self.lane().default_product_arn())
    }

    async fn begin(&self) -> Result<Care, QueueError> {
        let lane = self.lane();
        let resumed = self.queues.resume_reopenings(lane).await?;
        if resumed > 0 {
            tracing::warn!(%lane, findings = resumed, "findings that were being closed to be opened again had nothing waiting: they are opened again");
        }
        let mut care = self.queues.lane_care(lane).await?;
        if care.note_product(&self.product_arn()) {
            self.queues.put_lane_care(lane, care.clone()).await?;
        }
        self.show(&care, None);
        Ok(care)
    }

    /// Until the next look at whether a comparison is due.
    async fn wait(&self, care: &mut Care) -> Result<Duration, QueueError> {
        let (now, interval) = (self.queues.clock().now(), self.settings.interval);
        // Further off than any that was drawn: the clock was moved, or the interval shortened.
        let horizon = now.plus(interval.mul_f64(1.0 + JITTER));
        let due = if let Some(due) = care.due.filter(|due| *due <= horizon) {
            due
        } else {
            // Lanes that start together aren't compared together.
            let due = now.plus(interval.mul_f64(fastrand::f64()));
            care.due = Some(due);
            self.queues.put_lane_care(self.lane(), care.clone()).await?;
            due
        };
        Ok(due.since(now).min(LOOK_AGAIN))
    }

    fn is_due(&self, care: &Care) -> bool {
        care.due.is_some_and(|due| due <= self.queues.clock().now())
    }

    /// Notes what a comparison came to, and when the next is due.
    async fn note(
        &self,
        care: &mut Care,
        result: &Result<Report, ReconcileError>,
    ) -> Result<(), QueueError> {
        let (now, interval) = (self.queues.clock().now(), self.settings.interval);
        let failure = match result {
            Ok(report) => {
                self.metrics.reconciles[ReconcileOutcome::Complete].increment(1);
                let drawn = interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64());
                care.due = Some(now.plus(drawn));
                care.reconciled_at = Some(now);
                care.differences = report.differences.len() as u64;
                let left = report.differences.len().saturating_sub(report.repaired.done);
                care.unrepaired = left as u64;
                self.tell(report);
                None
            }
            Err(ReconcileError::Queue(error)) if error.is_fatal() => return Err(error.clone()),
            Err(ReconcileError::OnePerRun) => return Ok(()),
            Err(ReconcileError::Dormant | ReconcileError::BeingReadBack) => {
                // Nothing has failed: it is looked at again soon.
                let wait = interval.min(FAILED_WAIT_MAX).mul_f64(0.5 + 0.5 * fastrand::f64());
                care.due = Some(now.plus(wait));
                None
            }
            Err(error) => {
                self.metrics.reconciles[ReconcileOutcome::Failed].increment(1);
                let wait = interval.min(FAILED_WAIT_MAX).mul_f64(0.5 + 0.5 * fastrand::f64());
                care.due = Some(now.plus(wait));
                let text = error.to_string();
                if self.status.borrow().failure.is_none() {
                    tracing::warn!(lane = %self.lane(), error = text, "the hub could not be compared with the ledger: it is tried again");
                }
                Some(text)
            }
        };
        self.queues.put_lane_care(self.lane(), care.clone()).await?;
        self.show(care, failure);
        Ok(())
    }

    fn show(&self, care: &Care, failure: Option<String>) {
        self.status.send_replace(ReconcileStatus {
            last_complete_at: care.reconciled_at,
            differences: care.differences,
            unrepaired: care.unrepaired,
            failure,
        });
    }

    fn tell(&self, report: &Report) {
        let [missing, orphaned, drifted, duplicate] = Kind::ALL.map(|kind| report.count(kind));
        if report.differences.is_empty() {
            tracing::debug!(lane = %self.lane(), compared = report.compared, "the hub holds what the ledger says");
        } else {
            tracing::warn!(
                lane = %self.lane(), missing, orphaned, drifted, duplicate,
                repaired = report.repaired.done, "the hub didn't hold what the ledger says"
            );
        }
    }

    async fn reconcile(&self, repair: bool) -> Result<Report, ReconcileError> {
        if !self.settings.one_per_node {
            return Err(ReconcileError::OnePerRun);
        }
        if self.session.is_dormant() {
            return Err(ReconcileError::Dormant);
        }
        let lane = self.lane();
        let read_back = self.queues.read_back_state(lane).await?;
        if matches!(read_back, ReadBack::Pending | ReadBack::Releasing { .. }) {
            return Err(ReconcileError::BeingReadBack);
        }
        let people = self.look_after_people().await?;
        let asked_at = self.queues.clock().now();
        let read = tokio::time::timeout(reads::READ_MAX, self.read_held()).await;
        let held = read.map_err(|_| ReconcileError::TooSlow)??;
        let told = self.queues.told(lane, asked_at, SETTLES_WITHIN).await?;
        let held_count = held.len();
        let plan::Plan { compared, moving, differences } =
            plan::plan(lane, &self.product_arn(), held, told);
        for difference in &differences {
            self.metrics.reconcile_differences[label(difference.kind)].increment(1);
        }
        let repaired = if repair { self.repair(&differences).await? } else { Repaired::default() };
        Ok(Report { held: held_count, compared, moving, differences, repaired, people })
    }

    /// All findings of ours, under every name that they may have been sent under.
    async fn read_held(&self) -> Result<Vec<Finding>, ReconcileError> {
        let lane = self.lane();
        let care = self.queues.lane_care(lane).await?;
        let mut products: Vec<String> = care.products.iter().map(ToString::to_string).collect();
        for product in [lane.default_product_arn(), self.product_arn()] {
            if !products.contains(&product) {
                products.push(product);
            }
        }
        let mut held = BTreeMap::new();
        for product_arn in products {
            for id_prefix in [held::node_id_prefix(lane), held::operation_id_prefix(lane)] {
                let query = HubQuery::Ours { product_arn: product_arn.clone(), id_prefix };
                reads::read_all(&self.session, &query, |record| {
                    let name = (record.id.clone(), record.product_arn.clone());
                    if let Some(finding) = held::finding(lane, record) {
                        // Pages move while they are read: one that comes twice is one.
                        held.insert(name, finding);
                    }
                })
                .await?;
            }
        }
        Ok(held.into_values().collect())
    }

    async fn repair(&self, differences: &[Difference]) -> Result<Repaired, ReconcileError> {
        let mut repaired = Repaired::default();
        for kind in Kind::ALL {
            let of_kind = differences.iter().filter(|difference| difference.kind == kind);
            let repairs: Vec<_> =
                of_kind.map(|it| (it.finding.clone(), it.repair.clone())).collect();
            let done = self.queues.repair(self.lane(), repairs).await?;
            self.metrics.reconcile_repairs[label(kind)].increment(done.done as u64);
            repaired.done += done.done;
            repaired.sent += done.sent;
        }
        self.metrics.observations[Source::Derived][ObservationOutcome::Accepted]
            .increment(repaired.sent as u64);
        if repaired.done > 0 {
            self.sweep.notify_one();
        }
        Ok(repaired)
    }

    /// Finds out which findings somebody has resolved, and goes on with those.
    async fn look_after_people(&self) -> Result<LookedAt, ReconcileError> {
        if !self.settings.resolves || !self.settings.one_per_node {
            return Ok(LookedAt::default());
        }
        let lane = self.lane();
        let query = HubQuery::OursResolvedByPeople {
            product_arn: self.product_arn(),
            id_prefix: held::node_id_prefix(lane),
        };
        let mut resolved = HashSet::new();
        let read = reads::read_all(&self.session, &query, |record| {
            let is_resolved = record.workflow == HubWorkflow::Resolved && record.state.is_open();
            if let Some(finding) = held::finding(lane, record).filter(|_| is_resolved) {
                resolved.insert(finding.node.to_string());
            }
        });
        tokio::time::timeout(reads::READ_MAX, read)
            .await
            .map_err(|_| ReconcileError::TooSlow)??;
        let looked_at = self.queues.resolved_by_people(lane, resolved).await?;
        if looked_at.closing > 0 {
            tracing::info!(%lane, findings = looked_at.closing, "findings that somebody has resolved are opened again: a newer scan still finds their nodes non-compliant");
        }
        if looked_at.watched + looked_at.closing > 0 {
            self.sweep.notify_one();
        }
        Ok(looked_at)
    }

    /// A newer scan was judged: the hub is asked once more whether the findings are still resolved.
    async fn look_after_due(&self) -> Result<LookedAt, ReconcileError> {
        tokio::time::sleep(DUE_TOGETHER).await;
        self.look_after_people().await
    }

    fn note_look(&self, looked: Result<LookedAt, ReconcileError>) -> Result<(), QueueError> {
        match looked {
            Ok(_) => Ok(()),
            Err(ReconcileError::Queue(error)) if error.is_fatal() => Err(error),
            Err(error) => {
                // They stay due: the next comparison looks at them.
                tracing::debug!(lane = %self.lane(), %error, "findings that somebody has resolved could not be looked at");
                Ok(())
            }
        }
    }
}

impl ReconcileError {
    /// Whether AWS forbids it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::Aws(AwsError { fault: Fault::Held { reason: HoldReason::AccessDenied, .. }, .. })
        )
    }
}

fn label(kind: Kind) -> DifferenceKind {
    match kind {
        Kind::Missing => DifferenceKind::Missing,
        Kind::Orphaned => DifferenceKind::Orphaned,
        Kind::Drifted => DifferenceKind::Drifted,
        Kind::Duplicate => DifferenceKind::Duplicate,
    }
}
