//! Change detection: which nodes of a page of summaries are worth a closer look. Pure.
//!
//! An unchanged node costs no detail call and no write. A node passes when its summary is new or
//! has changed, when the part of the configuration that shows in findings has changed, and when
//! an open finding must be refreshed.
//!
//! The summary of a node's associations counts only where it could change the verdict: where it says
//! otherwise than the patch summary, or there is none. What it says then, and when the associations
//! that matter last ran anywhere, is part of what is compared; its own time isn't, since that moves
//! whenever any association runs.

use std::time::Duration;

use crate::{
    pipeline::transform::stable_hash,
    queue::Seen,
    record::{UnixMillis, observation::RawCompliance},
};

/// What nodes are compared by.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// Of the finding policy.
    pub policy: u64,
    pub refresh_after: Duration,
    pub now: UnixMillis,
}

/// What the summary of a node's associations comes to, whatever their documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociationMark {
    /// Of status and counts.
    fingerprint: u64,
    pub non_compliant: bool,
    /// When any association that scans for patches last ran, on whichever node.
    last_run: Option<UnixMillis>,
}

impl AssociationMark {
    pub fn new(summary: &RawCompliance, last_run: Option<UnixMillis>) -> Self {
        let timeless =
            RawCompliance { execution_time: None, execution_id: None, ..summary.clone() };
        Self {
            fingerprint: stable_hash(&timeless),
            non_compliant: is_non_compliant(summary),
            last_run,
        }
    }

    /// The mark, if it could change the verdict that the patch summary gives. Another run matters
    /// only if it could, too: not where all is compliant.
    pub fn mattering(mut self, patches: Option<&RawCompliance>) -> Option<Self> {
        if patches.is_none() && !self.non_compliant {
            self.last_run = None;
        }
        patches.is_none_or(|it| is_non_compliant(it) != self.non_compliant).then_some(self)
    }
}

/// Whether the service doesn't call it compliant.
pub fn is_non_compliant(summary: &RawCompliance) -> bool {
    summary.status.as_str() != "COMPLIANT"
}

/// The `seen` row that a node's patch summary makes, and that of its associations if it matters.
pub fn seen(
    patches: Option<&RawCompliance>,
    association: Option<&AssociationMark>,
    yardstick: Yardstick,
) -> Seen {
    let fingerprint = match (patches, association) {
        (Some(patches), None) => stable_hash(patches),
        (patches, association) => {
            stable_hash(&(patches, association.map(|it| (it.fingerprint, it.last_run))))
        }
    };
    let non_compliant =
        patches.is_some_and(is_non_compliant) || association.is_some_and(|it| it.non_compliant);
    Seen { fingerprint, policy: yardstick.policy, non_compliant, accepted_at: yardstick.now }
}

/// Whether a node with this row passes, given the row of when it last passed.
pub fn passes(now: &Seen, before: Option<&Seen>, yardstick: Yardstick) -> bool {
    let Some(before) = before else { return true };
    now.fingerprint != before.fingerprint
        || now.policy != before.policy
        || (now.non_compliant && yardstick.now.since(before.accepted_at) > yardstick.refresh_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yardstick(policy: u64, now: i64) -> Yardstick {
        Yardstick { policy, refresh_after: Duration::from_secs(100), now: UnixMillis(now) }
    }

    fn summary(status: &str, execution: &str) -> RawCompliance {
        RawCompliance {
            status: status.into(),
            execution_id: Some(execution.into()),
            ..RawCompliance::default()
        }
    }

    #[test]
    fn a_node_passes_when_new_changed_or_due_and_else_not() {
        let first = yardstick(1, 0);
        let by_patches =
            |status, execution, yardstick| seen(Some(&summary(status, execution)), None, yardstick);
        let before = by_patches("NON_COMPLIANT", "a", first);
        assert!(passes(&before, None, first));
        assert!(!passes(&before, Some(&before), first));
        let scanned = by_patches("NON_COMPLIANT", "b", first);
        assert!(passes(&scanned, Some(&before), first));
        let policy = by_patches("NON_COMPLIANT", "a", yardstick(2, 0));
        assert!(passes(&policy, Some(&before), yardstick(2, 0)));
        assert!(passes(&before, Some(&before), yardstick(1, 100_001)));
        let compliant = by_patches("COMPLIANT", "a", first);
        assert!(!passes(&compliant, Some(&compliant), yardstick(1, 100_001)));
    }

    fn mark(status: &str, time: i64, last_run: i64) -> AssociationMark {
        let mut summary = summary(status, "");
        summary.execution_time = Some(UnixMillis(time));
        AssociationMark::new(&summary, Some(UnixMillis(last_run)))
    }

    #[test]
    fn associations_matter_only_where_they_could_change_the_verdict() {
        let (good, bad) = (summary("COMPLIANT", "a"), summary("NON_COMPLIANT", "a"));
        assert_eq!(mark("COMPLIANT", 1, 1).mattering(Some(&good)), None);
        assert_eq!(mark("NON_COMPLIANT", 1, 1).mattering(Some(&bad)), None);
        assert!(mark("NON_COMPLIANT", 1, 1).mattering(Some(&good)).is_some());
        assert!(mark("COMPLIANT", 1, 1).mattering(Some(&bad)).is_some());
        assert!(mark("COMPLIANT", 1, 1).mattering(None).is_some());
    }

    #[test]
    fn the_time_of_an_association_summary_tells_nothing_and_another_run_only_where_it_could() {
        let now = yardstick(1, 0);
        let seen = |patches: Option<&RawCompliance>, mark: AssociationMark| {
            seen(patches, mark.mattering(patches).as_ref(), now).fingerprint
        };
        let bad = summary("NON_COMPLIANT", "a");
        for patches in [None, Some(&bad)] {
            let first = seen(patches, mark("COMPLIANT", 1, 1));
            assert_eq!(seen(patches, mark("COMPLIANT", 2, 1)), first);
            assert_ne!(seen(patches, mark("NON_COMPLIANT", 1, 1)), first);
        }
        assert_eq!(seen(None, mark("COMPLIANT", 1, 1)), seen(None, mark("COMPLIANT", 1, 2)));
        for (patches, status) in [(None, "NON_COMPLIANT"), (Some(&bad), "COMPLIANT")] {
            assert_ne!(seen(patches, mark(status, 1, 1)), seen(patches, mark(status, 1, 2)));
        }
    }

    #[test]
    fn a_node_of_which_associations_tell_nothing_is_compared_as_ever() {
        let patches = summary("COMPLIANT", "a");
        let row = seen(Some(&patches), None, yardstick(1, 0));
        assert_eq!(row.fingerprint, stable_hash(&patches), "or an upgrade reads every node anew");
    }
}
