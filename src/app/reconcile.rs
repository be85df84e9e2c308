//! Comparisons of hubs with the ledger, in the operator's terms.

use std::sync::Arc;

use super::fleet::ServedLane;
use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        commands::reconcile::{DIFFERENCES_TOLD_MAX, DifferenceTold, ReconcileLane, Reconciled},
    },
    pipeline::reconcile::{Difference, Kind, ReconcileError, Report},
    record::Lane,
};

/// Has a served lane compared; `None`: it isn't served.
pub(super) async fn reconcile(
    served: Option<Arc<ServedLane>>,
    asked: ReconcileLane,
) -> Result<Reconciled, Refusal> {
    let ReconcileLane { lane, repair, accept_gone } = asked;
    let Some(served) = served else {
        return Err(Refusal::usage(format!(
            "lane {lane} isn't served here: `patchferry status` names those that are"
        )));
    };
    let mut gone_accepted = 0;
    if accept_gone {
        gone_accepted = served.sweeps.borrow().gone.withheld as u64;
        served.accept_gone();
    }
    match served.reconcile.reconcile(repair).await {
        Ok(report) => Ok(Reconciled { gone_accepted, ..told(lane, &report) }),
        Err(error) => {
            let mut refusal = refusal(&lane, &error);
            if accept_gone {
                refusal.text.push_str("; what was withheld as gone is accepted all the same");
            }
            Err(refusal)
        }
    }
}

fn refusal(lane: &Lane, error: &ReconcileError) -> Refusal {
    let kind = match error {
        ReconcileError::OnePerRun => RefusalKind::Usage,
        ReconcileError::Queue(_) => RefusalKind::Store,
        _ => RefusalKind::NotNow,
    };
    let next = if error.is_denied() { "; grant securityhub:GetFindings" } else { "" };
    Refusal::new(kind, format!("{lane} can't be compared with its hub: {error}{next}"))
}

fn told(lane: Lane, report: &Report) -> Reconciled {
    let of = |kind| report.count(kind) as u64;
    let differences = report.differences.iter().take(DIFFERENCES_TOLD_MAX);
    Reconciled {
        hub_findings: report.held as u64,
        nodes_compared: report.compared as u64,
        nodes_left_alone: report.moving as u64,
        missing: of(Kind::Missing),
        orphaned: of(Kind::Orphaned),
        drifted: of(Kind::Drifted),
        duplicate: of(Kind::Duplicate),
        repaired: report.repaired.done as u64,
        queued: report.repaired.sent as u64,
        resolved_by_people: report.people.watched as u64,
        reopening: report.people.closing as u64,
        gone_accepted: 0,
        differences: differences.map(|difference| difference_told(&lane, difference)).collect(),
        lane,
    }
}

fn difference_told(lane: &Lane, difference: &Difference) -> DifferenceTold {
    let Difference { kind, finding, what, .. } = difference;
    let kind = match kind {
        Kind::Missing => "missing",
        Kind::Orphaned => "orphaned",
        Kind::Drifted => "drifted",
        Kind::Duplicate => "duplicate",
    };
    DifferenceTold {
        kind: kind.into(),
        node: finding.node.to_string(),
        finding_id: finding.id.render(lane, &finding.node),
        product_arn: finding.policy.product_arn(lane),
        what: what.clone(),
    }
}
