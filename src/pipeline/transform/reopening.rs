//! A node whose finding somebody has resolved, judged: is there a newer scan, and what becomes of a
//! state that comes while the finding is closed to be opened again?
//!
//! Deliberately doesn't know: how a finding is closed and opened again; the queues do.

use crate::{
    queue::{Closing, Desired, Reopening, Transition},
    record::{Assessment, Finding, Lane, UnixMillis, Verdict},
    store::StoreError,
};

/// What the hub is to hold in the end, where its finding is being closed for now.
pub(super) fn believed(
    desired: Option<&Desired>,
    reopening: Option<&Reopening>,
) -> Option<Desired> {
    match (desired, reopening) {
        (Some(desired), Some(Reopening::Closing(closing))) => Some(closing.believed(desired)),
        _ => None,
    }
}

/// Whether `finding` is another version of what follows the closing one.
pub(super) fn follows(reopening: Option<&Reopening>, finding: &Finding, lane: &Lane) -> bool {
    match reopening {
        Some(Reopening::Closing(closing)) => {
            finding.state.is_open() && finding.has_name_of(&closing.finding, lane)
        }
        _ => false,
    }
}

/// Has `next` follow the closing version.
pub(super) fn follow(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    reopening: Option<Reopening>,
    next: Closing,
) -> Result<(), StoreError> {
    match reopening {
        Some(Reopening::Closing(before)) => step.follow_with(lane, &before, next),
        _ => Ok(()),
    }
}

/// The node was judged, and not as superseded; `is_told`: by a version of its own.
pub(super) fn judged(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    reopening: Option<&Reopening>,
    assessment: &Assessment,
    is_told: bool,
) -> Result<(), StoreError> {
    let node = assessment.node.as_str();
    let non_compliant = matches!(assessment.verdict, Verdict::NonCompliant(_));
    match reopening {
        None => Ok(()),
        Some(Reopening::Watched { reported } | Reopening::Due { reported }) if non_compliant => {
            if scanned_at(assessment).is_some_and(|at| at > *reported) {
                step.reopening_is_due(lane, node, *reported)?;
            }
            Ok(())
        }
        Some(Reopening::Closing(_)) if !is_told => Ok(()),
        Some(_) => step.end_reopening(lane, node),
    }
}

/// When the scan was; a state that tells no time is no proof of a newer one.
fn scanned_at(assessment: &Assessment) -> Option<UnixMillis> {
    let facts = &assessment.facts;
    facts.operation_end.or_else(|| facts.compliance.as_ref()?.execution_time)
}
