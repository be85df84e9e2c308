//! One complete read of a lane's fleet.
//!
//! 1. `DescribeInstanceInformation`, all pages: what each node is.
//! 2. `ListResourceComplianceSummaries`, page by page: the service's verdict on each node. For
//!    the nodes of a page that pass change detection: `DescribeInstancePatchStates`; for the
//!    non-compliant ones among them `DescribeInstancePatches`. Then the page is accepted.
//!
//! Guarantees: a page is accepted whole, durably, before the next is read; a sweep that fails
//! half-way keeps what it accepted and proves nothing about nodes that it did not see; each read
//! takes its number before its request goes out.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{
    Settings,
    change::{self, Yardstick},
};
use crate::{
    aws::{
        AwsError, Fault, LaneClients, Page,
        ssm::{ComplianceRow, PATCH_STATE_NODES_MAX},
    },
    failpoint::{self, FailPoint},
    metrics::{Metrics, NodeVerdict, ObservationOutcome, SsmOperation, SsmOutcome},
    pipeline::limiter::Limiter,
    queue::{AcceptedNode, PAGE_ITEMS_MAX, QueueError, Queues, Seen, details},
    record::{
        Clock, Lane, NodeId, Observation, PatchDetail, ReadNumber, Source, Stage, UnixMillis,
        observation::{NodeInfo, PatchList, RawCompliance, RawPatchState},
    },
    store::{StoreError, codec},
};

/// Nodes of one lane that a sweep looks at; SSM's own default quota is 2,400 (doc: Systems
/// Manager endpoints and quotas).
const NODES_MAX: usize = 200_000;
/// Older reports aren't believed any more: inventory data expire after 30 days (doc: Systems
/// Manager quotas).
const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error("ingest is paused: {0}")]
    Paused(crate::store::Pause),
    #[error("ingest is paused by an operator")]
    PausedByOperator,
    #[error(transparent)]
    Queue(QueueError),
}

impl From<QueueError> for SweepError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(StoreError::Full(pause)) => Self::Paused(pause),
            other => Self::Queue(other),
        }
    }
}

/// What a complete sweep saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Nodes that SSM manages or has a verdict on.
    pub nodes: usize,
    pub accepted: usize,
    pub unchanged: usize,
    pub non_compliant: usize,
    pub compliant: usize,
    pub never_scanned: usize,
    pub stale: usize,
}

/// What each managed node is, packed: a sweep holds the whole lane's until its summaries come.
#[derive(Default)]
struct NodeDirectory(HashMap<Box<str>, Packed>);

struct Packed(Box<[u8]>);

impl NodeDirectory {
    fn insert(&mut self, node: &str, info: &NodeInfo) {
        self.0.insert(node.into(), Packed(codec::encode(0, info).into_boxed_slice()));
    }

    /// Takes a node out.
    fn take(&mut self, node: &str) -> Option<Packed> {
        self.0.remove(node)
    }
}

impl Packed {
    fn unpack(&self) -> Option<NodeInfo> {
        codec::decode(&self.0).ok().map(|(_, info)| info)
    }
}

/// A node that passed change detection.
struct Changed {
    row: ComplianceRow,
    seen: Seen,
    info: Option<Packed>,
}

/// What a sweep is made of.
pub struct Sweep<'a> {
    pub lane: &'a Lane,
    pub clients: LaneClients,
    pub queues: &'a Queues,
    pub metrics: &'a Arc<Metrics>,
    pub settings: &'a Settings,
    pub limiter: &'a mut Limiter,
}

impl Sweep<'_> {
    /// Reads the whole fleet once.
    pub async fn run(mut self) -> Result<SweepReport, SweepError> {
        let mut nodes = self.nodes().await?;
        let mut report = SweepReport::default();
        let mut judged = 0;
        let mut from = None;
        loop {
            let read = self.begin_read().await?;
            let sent_at = Instant::now();
            let answer = self.clients.ssm.compliance_summaries(from).await;
            let page =
                self.counted(SsmOperation::ListResourceComplianceSummaries, sent_at, answer)?;
            failpoint::reach(FailPoint::SweepPageRead);
            let read_at = self.clock().now();
            judged += page.items.len();
            self.take_page(page.items, read, read_at, &mut nodes, &mut report).await?;
            from = page.next;
            if from.is_none() || judged > NODES_MAX {
                break;
            }
        }
        // What no summary has taken out was never scanned.
        report.never_scanned = nodes.0.len();
        report.nodes = judged + report.never_scanned;
        self.show(&report);
        Ok(report)
    }

    fn clock(&self) -> &Clock {
        self.queues.clock()
    }

    /// What each managed node is, by id.
    async fn nodes(&mut self) -> Result<NodeDirectory, SweepError> {
        let mut nodes = NodeDirectory::default();
        let mut from = None;
        loop {
            self.begin_read().await?;
            let sent_at = Instant::now();
            let answer = self.clients.ssm.node_information(from).await;
            let page = self.counted(SsmOperation::DescribeInstanceInformation, sent_at, answer)?;
            for row in page.items {
                nodes.insert(row.node.as_str(), &row.info);
            }
            from = page.next;
            if from.is_none() || nodes.0.len() > NODES_MAX {
                return Ok(nodes);
            }
        }
    }

    /// Accepts what has changed in one page of summaries.
    async fn take_page(
        &mut self,
        rows: Vec<ComplianceRow>,
        read: ReadNumber,
        read_at: UnixMillis,
        nodes: &mut NodeDirectory,
        report: &mut SweepReport,
    ) -> Result<(), SweepError> {
        let yardstick = Yardstick {
            policy: self.settings.policy,
            refresh_after: self.settings.refresh_after,
            now: read_at,
        };
        let ids = rows.iter().map(|row| row.node.to_string()).collect();
        let before = self.queues.seen(self.lane, ids).await?;
        let mut changed = Vec::new();
        for (row, before) in rows.into_iter().zip(before) {
            tally(report, &row.compliance, read_at);
            let now = change::seen(&row.compliance, yardstick);
            let info = nodes.take(row.node.as_str());
            if change::passes(&now, before.as_ref(), yardstick) {
                changed.push(Changed { row, seen: now, info });
            } else {
                report.unchanged += 1;
            }
        }
        for group in chunks(changed) {
            report.accepted += group.len();
            self.take_changed(group, read, read_at).await?;
        }
        Ok(())
    }

    async fn take_changed(
        &mut self,
        group: Vec<Changed>,
        read: ReadNumber,
        read_at: UnixMillis,
    ) -> Result<(), SweepError> {
        let ids: Vec<NodeId> =
            group.iter().filter_map(|changed| changed.row.node.as_str().parse().ok()).collect();
        let mut states = self.patch_states(&ids).await?;
        let mut accepted = Vec::with_capacity(group.len());
        for Changed { row: ComplianceRow { node, compliance }, seen, info } in group {
            let mut seen = Some(seen);
            let non_compliant = seen.as_ref().is_some_and(|seen| seen.non_compliant);
            let (list, patches) = match self.patch_list(node.as_str(), non_compliant).await {
                Err(SweepError::Aws(error)) if matches!(error.fault, Fault::Refused { .. }) => {
                    tracing::warn!(lane = %self.lane, %node, %error, "the node's patches can't be read: it goes on without them and is read again");
                    seen = None;
                    (None, Vec::new())
                }
                listed => listed?,
            };
            let observation = Observation {
                patch_state: states.remove(node.as_str()),
                node_info: info.and_then(|info| info.unpack()),
                // The lowest of its reads: never taken for newer than its oldest part.
                read,
                read_at,
                source: Source::Sweep,
                compliance: Some(compliance),
                patches: list,
                gone: None,
                node,
            };
            accepted.push(AcceptedNode { observation, seen, patches });
        }
        // What SSM tells that nobody asked for makes no sense, but isn't swallowed either.
        accepted
            .extend(states.into_iter().map(|(node, state)| unasked(&node, state, read, read_at)));
        let count = accepted.len() as u64;
        let began = Instant::now();
        let outcome = self.queues.accept(self.lane, accepted).await;
        self.metrics.stage_seconds[Stage::Ingest].record(began.elapsed().as_secs_f64());
        let counted = &self.metrics.observations[Source::Sweep];
        match outcome {
            Ok(()) => {
                failpoint::reach(FailPoint::ObservationsCommitted);
                counted[ObservationOutcome::Accepted].increment(count);
                Ok(())
            }
            Err(error) => {
                counted[ObservationOutcome::Refused].increment(count);
                Err(error.into())
            }
        }
    }

    async fn patch_states(
        &mut self,
        ids: &[NodeId],
    ) -> Result<HashMap<String, RawPatchState>, SweepError> {
        let mut states = HashMap::new();
        if ids.is_empty() {
            return Ok(states);
        }
        let mut from = None;
        loop {
            self.begin_read().await?;
            let sent_at = Instant::now();
            let answer = self.clients.ssm.patch_states(ids, from).await;
            let page = self.counted(SsmOperation::DescribeInstancePatchStates, sent_at, answer)?;
            states.extend(page.items.into_iter().map(|row| (row.node.to_string(), row.state)));
            from = page.next;
            if from.is_none() {
                return Ok(states);
            }
        }
    }

    /// The patches that make a node non-compliant: the list's head, and its chunks.
    async fn patch_list(
        &mut self,
        node: &str,
        non_compliant: bool,
    ) -> Result<(Option<PatchList>, Vec<Vec<u8>>), SweepError> {
        if !non_compliant || !self.settings.patch_details {
            return Ok((None, Vec::new()));
        }
        let Ok(node) = node.parse::<NodeId>() else { return Ok((None, Vec::new())) };
        let mut patches: Vec<PatchDetail> = Vec::new();
        let mut total = 0_usize;
        let mut from = None;
        let mut first = None;
        loop {
            let read = self.begin_read().await?;
            first.get_or_insert(read);
            let sent_at = Instant::now();
            let answer = self.clients.ssm.patches(&node, from).await;
            let page = self.counted(SsmOperation::DescribeInstancePatches, sent_at, answer)?;
            total += page.items.len();
            let room = details::PATCHES_KEPT_MAX.saturating_sub(patches.len());
            patches.extend(page.items.into_iter().take(room));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let Some(read) = first else { return Ok((None, Vec::new())) };
        let (list, chunks) = super::patch_list(read, &patches, total);
        Ok((Some(list), chunks))
    }

    /// Waits for a token and takes a read number; the last chance to stop.
    async fn begin_read(&mut self) -> Result<ReadNumber, SweepError> {
        self.limiter.take().await;
        if self.queues.lane(self.lane).ingest_paused().is_some() {
            return Err(SweepError::PausedByOperator);
        }
        Ok(self.queues.next_read(self.lane).await?)
    }

    /// Counts a request, and slows down if it was throttled.
    fn counted<T>(
        &mut self,
        operation: SsmOperation,
        sent_at: Instant,
        answer: Result<Page<T>, AwsError>,
    ) -> Result<Page<T>, AwsError> {
        let outcome = match &answer {
            Ok(_) => SsmOutcome::Ok,
            Err(AwsError { fault: Fault::Throttled { .. }, .. }) => {
                self.limiter.throttled(sent_at, Instant::now());
                SsmOutcome::Throttled
            }
            Err(AwsError { fault: Fault::Held { .. }, .. }) => SsmOutcome::Denied,
            Err(_) => SsmOutcome::Failed,
        };
        self.metrics.ssm_requests[operation][outcome].increment(1);
        answer
    }

    fn show(&self, report: &SweepReport) {
        self.metrics.observations[Source::Sweep][ObservationOutcome::Unchanged]
            .increment(report.unchanged as u64);
        let lane = self.metrics.lane(self.lane);
        for (verdict, nodes) in [
            (NodeVerdict::NonCompliant, report.non_compliant),
            (NodeVerdict::Compliant, report.compliant),
            (NodeVerdict::NeverScanned, report.never_scanned),
            (NodeVerdict::Stale, report.stale),
        ] {
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            lane.nodes(verdict).set(nodes as f64);
        }
    }
}

fn tally(report: &mut SweepReport, compliance: &RawCompliance, now: UnixMillis) {
    let stale = compliance.execution_time.is_some_and(|at| now.since(at) > STALE_AFTER);
    match compliance.status.as_str() {
        _ if stale => report.stale += 1,
        "COMPLIANT" => report.compliant += 1,
        _ => report.non_compliant += 1,
    }
}

fn unasked(
    node: &str,
    state: RawPatchState,
    read: ReadNumber,
    read_at: UnixMillis,
) -> AcceptedNode {
    let observation = Observation {
        node: node.into(),
        read,
        read_at,
        source: Source::Sweep,
        compliance: None,
        patch_state: Some(state),
        node_info: None,
        patches: None,
        gone: None,
    };
    AcceptedNode { observation, seen: None, patches: Vec::new() }
}

/// A page holds at most 50 rows by AWS's word; whatever comes is cut to that.
fn chunks<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let size = PATCH_STATE_NODES_MAX.min(PAGE_ITEMS_MAX);
    let mut chunks = Vec::new();
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        chunks.push(items.by_ref().take(size).collect());
    }
    chunks
}
