//! Comparisons of hubs with the ledger, in the operator's terms.

use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        commands::reconcile::{DIFFERENCES_TOLD_MAX, DifferenceTold, Reconciled},
    },
    pipeline::reconcile::{Difference, Kind, ReconcileError, ReconcileHandle, Report},
    record::Lane,
};

/// Has a served lane compared; `None`: it isn't served.
pub(super) async fn reconcile(
    lane: Lane,
    handle: Option<&ReconcileHandle>,
    repair: bool,
) -> Result<Reconciled, Refusal> {
    let Some(handle) = handle else {
        return Err(Refusal::usage(format!(
            "lane {lane} isn't served here: `patchferry status` names those that are"
        )));
    };
    match handle.reconcile(repair).await {
        Ok(report) => Ok(told(lane, &report)),
        Err(error) => Err(refusal(&lane, &error)),
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
