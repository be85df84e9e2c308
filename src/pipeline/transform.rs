//! The life of a finding: what, if anything, the hub is to be told about an assessment.
//!
//! Pure over the ledger: [`decide`] compares the assessment with `desired`, never with what the
//! hub acknowledged (but for a refresh, which is about that), and never calls out. The stage runs
//! it inside the committer, item by item, so that of two assessments of one node the later sees
//! what the earlier wrote.
//!
//! | desired | verdict | do |
//! |---|---|---|
//! | none or resolved | non-compliant | open or reopen |
//! | open | non-compliant, facts worth telling changed | update |
//! | open | the same facts | nothing, or refresh when it is due |
//! | open | compliant | resolve |
//! | open | gone | resolve as gone |
//! | none or resolved | compliant or gone | nothing |
//!
//! Where the configuration names the node's finding otherwise than `desired` is named, [`former`]
//! decides.
//!
//! Where the ledger was completed from the hub, what is older than the hub's state isn't told at
//! all, whatever the table says: see [`Desired::outdates`].
//!
//! `UpdatedAt` is always greater than every one that was assigned to or read from the hub for the
//! finding: the hub silently ignores an equal or older one.

mod former;
mod reopening;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::stage;
use crate::{
    failpoint::{self, FailPoint},
    metrics::Metrics,
    queue::{Acked, Closing, Death, Decided, Desired, QueueError, Queues, Transition},
    record::{
        Assessment, Change, Finding, FindingId, Lane, Reason, RecordState, RenderPolicy, Severity,
        Stage, Text, UnixMillis, Verdict,
        dead_letter::DeadItem,
        observation::{BASELINE_DOCUMENT, GoneReason, PatchList},
    },
    store::{StoreError, codec},
};

/// What makes two reports the same finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Node,
    /// AWS's way: each run is a finding of its own.
    Operation,
}

/// How assessments become findings.
#[derive(Clone, Debug)]
pub struct Policy {
    pub identity: Identity,
    /// Whether findings of compliant and gone nodes are resolved.
    pub resolve: bool,
    /// An unchanged open finding is told again after this long, lest the hub forget it.
    pub refresh_after: Duration,
    pub render: RenderPolicy,
}

impl Policy {
    /// Changes whenever findings would be rendered differently: every node is then told again.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let identity = match self.identity {
            Identity::Node => 0_u8,
            Identity::Operation => 1,
        };
        stable_hash(&(identity, self.resolve, &self.render))
    }
}

/// What the ledger holds of the node.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    /// The node's.
    pub lane: &'a Lane,
    pub desired: Option<&'a Desired>,
    pub acked: Option<&'a Acked>,
    /// The hub may not be read, so `UpdatedAt` of an unknown finding begins now.
    pub floor_unknown: bool,
}

/// What to do about an assessment.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A newer state of the node was judged already.
    Superseded,
    /// What the hub was told meanwhile, by somebody else, may be newer.
    Outdated,
    /// Nothing to tell.
    Nothing,
    /// Tell the hub; and close the finding that reported the node before, if that is another.
    Send { finding: Box<Finding>, digest: u64, close: Option<Box<Finding>> },
}

impl Decision {
    fn and_close(self, former: Option<Box<Finding>>) -> Self {
        match self {
            Self::Send { finding, digest, .. } => Self::Send { finding, digest, close: former },
            other => other,
        }
    }
}

/// See the module's table.
#[must_use]
pub fn decide(
    ledger: Ledger<'_>,
    assessment: &Assessment,
    policy: &Policy,
    now: UnixMillis,
) -> Decision {
    if let Some(desired) = ledger.desired {
        if desired.outranks(assessment.read) {
            return Decision::Superseded;
        }
        if desired.outdates(assessment.read, event_time(assessment), assessment.source) {
            return Decision::Outdated;
        }
    }
    if let Some(desired) = former::named_otherwise(ledger, policy) {
        return former::decide(desired, ledger, assessment, policy, now);
    }
    match policy.identity {
        Identity::Node => decide_by_node(ledger, assessment, policy, now),
        Identity::Operation => decide_by_operation(ledger, assessment, policy, now),
    }
}

fn decide_by_node(
    ledger: Ledger<'_>,
    assessment: &Assessment,
    policy: &Policy,
    now: UnixMillis,
) -> Decision {
    let draft = Draft { ledger, assessment, render: &policy.render, now, id: FindingId::Node };
    let open = ledger.desired.filter(|desired| desired.finding.state.is_open());
    match (open, assessment.verdict) {
        (None, Verdict::NonCompliant(severity)) if ledger.desired.is_some() => {
            draft.send(Change::Reopened, RecordState::Open, severity)
        }
        (None, Verdict::NonCompliant(severity)) => {
            draft.send(Change::Opened, RecordState::Open, severity)
        }
        (Some(desired), Verdict::NonCompliant(severity)) => {
            let changed = desired.digest != digest(severity, assessment)
                || desired.finding.policy != policy.render
                || rejected_before(ledger, assessment);
            if changed {
                return draft.send(Change::Updated, RecordState::Open, severity);
            }
            if refresh_is_due(ledger.acked, desired, policy.refresh_after, now) {
                return draft.send(Change::Refreshed, RecordState::Open, severity);
            }
            Decision::Nothing
        }
        (Some(_), Verdict::Compliant) if policy.resolve => {
            draft.send(Change::Resolved, RecordState::Resolved, Severity::Informational)
        }
        (Some(desired), Verdict::Gone(reason)) if policy.resolve => {
            draft.send(Change::Resolved, RecordState::Gone(reason), desired.finding.severity)
        }
        (None, Verdict::Compliant) if policy.resolve && rejected_before(ledger, assessment) => {
            draft.send(Change::Resolved, RecordState::Resolved, Severity::Informational)
        }
        (_, Verdict::Compliant | Verdict::Gone(_)) => Decision::Nothing,
    }
}

/// The hub called the last version invalid, and a fact has changed since.
fn rejected_before(ledger: Ledger<'_>, assessment: &Assessment) -> bool {
    ledger
        .desired
        .is_some_and(|desired| desired.rejected && all_facts(desired) != all_facts_of(assessment))
}

fn decide_by_operation(
    ledger: Ledger<'_>,
    assessment: &Assessment,
    policy: &Policy,
    now: UnixMillis,
) -> Decision {
    let id = operation_id(assessment);
    let open = ledger.desired.filter(|desired| desired.finding.state.is_open());
    let draft = Draft { ledger, assessment, render: &policy.render, now, id: id.clone() };
    match assessment.verdict {
        Verdict::NonCompliant(_) if ledger.desired.is_some_and(|it| it.finding.id == id) => {
            Decision::Nothing
        }
        Verdict::NonCompliant(severity) => {
            let close = open.filter(|_| policy.resolve).map(|desired| {
                Box::new(closed(&desired.finding, RecordState::Gone(GoneReason::Superseded), now))
            });
            draft.send_first(severity).and_close(close)
        }
        Verdict::Compliant if policy.resolve => {
            resolve_as_reported(open, RecordState::Resolved, Severity::Informational, draft)
        }
        Verdict::Gone(reason) if policy.resolve => {
            let severity = open.map_or(Severity::Informational, |it| it.finding.severity);
            resolve_as_reported(open, RecordState::Gone(reason), severity, draft)
        }
        Verdict::Compliant | Verdict::Gone(_) => Decision::Nothing,
    }
}

fn resolve_as_reported(
    open: Option<&Desired>,
    state: RecordState,
    severity: Severity,
    mut draft: Draft<'_>,
) -> Decision {
    let Some(desired) = open else { return Decision::Nothing };
    draft.id = desired.finding.id.clone();
    draft.send(Change::Resolved, state, severity)
}

fn closed(finding: &Finding, state: RecordState, now: UnixMillis) -> Finding {
    finding.closed(state, now.max(UnixMillis(finding.updated_at.0 + 1)), now)
}

fn operation_id(assessment: &Assessment) -> FindingId {
    let facts = &assessment.facts;
    let command = facts
        .compliance
        .as_ref()
        .and_then(|compliance| compliance.execution_id.clone())
        .unwrap_or_else(|| Text::truncated(&format!("at-{}", event_time(assessment).to_rfc3339())));
    let document = facts.document.clone().unwrap_or_else(|| BASELINE_DOCUMENT.into());
    FindingId::Operation { document, command }
}

/// A finding about to be decided on.
struct Draft<'a> {
    ledger: Ledger<'a>,
    assessment: &'a Assessment,
    render: &'a RenderPolicy,
    now: UnixMillis,
    id: FindingId,
}

impl Draft<'_> {
    /// The next version of the node's finding.
    fn send(self, change: Change, state: RecordState, severity: Severity) -> Decision {
        let earlier = self.ledger.desired.map(|desired| &desired.finding);
        let reported_at = match change {
            Change::Refreshed => self.now,
            _ if matches!(state, RecordState::Gone(_)) => self.now,
            // Policy changes carry no event of their own.
            Change::Updated if earlier.is_some_and(|it| it.policy != *self.render) => self.now,
            _ => event_time(self.assessment),
        };
        let mut updated_at = reported_at;
        if let Some(earlier) = earlier {
            updated_at = updated_at.max(UnixMillis(earlier.updated_at.0 + 1));
        } else if self.ledger.floor_unknown {
            updated_at = updated_at.max(self.now);
        }
        let created_at = earlier.map_or(reported_at, |it| it.created_at);
        let first_observed_at = earlier.map_or(reported_at, |it| it.first_observed_at);
        self.finish(change, state, severity, [created_at, first_observed_at, updated_at])
    }

    /// The first version of a finding that knows no earlier one.
    fn send_first(self, severity: Severity) -> Decision {
        let at = event_time(self.assessment);
        self.finish(Change::Opened, RecordState::Open, severity, [at, at, at])
    }

    fn finish(
        self,
        change: Change,
        state: RecordState,
        severity: Severity,
        [created_at, first_observed_at, updated_at]: [UnixMillis; 3],
    ) -> Decision {
        let assessment = self.assessment;
        let mut facts = assessment.facts.clone();
        if matches!(state, RecordState::Gone(_))
            && facts.baseline.is_none()
            && let Some(desired) = self.ledger.desired
        {
            // A node that is gone tells nothing: the last known facts stand.
            facts = desired.finding.facts.clone();
            facts.patches = None;
        }
        let finding = Finding {
            node: assessment.node.clone(),
            id: self.id,
            change,
            state,
            severity,
            created_at,
            updated_at,
            first_observed_at,
            last_observed_at: event_time(assessment).max(first_observed_at),
            facts,
            policy: self.render.clone(),
            source: assessment.source,
            accepted_at: assessment.accepted_at,
        };
        let digest = if state.is_open() { digest(severity, assessment) } else { 0 };
        Decision::Send { finding: Box::new(finding), digest, close: None }
    }
}

/// When what is reported happened: the operation's end, else the service's execution time, else
/// the read.
fn event_time(assessment: &Assessment) -> UnixMillis {
    let facts = &assessment.facts;
    facts
        .operation_end
        .or_else(|| facts.compliance.as_ref()?.execution_time)
        .unwrap_or(assessment.read_at)
}

fn refresh_is_due(
    acked: Option<&Acked>,
    desired: &Desired,
    refresh_after: Duration,
    now: UnixMillis,
) -> bool {
    let Some(acked) = acked else { return false };
    acked.receipt.revision == desired.revision
        && now.since(acked.receipt.acknowledged_at) > refresh_after
}

/// The next version of an open finding whose node exists though nothing is reported of it any
/// more, when it is due: the hub would forget it.
pub(super) fn refreshed(
    desired: &Desired,
    acked: Option<&Acked>,
    refresh_after: Duration,
    now: UnixMillis,
) -> Option<Finding> {
    let is_open = desired.finding.state.is_open();
    if !is_open || !refresh_is_due(acked, desired, refresh_after, now) {
        return None;
    }
    let mut finding = desired.finding.clone();
    finding.change = Change::Refreshed;
    finding.updated_at = now.max(UnixMillis(finding.updated_at.0 + 1));
    finding.accepted_at = now;
    // The patch list went with the version that was delivered.
    finding.facts.patches = None;
    Some(finding)
}

/// Of the facts whose change is worth telling: severity, non-compliant counts, baseline, and the
/// set of missing patches. Each update is billed and triggers rules, so nothing else is. Never 0.
fn digest(severity: Severity, assessment: &Assessment) -> u64 {
    let facts = &assessment.facts;
    let counts = &facts.counts;
    let non_compliant = [
        counts.missing,
        counts.failed,
        counts.installed_rejected,
        counts.installed_pending_reboot,
        counts.critical_non_compliant,
        counts.security_non_compliant,
        counts.other_non_compliant,
    ];
    let by_severity = facts.compliance.as_ref().map(|compliance| compliance.non_compliant_counts);
    let patches = facts.patches.as_ref().map(|patches| patches.digest);
    stable_hash(&(severity, non_compliant, by_severity, &facts.baseline, patches)).max(1)
}

/// All facts but those that every scan changes.
fn all_facts(desired: &Desired) -> u64 {
    hash_facts(&desired.finding.facts)
}

fn all_facts_of(assessment: &Assessment) -> u64 {
    hash_facts(&assessment.facts)
}

fn hash_facts(facts: &crate::record::Facts) -> u64 {
    let mut facts = facts.clone();
    facts.operation_start = None;
    facts.operation_end = None;
    facts.snapshot = None;
    if let Some(patches) = &mut facts.patches {
        patches.read = crate::record::ReadNumber(0);
    }
    if let Some(compliance) = &mut facts.compliance {
        compliance.execution_id = None;
        compliance.execution_time = None;
    }
    stable_hash(&facts)
}

/// The same in every process and version: two CRCs of the encoding, from different starts.
pub(super) fn stable_hash<T: serde::Serialize>(value: &T) -> u64 {
    let bytes = codec::encode_body(value);
    let low = crc32fast::hash(&bytes);
    let mut high = crc32fast::Hasher::new_with_initial(0x9e37_79b9);
    high.update(&bytes);
    high.update(&[0x5a]);
    u64::from(high.finalize()) << 32 | u64::from(low)
}

/// The stage: pages of assessments in, the outbox and the ledger out.
pub struct Transform {
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub policy: Arc<Policy>,
}

impl Transform {
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let queues = self.queues.clone();
        stage::run(self, queues.assessed_signal(), shutdown).await
    }
}

impl stage::Stage for Transform {
    async fn turn(&mut self) -> Result<bool, QueueError> {
        let pages = self.queues.claim_assessed(stage::CLAIM_PAGES_MAX).await?;
        if pages.is_empty() {
            return Ok(false);
        }
        let began = Instant::now();
        let policy = Arc::clone(&self.policy);
        let coalesces = policy.identity == Identity::Node;
        failpoint::reach(FailPoint::TransformBeforeSettle);
        self.queues
            .settle_assessed(pages, coalesces, move |step, lane, assessment| {
                judge(step, lane, assessment, &policy)
            })
            .await?;
        self.metrics.stage_seconds[Stage::Transform].record(began.elapsed().as_secs_f64());
        Ok(true)
    }
}

/// One item, in the committer: reads the ledger, decides, writes.
fn judge(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    assessment: Assessment,
    policy: &Policy,
) -> Result<(), StoreError> {
    let node = assessment.node.as_str();
    let stored = step.desired(lane, node)?;
    let reopening = step.reopening(lane, node)?;
    // While its finding is closed to be opened again, the node is judged by what follows.
    let believed = reopening::believed(stored.as_ref(), reopening.as_ref());
    let desired = believed.as_ref().or(stored.as_ref());
    let acked = match desired {
        Some(desired) if desired.finding.state.is_open() => step.acked(lane, node)?,
        _ => None,
    };
    let floor_unknown = match desired {
        Some(_) => false,
        None => step.lane_row(lane)?.read_back.is_denied(),
    };
    let ledger = Ledger { lane, desired, acked: acked.as_ref(), floor_unknown };
    // What still waits under a former name takes no other's place, and must not be told.
    let is_renamed = former::named_otherwise(ledger, policy).is_some();
    let now = step.now();
    let decided = catch_unwind(AssertUnwindSafe(|| decide(ledger, &assessment, policy, now)));
    let patches = assessment.facts.patches.as_ref();
    match decided {
        Ok(Decision::Superseded) => step.superseded(lane, node, patches),
        Ok(Decision::Outdated) => step.outdated(lane, node, patches),
        Ok(Decision::Nothing) => {
            reopening::judged(step, lane, reopening.as_ref(), &assessment, false)?;
            step.unchanged(lane, node, assessment.read, patches)
        }
        Ok(Decision::Send { finding, digest, .. })
            if reopening::follows(reopening.as_ref(), &finding, lane) =>
        {
            let unused = unused_patches(&finding, &assessment);
            let read = assessment.read;
            reopening::follow(step, lane, reopening, Closing { finding, digest, read })?;
            step.drop_patches(lane, node, unused.as_ref())
        }
        Ok(Decision::Send { finding, digest, close }) => {
            reopening::judged(step, lane, reopening.as_ref(), &assessment, true)?;
            if let Some(close) = close {
                step.send_derived(lane, *close)?;
            }
            let coalesces = policy.identity == Identity::Node || is_renamed;
            let unused = unused_patches(&finding, &assessment);
            let decided = Decided { finding: *finding, read: assessment.read, digest, coalesces };
            step.send(lane, stored.as_ref(), decided)?;
            step.drop_patches(lane, node, unused.as_ref())
        }
        Err(_) => step.bury(lane, panicked(assessment)),
    }
}

/// The assessment's patches, if the finding goes without them.
fn unused_patches(finding: &Finding, assessment: &Assessment) -> Option<PatchList> {
    let patches = &assessment.facts.patches;
    patches.clone().filter(|_| finding.facts.patches != *patches)
}

fn panicked(assessment: Assessment) -> Death {
    Death {
        node: assessment.node.as_str().into(),
        stage: Stage::Transform,
        reason: Reason::Panicked,
        message: "transform panicked on this assessment: please report it".into(),
        item: DeadItem::Assessment(Box::new(assessment)),
        count: 1,
    }
}

#[cfg(test)]
mod tests;
