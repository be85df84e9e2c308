//! One complete read of a lane's fleet.
//!
//! 1. `DescribeInstanceInformation`, all pages: what each node is.
//! 2. `ListResourceComplianceSummaries`, page by page: the service's verdict on each node. For
//!    the nodes of a page that pass change detection: `DescribeInstancePatchStates`; for the
//!    non-compliant ones among them `DescribeInstancePatches`. Then the page is accepted.
//!
//! Guarantees: a page is accepted whole, durably, before the next is read; a sweep that fails
//! half-way keeps what it accepted and proves nothing about nodes that it did not see; a node whose
//! details SSM can't give is skipped, and stands in no other's way: the sweep then isn't complete,
//! and the next one reads the node again.

use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

use super::{
    Settings,
    change::{self, Yardstick},
    reads::{Read, ReadError, Reads},
};
use crate::{
    aws::{
        AwsError, Fault,
        ssm::{ComplianceRow, PATCH_STATE_NODES_MAX},
    },
    failpoint::{self, FailPoint},
    metrics::{Metrics, NodeVerdict, ObservationOutcome, SsmOperation},
    queue::{AcceptedNode, PAGE_ITEMS_MAX, QueueError, Queues, Seen, details},
    record::{
        Clock, Lane, NodeId, Observation, PatchDetail, ReadNumber, Source, Stage, Text, UnixMillis,
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

/// After so many nodes in a row it isn't the nodes.
const SKIPPED_IN_A_ROW_MAX: usize = 5;

/// Why a sweep isn't complete.
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
    /// It has read all nodes but these.
    #[error("{0}")]
    Skipped(Box<Skipped>),
}

impl From<ReadError> for SweepError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Aws(error) => Self::Aws(error),
            ReadError::Paused => Self::PausedByOperator,
            ReadError::Queue(error) => error.into(),
        }
    }
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
    lane: &'a Lane,
    reads: Reads<'a>,
    queues: &'a Queues,
    metrics: &'a Arc<Metrics>,
    settings: &'a Settings,
    skipped: Option<Skipped>,
    skipped_in_a_row: usize,
}

/// Nodes that SSM has failed to tell of, while it told of others.
#[derive(Debug)]
pub struct Skipped {
    nodes: usize,
    first: Text<128>,
    error: AwsError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, first, error } = self;
        write!(f, "{nodes} of its nodes could not be read, {first} first: {error}")
    }
}

impl<'a> Sweep<'a> {
    pub(super) fn new(reads: Reads<'a>, settings: &'a Settings) -> Self {
        let Reads { lane, queues, metrics, .. } = reads;
        Self { lane, reads, queues, metrics, settings, skipped: None, skipped_in_a_row: 0 }
    }

    /// Reads the whole fleet once.
    pub async fn run(mut self) -> Result<SweepReport, SweepError> {
        let mut nodes = self.nodes().await?;
        let mut report = SweepReport::default();
        let mut judged = 0;
        let mut from = None;
        loop {
            let Read { number: read, page } = self
                .reads
                .ask(SsmOperation::ListResourceComplianceSummaries, |ssm| {
                    let from = from.clone();
                    async move { ssm.compliance_summaries(from).await }
                })
                .await?;
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
        match self.skipped {
            None => Ok(report),
            Some(skipped) => Err(SweepError::Skipped(Box::new(skipped))),
        }
    }

    fn clock(&self) -> &Clock {
        self.queues.clock()
    }

    /// What each managed node is, by id.
    async fn nodes(&mut self) -> Result<NodeDirectory, SweepError> {
        let mut nodes = NodeDirectory::default();
        let mut from = None;
        loop {
            let Read { page, .. } = self
                .reads
                .ask(SsmOperation::DescribeInstanceInformation, |ssm| {
                    let from = from.clone();
                    async move { ssm.node_information(from).await }
                })
                .await?;
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
            report.accepted += self.take_changed(group, read, read_at).await?;
        }
        Ok(())
    }

    async fn take_changed(
        &mut self,
        group: Vec<Changed>,
        read: ReadNumber,
        read_at: UnixMillis,
    ) -> Result<usize, SweepError> {
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
                Err(SweepError::Aws(error)) if self.may_skip(&error) => {
                    states.remove(node.as_str());
                    self.skip(node, error);
                    continue;
                }
                listed => listed?,
            };
            if list.is_some() {
                self.skipped_in_a_row = 0;
            }
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
        let nodes = accepted.len();
        let count = nodes as u64;
        let began = Instant::now();
        let outcome = self.queues.accept(self.lane, accepted).await;
        self.metrics.stage_seconds[Stage::Ingest].record(began.elapsed().as_secs_f64());
        let counted = &self.metrics.observations[Source::Sweep];
        match outcome {
            Ok(()) => {
                failpoint::reach(FailPoint::ObservationsCommitted);
                counted[ObservationOutcome::Accepted].increment(count);
                Ok(nodes)
            }
            Err(error) => {
                counted[ObservationOutcome::Refused].increment(count);
                Err(error.into())
            }
        }
    }

    /// Whether the sweep goes on without a node that met this: not if SSM as a whole is out.
    fn may_skip(&self, error: &AwsError) -> bool {
        matches!(error.fault, Fault::Unavailable { .. })
            && self.skipped_in_a_row < SKIPPED_IN_A_ROW_MAX
    }

    fn skip(&mut self, node: Text<128>, error: AwsError) {
        self.skipped_in_a_row += 1;
        match &mut self.skipped {
            Some(skipped) => skipped.nodes += 1,
            None => self.skipped = Some(Skipped { nodes: 1, first: node, error }),
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
            let Read { page, .. } = self
                .reads
                .ask(SsmOperation::DescribeInstancePatchStates, |ssm| {
                    let from = from.clone();
                    async move { ssm.patch_states(ids, from).await }
                })
                .await?;
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
            let Read { number, page } = self
                .reads
                .ask(SsmOperation::DescribeInstancePatches, |ssm| {
                    let (node, from) = (node.clone(), from.clone());
                    async move { ssm.patches(&node, from).await }
                })
                .await?;
            let read = *first.get_or_insert(number);
            total += page.items.len();
            let room = details::PATCHES_KEPT_MAX.saturating_sub(patches.len());
            patches.extend(page.items.into_iter().take(room));
            from = page.next;
            if from.is_none() {
                let (list, chunks) = super::patch_list(read, &patches, total);
                return Ok((Some(list), chunks));
            }
        }
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
