//! The ledger: per node, what was seen, what the hub should hold, what it is known to hold.
//!
//! | row | key | tag | writer |
//! |---|---|---|---|
//! | [`Seen`] | `Seen`, lane, node | 0 | ingest |
//! | [`Desired`] | `Desired`, lane, node | 0, or 1 + severity while open | transform |
//! | [`Acked`] | `Acked`, lane, node | 0 | deliver |
//! | [`LaneRow`] | `Lane`, lane | 0 | ingest (read numbers), deliver (read-back), transform (parked) |
//!
//! The one exception to "one writer": the settlement that buries a rejected finding marks its
//! `desired` row, in the committer, so that any changed fact is tried again; and a read-back
//! adopts `desired` rows where the hub holds something newer.

use serde::{Deserialize, Serialize};

use super::outbox::Place;
use crate::{
    record::{Finding, Lane, ReadNumber, Receipt, Revision, Severity, Source, UnixMillis},
    store::keys::{Key, Table},
};

/// What ingest has last seen of a node: enough to know whether anything has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the node's compliance summary.
    pub fingerprint: u64,
    /// Of the part of the configuration that shows in findings.
    pub policy: u64,
    pub non_compliant: bool,
    /// When an observation of the node was last accepted.
    pub accepted_at: UnixMillis,
}

/// What the hub should hold for a node: the last decision of transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Of the newest observation that was judged; older ones are coalesced. Where the row was
    /// adopted from the hub: the first number that was given afterwards.
    pub read: ReadNumber,
    /// Of the newest version that was put in the outbox; 0 if the row was adopted from the hub.
    pub revision: Revision,
    pub finding: Finding,
    /// Of the facts whose change is worth telling; 0 if they are unknown (adopted from the hub).
    pub digest: u64,
    /// Where that version was put.
    pub place: Option<Place>,
    /// The hub called that version invalid: any changed fact is tried again.
    pub rejected: bool,
    pub decided_at: UnixMillis,
}

impl Desired {
    /// The row of a finding that the hub holds and this ledger didn't know, or not as new. What is
    /// read from `fresh` on is newer than the hub's state; of what was read before, that isn't
    /// known.
    pub(super) fn adopted(finding: Finding, fresh: ReadNumber, now: UnixMillis) -> Self {
        Self {
            read: fresh,
            revision: Revision(0),
            finding,
            digest: 0,
            place: None,
            rejected: false,
            decided_at: now,
        }
    }

    /// Whether the row is as the hub told it: no version of ours came after.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.revision == Revision(0)
    }

    /// Whether a newer state than that of `read` was judged here.
    #[must_use]
    pub fn outranks(&self, read: ReadNumber) -> bool {
        !self.is_adopted() && read < self.read
    }

    /// Whether what the hub holds may be newer than something that was read by `read` and
    /// happened at `at`, a point in time by AWS's clocks or ours. What can't be read again is
    /// never called outdated.
    #[must_use]
    pub fn outdates(&self, read: ReadNumber, at: UnixMillis, source: Source) -> bool {
        self.is_adopted()
            && read < self.read
            && source != Source::File
            && at < self.finding.updated_at
    }

    /// What can be known of the row without decoding it: 0, or 1 + severity while open.
    pub(super) fn tag(&self) -> u64 {
        if self.finding.state.is_open() { 1 + self.finding.severity as u64 } else { 0 }
    }
}

/// The open severity that a `desired` row's tag tells.
pub(super) fn open_severity(tag: u64) -> Option<Severity> {
    let index = tag.checked_sub(1)?;
    Severity::ALL.into_iter().find(|severity| *severity as u64 == index)
}

/// What the hub is known to hold for a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    pub receipt: Receipt,
}

/// Whether a lane's ledger has been completed from its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadBack {
    /// Nothing is sent or judged in the lane until its findings have been read back.
    Pending,
    Done {
        at: UnixMillis,
    },
    /// The hub may not be read: `UpdatedAt` starts at the time of decision instead.
    Denied {
        at: UnixMillis,
    },
    /// What the hub holds is known, or can't be; what was parked meanwhile is being judged.
    Releasing {
        denied: bool,
    },
}

impl ReadBack {
    /// Whether a page of the lane is parked rather than judged.
    #[must_use]
    pub fn parks(self, released: bool) -> bool {
        match self {
            Self::Pending => true,
            Self::Releasing { .. } => !released,
            Self::Done { .. } | Self::Denied { .. } => false,
        }
    }

    /// Whether it isn't known what the hub holds.
    #[must_use]
    pub fn is_denied(self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Releasing { denied: true })
    }
}

/// What is known of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRow {
    /// Read numbers up to and including this one may have been given.
    pub reads_reserved: u64,
    pub read_back: ReadBack,
    /// Its assessments in `Parked`.
    pub parked: i64,
}

impl Default for LaneRow {
    fn default() -> Self {
        Self { reads_reserved: 0, read_back: ReadBack::Pending, parked: 0 }
    }
}

fn node_key(table: Table, lane: &Lane, node: &str) -> Key {
    lane_key(table, lane).text(node)
}

pub(super) fn lane_key(table: Table, lane: &Lane) -> Key {
    Key::new(table).text(&lane.to_string())
}

pub(super) fn seen_key(lane: &Lane, node: &str) -> Key {
    node_key(Table::Seen, lane, node)
}

pub(super) fn desired_key(lane: &Lane, node: &str) -> Key {
    node_key(Table::Desired, lane, node)
}

pub(super) fn acked_key(lane: &Lane, node: &str) -> Key {
    node_key(Table::Acked, lane, node)
}

pub(super) fn absent_key(lane: &Lane, node: &str) -> Key {
    node_key(Table::Absent, lane, node)
}

pub(super) fn lane_row_key(lane: &Lane) -> Key {
    lane_key(Table::Lane, lane)
}
