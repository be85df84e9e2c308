//! What is to be done about an assessment: the table of the module above, and the refresh of what
//! nothing is reported of any more.
//!
//! Deliberately doesn't know: queues, and how a version comes by its times.

use std::time::Duration;

use super::{
    Identity, Policy,
    digest::{all_facts, all_facts_of, digest},
    draft::{Draft, event_time},
    former,
};
use crate::{
    queue::{Acked, Desired},
    record::{
        Assessment, Change, Finding, FindingId, Lane, RecordState, Severity, Text, UnixMillis,
        Verdict,
        observation::{BASELINE_DOCUMENT, GoneReason},
    },
};

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
    pub(super) fn and_close(self, former: Option<Box<Finding>>) -> Self {
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

pub(super) fn closed(finding: &Finding, state: RecordState, now: UnixMillis) -> Finding {
    finding.closed(state, now.max(UnixMillis(finding.updated_at.0 + 1)), now)
}

pub(super) fn operation_id(assessment: &Assessment) -> FindingId {
    let facts = &assessment.facts;
    let command = facts
        .compliance
        .as_ref()
        .and_then(|compliance| compliance.execution_id.clone())
        .unwrap_or_else(|| Text::truncated(&format!("at-{}", event_time(assessment).to_rfc3339())));
    let document = facts.document.clone().unwrap_or_else(|| BASELINE_DOCUMENT.into());
    FindingId::Operation { document, command }
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
pub(in crate::pipeline) fn refreshed(
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
