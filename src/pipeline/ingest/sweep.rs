//! One complete read of a lane's fleet.
//!
//! 1. `DescribeInstanceInformation`, all pages: what each node is.
//! 2. What associations come to, if the lane has such as count: see `associations`.
//! 3. `ListResourceComplianceSummaries`, page by page: the service's verdict on each node. For
//!    the nodes of a page that pass change detection: `DescribeInstancePatchStates`; for the
//!    non-compliant ones among them `DescribeInstancePatches`. Then the page is accepted.
//! 4. Nodes that only associations have scanned, likewise.
//!
//! Guarantees: a page is accepted whole, durably, before the next is read; a sweep that fails
//! half-way keeps what it accepted and proves nothing about nodes that it did not see; a node whose
//! details SSM can't give is skipped, and stands in no other's way: the sweep then isn't complete,
//! and the next one reads the node again.

use std::collections::HashMap;

use super::{
    Settings,
    associations::Marks,
    change::{self, Yardstick},
    error::IngestError,
    event::Awaited,
    gone::Presence,
    look::{Candidate, GROUP_NODES_MAX, Look, Named},
    reads::{LaneReads, Read},
};
use crate::{
    aws::ssm::ComplianceRow,
    failpoint::{self, FailPoint},
    metrics::{NodeVerdict, ObservationOutcome, SsmOperation},
    queue::Seen,
    record::{
        Source, Text, UnixMillis,
        observation::{GoneReason, NodeInfo, RawCompliance},
    },
    store::codec,
};

/// Nodes of one lane that a sweep looks at; SSM's own default quota is 2,400 (doc: Systems
/// Manager endpoints and quotas).
const NODES_MAX: usize = 200_000;
/// Older reports aren't believed any more: inventory data expire after 30 days (doc: Systems
/// Manager quotas).
const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

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

/// What a sweep is made of.
pub(super) struct Sweep<'a> {
    reads: &'a LaneReads,
    settings: &'a Settings,
    awaited: &'a Awaited,
    look: Look<'a>,
    met: &'a mut Presence,
}

impl<'a> Sweep<'a> {
    /// Notes in `met` which nodes it meets, also if it ends early.
    pub fn new(
        reads: &'a LaneReads,
        settings: &'a Settings,
        met: &'a mut Presence,
        awaited: &'a Awaited,
    ) -> Self {
        let look = Look::new(reads, Source::Sweep, settings.patch_details);
        Self { reads, settings, awaited, look, met }
    }

    /// Reads the whole fleet once.
    pub async fn run(mut self) -> Result<SweepReport, IngestError> {
        let mut nodes = self.nodes().await?;
        let (mut marks, marked) = self.marks().await?;
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
            let named = Named { read, at: self.reads.queues().clock().now() };
            judged += page.items.len();
            page.items.iter().for_each(|row| self.met.report(row.node.as_str()));
            self.take_page(page.items, named, &mut nodes, &mut marks, &mut report).await?;
            from = page.next;
            if from.is_none() {
                break;
            }
            if judged > NODES_MAX {
                self.met.is_cut_off = true;
                break;
            }
        }
        self.take_rest(marks, marked, &mut nodes, &mut report).await?;
        // What no summary has taken out was never scanned.
        report.never_scanned += nodes.0.len();
        report.nodes =
            report.compliant + report.non_compliant + report.stale + report.never_scanned;
        self.show(&report);
        match self.look.into_skipped() {
            None => Ok(report),
            Some(skipped) => Err(IngestError::Skipped(Box::new(skipped))),
        }
    }

    /// What each managed node is, by id.
    async fn nodes(&mut self) -> Result<NodeDirectory, IngestError> {
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
                self.met.manage(row.node.as_str());
            }
            from = page.next;
            if from.is_none() {
                return Ok(nodes);
            }
            if nodes.0.len() > NODES_MAX {
                self.met.is_cut_off = true;
                return Ok(nodes);
            }
        }
    }

    /// What associations come to, and which reads told so.
    async fn marks(&self) -> Result<(Marks, Named), IngestError> {
        let read = self.reads.queues().next_read(self.reads.lane()).await?;
        let at = self.reads.queues().clock().now();
        Ok((Marks::read(self.reads).await?, Named { read, at }))
    }

    /// Accepts what has changed of nodes that have no patch summary, but associations.
    async fn take_rest(
        &mut self,
        marks: Marks,
        named: Named,
        nodes: &mut NodeDirectory,
        report: &mut SweepReport,
    ) -> Result<(), IngestError> {
        let mut rest = marks.into_rest().into_iter().peekable();
        while rest.peek().is_some() {
            let group: Vec<_> = rest.by_ref().take(GROUP_NODES_MAX).collect();
            let yardstick = self.yardstick(named);
            let (queues, lane) = (self.reads.queues(), self.reads.lane());
            let ids: Vec<String> = group.iter().map(|(node, _)| node.to_string()).collect();
            let before = queues.seen(lane, ids.clone()).await?;
            let open = queues.are_open(lane, ids).await?;
            let mut changed = Vec::new();
            for (((node, mark), before), open) in group.into_iter().zip(before).zip(open) {
                let info = nodes.take(&node);
                // Whether an association that counts has scanned it isn't known of the others.
                match &before {
                    Some(before) if before.non_compliant => report.non_compliant += 1,
                    _ => report.never_scanned += 1,
                }
                let Some(mark) = mark.mattering(None) else { continue };
                let seen = change::seen(None, Some(&mark), yardstick);
                // A node that never had anything amiss isn't asked what of; one whose finding was
                // read back from the hub is.
                let is_news = before.is_some() || mark.non_compliant || open;
                let passes = is_news && change::passes(&seen, before.as_ref(), yardstick);
                if !passes || self.lingers(&node, before.as_ref(), info.as_ref()).await? {
                    continue;
                }
                changed.push(Candidate {
                    node: Text::truncated(&node),
                    compliance: None,
                    info: info.and_then(|info| info.unpack()),
                    seen: Some(seen),
                    non_compliant: false,
                    associations: true,
                });
            }
            if !changed.is_empty() {
                report.accepted += self.look.accept(changed, named).await?;
            }
        }
        Ok(())
    }

    /// Whether this is what SSM goes on telling for a while of a node that is known to be gone for
    /// good. Of one that it manages, or has told something of since, it is not.
    async fn lingers(
        &self,
        node: &str,
        before: Option<&Seen>,
        info: Option<&Packed>,
    ) -> Result<bool, IngestError> {
        if before.is_some() || info.is_some() {
            return Ok(false);
        }
        let reason = self.reads.gone_as(node).await?;
        Ok(matches!(reason, Some(GoneReason::Terminated | GoneReason::Deregistered)))
    }

    fn yardstick(&self, named: Named) -> Yardstick {
        Yardstick {
            policy: self.settings.policy,
            refresh_after: self.settings.refresh_after,
            now: named.at,
        }
    }

    /// Accepts what has changed in one page of summaries.
    async fn take_page(
        &mut self,
        rows: Vec<ComplianceRow>,
        named: Named,
        nodes: &mut NodeDirectory,
        marks: &mut Marks,
        report: &mut SweepReport,
    ) -> Result<(), IngestError> {
        let yardstick = self.yardstick(named);
        let ids: Vec<String> = rows.iter().map(|row| row.node.to_string()).collect();
        let before = self.reads.queues().seen(self.reads.lane(), ids.clone()).await?;
        let mut changed = Vec::new();
        for (ComplianceRow { node, compliance }, before) in rows.into_iter().zip(before) {
            tally(report, &compliance, named.at);
            let mark = marks.take(node.as_str());
            let mark = mark.and_then(|mark| mark.mattering(Some(&compliance)));
            let seen = change::seen(Some(&compliance), mark.as_ref(), yardstick);
            let info = nodes.take(node.as_str());
            let passes = change::passes(&seen, before.as_ref(), yardstick);
            if !passes || self.lingers(node.as_str(), before.as_ref(), info.as_ref()).await? {
                report.unchanged += 1;
                continue;
            }
            changed.push(Candidate {
                node,
                info: info.and_then(|info| info.unpack()),
                non_compliant: change::is_non_compliant(&compliance),
                compliance: Some(compliance),
                seen: Some(seen),
                associations: mark.is_some(),
            });
        }
        for group in groups(changed) {
            report.accepted += self.look.accept(group, named).await?;
        }
        self.awaited.took(ids.iter().map(String::as_str));
        Ok(())
    }

    fn show(&self, report: &SweepReport) {
        let metrics = self.reads.metrics();
        metrics.observations[Source::Sweep][ObservationOutcome::Unchanged]
            .increment(report.unchanged as u64);
        let lane = metrics.lane(self.reads.lane());
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

/// A page holds at most 50 rows by AWS's word; whatever comes is cut to that.
fn groups(candidates: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut groups = Vec::new();
    let mut candidates = candidates.into_iter().peekable();
    while candidates.peek().is_some() {
        groups.push(candidates.by_ref().take(GROUP_NODES_MAX).collect());
    }
    groups
}
