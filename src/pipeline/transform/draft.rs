//! The next version of a finding, and its times: `UpdatedAt` greater than every one before it.
//!
//! Deliberately doesn't know: whether there is to be one.

use super::{
    decision::{Decision, Ledger},
    digest::digest,
};
use crate::record::{
    Assessment, Change, Finding, FindingId, RecordState, RenderPolicy, Severity, UnixMillis,
};

/// A finding about to be decided on.
pub(super) struct Draft<'a> {
    pub(super) ledger: Ledger<'a>,
    pub(super) assessment: &'a Assessment,
    pub(super) render: &'a RenderPolicy,
    pub(super) now: UnixMillis,
    pub(super) id: FindingId,
}

impl Draft<'_> {
    /// The next version of the node's finding.
    pub(super) fn send(self, change: Change, state: RecordState, severity: Severity) -> Decision {
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
    pub(super) fn send_first(self, severity: Severity) -> Decision {
        let at = event_time(self.assessment);
        self.finish(Change::Opened, RecordState::Open, severity, [at, at, at])
    }

    pub(super) fn finish(
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
pub(super) fn event_time(assessment: &Assessment) -> UnixMillis {
    let facts = &assessment.facts;
    facts
        .operation_end
        .or_else(|| facts.compliance.as_ref()?.execution_time)
        .unwrap_or(assessment.read_at)
}
