//! The values that labels may take: closed lists, so that the number of series is known before
//! the first sample, and every series is there, at zero, from the start.

use crate::record::{Reason, Severity, Source, Stage};

/// A closed list of label values.
pub trait Label: Copy + PartialEq + 'static {
    /// The label's name.
    const NAME: &'static str;
    const VALUES: &'static [Self];
    fn value(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident as $name:literal {
        $($(#[$value_doc:meta])* $value:ident = $text:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$value_doc])* $value,)+
        }
        impl Label for $type {
            const NAME: &'static str = $name;
            const VALUES: &'static [Self] = &[$(Self::$value,)+];
            fn value(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }
    };
}

macro_rules! label_of_record {
    ($($type:ty as $name:literal;)+) => {$(
        impl Label for $type {
            const NAME: &'static str = $name;
            const VALUES: &'static [Self] = &<$type>::ALL;
            fn value(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}

label_of_record! {
    Stage as "stage";
    Reason as "reason";
    Severity as "severity";
    Source as "source";
}

label! {
    /// The queues; all lanes' outboxes count as one.
    Queue as "queue" {
        Observed = "observed",
        Assessed = "assessed",
        Outbox = "outbox",
        /// Retries that aren't due yet.
        Delayed = "delayed",
        /// Waiting for a look-up in the hub.
        Parked = "parked",
    }
}

label! {
    /// What ingest did with an observation.
    ObservationOutcome as "outcome" {
        /// On disk.
        Accepted = "accepted",
        /// The same as was seen before: neither written nor passed on.
        Unchanged = "unchanged",
        /// Not accepted: no observation at all, or ingest was paused. Its source keeps it.
        Refused = "refused",
    }
}

label! {
    /// How an accepted observation ended.
    FindingOutcome as "outcome" {
        Delivered = "delivered",
        /// A newer state of the same node took its place.
        Coalesced = "coalesced",
        /// There was nothing to tell the hub.
        Unchanged = "unchanged",
        Dead = "dead",
        /// Dropped by a person.
        Dropped = "dropped",
    }
}

label! {
    /// How a `BatchImportFindings` request ended.
    HubOutcome as "outcome" {
        Acknowledged = "acknowledged",
        /// Some of its findings were acknowledged.
        Partial = "partial",
        Invalid = "invalid",
        Throttled = "throttled",
        /// 5xx, timeout, or no connection.
        Unavailable = "unavailable",
        /// Refused until somebody acts: credentials, permission, hub off.
        Held = "held",
        /// An answer that doesn't say what became of the findings.
        Unknown = "unknown",
    }
}

label! {
    /// The operations of Systems Manager that ingest uses.
    SsmOperation as "operation" {
        ListResourceComplianceSummaries = "ListResourceComplianceSummaries",
        DescribeInstanceInformation = "DescribeInstanceInformation",
        DescribeInstancePatchStates = "DescribeInstancePatchStates",
        DescribeInstancePatches = "DescribeInstancePatches",
        ListAssociations = "ListAssociations",
        ListComplianceItems = "ListComplianceItems",
        DescribeInstanceAssociationsStatus = "DescribeInstanceAssociationsStatus",
    }
}

label! {
    /// How a request to Systems Manager or Cloud Control ended.
    SsmOutcome as "outcome" {
        Ok = "ok",
        Throttled = "throttled",
        /// Credentials or permission.
        Denied = "denied",
        Failed = "failed",
    }
}

label! {
    /// What became of a message with an event.
    EventOutcome as "outcome" {
        /// The node was read and its state accepted.
        Accepted = "accepted",
        /// A sweep that began later has seen the node.
        Swept = "swept",
        /// The node is gone, and that was accepted.
        Gone = "gone",
        /// Nothing that concerns patch compliance, or of a lane that is off as intended.
        Ignored = "ignored",
        /// Of an account and Region that aren't served here.
        Foreign = "foreign",
        /// No event at all: a dead letter.
        Malformed = "malformed",
        /// Nothing could be read yet: left in the queue, to come again.
        PutBack = "put_back",
        /// Put back too often: left to the sweeps.
        GivenUp = "given_up",
    }
}

label! {
    /// The operations of SQS that ingest uses.
    SqsOperation as "operation" {
        ReceiveMessage = "ReceiveMessage",
        DeleteMessageBatch = "DeleteMessageBatch",
        ChangeMessageVisibilityBatch = "ChangeMessageVisibilityBatch",
    }
}

label! {
    /// How a request to SQS ended.
    SqsOutcome as "outcome" {
        Ok = "ok",
        /// Some entries of the batch failed.
        Partial = "partial",
        Throttled = "throttled",
        /// Credentials, permission, or no such queue.
        Denied = "denied",
        Failed = "failed",
    }
}

label! {
    /// What a queue of events is doing.
    EventQueueState as "state" {
        Reading = "reading",
        /// Nothing is received while ingest is paused.
        Paused = "paused",
        /// SQS is out of reach; it is tried again.
        Unavailable = "unavailable",
        /// It can't be read until somebody acts.
        Held = "held",
    }
}

label! {
    /// How a hub differed from the ledger.
    DifferenceKind as "kind" {
        /// Open, but not in the hub, or archived there.
        Missing = "missing",
        /// Active in the hub, but resolved or unknown here.
        Orphaned = "orphaned",
        /// In another version than was told.
        Drifted = "drifted",
        /// Active in the hub beside the node's finding.
        Duplicate = "duplicate",
    }
}

label! {
    /// How a comparison of a hub with the ledger ended.
    ReconcileOutcome as "outcome" {
        Complete = "complete",
        Failed = "failed",
    }
}

label! {
    /// Why ingest takes nothing more.
    PauseReason as "reason" {
        /// The store's live bytes are at their limit.
        LiveBytes = "live_bytes",
        /// The file system runs out of space.
        FreeSpace = "free_space",
        Operator = "operator",
    }
}

label! {
    /// What of the store needs a person.
    StoreAlarm as "alarm" {
        /// A store that was found corrupt was set aside and may hold what waited in it.
        Quarantine = "quarantine",
        /// When it was opened, it was older than it was known to be.
        RolledBack = "rolled_back",
        /// Its file grows without what it holds.
        FileGrows = "file_grows",
    }
}

label! {
    /// What was put right on the way rather than refused.
    Correction as "kind" {
        /// A time in the future became the time of reading.
        FutureTime = "future_time",
        /// Counts didn't agree with the service's own verdict, which won.
        CountsOverruled = "counts_overruled",
        /// A count above 100,000, the most that ASFF takes.
        CountClamped = "count_clamped",
        /// A text or list was cut to the limit that ASFF sets.
        Truncated = "truncated",
    }
}

label! {
    /// What is known of a node.
    NodeVerdict as "verdict" {
        NonCompliant = "non_compliant",
        Compliant = "compliant",
        /// Managed, but no patch state was ever reported.
        NeverScanned = "never_scanned",
        /// Last reported too long ago to be believed.
        Stale = "stale",
    }
}

label! {
    /// Why a lane is held.
    HoldReason as "reason" {
        /// Missing or expired.
        Credentials = "credentials",
        /// The credentials are those of another account.
        ForeignAccount = "foreign_account",
        Permission = "permission",
        HubOff = "hub_off",
        /// The hub calls everything invalid.
        Rejecting = "rejecting",
    }
}
