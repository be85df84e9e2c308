//! Change detection: which nodes of a page of summaries are worth a closer look. Pure.
//!
//! An unchanged node costs no detail call and no write. A node passes when its summary is new or
//! has changed, when the part of the configuration that shows in findings has changed, and when
//! an open finding must be refreshed.

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

/// The `seen` row that a summary makes.
pub fn seen(compliance: &RawCompliance, yardstick: Yardstick) -> Seen {
    Seen {
        fingerprint: stable_hash(compliance),
        policy: yardstick.policy,
        non_compliant: compliance.status.as_str() != "COMPLIANT",
        accepted_at: yardstick.now,
    }
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
        let before = seen(&summary("NON_COMPLIANT", "a"), first);
        assert!(passes(&before, None, first));
        assert!(!passes(&before, Some(&before), first));
        let scanned = seen(&summary("NON_COMPLIANT", "b"), first);
        assert!(passes(&scanned, Some(&before), first));
        let policy = seen(&summary("NON_COMPLIANT", "a"), yardstick(2, 0));
        assert!(passes(&policy, Some(&before), yardstick(2, 0)));
        assert!(passes(&before, Some(&before), yardstick(1, 100_001)));
        let compliant = seen(&summary("COMPLIANT", "a"), first);
        assert!(!passes(&compliant, Some(&compliant), yardstick(1, 100_001)));
    }
}
