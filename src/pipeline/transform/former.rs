//! A node whose finding the configuration names otherwise than before: another product, or another
//! identity. Both are part of a finding's name in the hub, so the old one is not updated but
//! closed, under the name and with the texts that it was sent with, and the node gets a new one.
//!
//! | former finding | verdict | do |
//! |---|---|---|
//! | open | non-compliant | close as superseded, open under the new name |
//! | open | compliant or gone | resolve under its own name |
//! | resolved | non-compliant | open under the new name |
//! | resolved | compliant or gone | nothing |
//!
//! Deliberately doesn't know: changes that show in a finding but not in its name; these are updates.

use super::{
    Identity, Policy,
    decision::{Decision, Ledger, closed, operation_id},
    draft::{Draft, event_time},
};
use crate::{
    queue::{Acked, Desired},
    record::{
        Assessment, Change, Finding, FindingId, Lane, RecordState, Severity, UnixMillis, Verdict,
        observation::GoneReason,
    },
};

/// The node's newest decision, if its finding isn't named as the configuration would name it.
pub(super) fn named_otherwise<'a>(ledger: Ledger<'a>, policy: &Policy) -> Option<&'a Desired> {
    ledger.desired.filter(|desired| !is_named_so(ledger.lane, &desired.finding, policy))
}

fn is_named_so(lane: &Lane, finding: &Finding, policy: &Policy) -> bool {
    let same_identity = (finding.id == FindingId::Node) == (policy.identity == Identity::Node);
    let same_product = finding.policy.product_arn == policy.render.product_arn
        || finding.policy.product_arn(lane) == policy.render.product_arn(lane);
    same_identity && same_product
}

/// See the module's table.
pub(super) fn decide(
    former: &Desired,
    ledger: Ledger<'_>,
    assessment: &Assessment,
    policy: &Policy,
    now: UnixMillis,
) -> Decision {
    let finding = &former.finding;
    let closes = finding.state.is_open() && policy.resolve;
    let as_named =
        Draft { ledger, assessment, render: &finding.policy, now, id: finding.id.clone() };
    match assessment.verdict {
        Verdict::NonCompliant(severity) => {
            let superseded = RecordState::Gone(GoneReason::Superseded);
            let close = (closes && may_be_held(former, ledger.acked))
                .then(|| Box::new(closed(finding, superseded, now)));
            open_anew(former, ledger, assessment, policy, now, severity).and_close(close)
        }
        Verdict::Compliant if closes => {
            as_named.send(Change::Resolved, RecordState::Resolved, Severity::Informational)
        }
        Verdict::Gone(reason) if closes => {
            as_named.send(Change::Resolved, RecordState::Gone(reason), finding.severity)
        }
        Verdict::Compliant | Verdict::Gone(_) => Decision::Nothing,
    }
}

/// Whether the hub may hold the former finding: not if its first version was never acknowledged,
/// as where every finding of a mistyped product is refused. Closing what isn't there would be
/// refused just so.
fn may_be_held(former: &Desired, acked: Option<&Acked>) -> bool {
    let adopted = former.is_adopted();
    let is_first = former.finding.change == Change::Opened;
    match acked {
        None => adopted,
        Some(acked) => adopted || !is_first || acked.receipt.revision == former.revision,
    }
}

/// The first version under the new name. What the hub holds under it from an earlier time, if
/// anything, was told before now.
fn open_anew(
    former: &Desired,
    ledger: Ledger<'_>,
    assessment: &Assessment,
    policy: &Policy,
    now: UnixMillis,
    severity: Severity,
) -> Decision {
    let id = match policy.identity {
        Identity::Node => FindingId::Node,
        Identity::Operation => operation_id(assessment),
    };
    let at = event_time(assessment);
    let updated_at = at.max(now).max(UnixMillis(former.finding.updated_at.0 + 1));
    Draft { ledger, assessment, render: &policy.render, now, id }.finish(
        Change::Opened,
        RecordState::Open,
        severity,
        [at, at, updated_at],
    )
}
