//! The outbox: findings that wait for delivery, per lane, and those that wait for their time.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Outbox` | lane, priority, place | [`Waiting`], tag = revision |
//! | `Delayed` | lane, due (ms), place | [`Waiting`], tag = revision |
//! | `DelayedIndex` | lane, node, place | due |
//!
//! A finding is in one of the two, never in both. Its place is given once and kept: a newer
//! version takes the place of the one that waits, and a retry returns to its own. Priority is
//! the higher of the old and the new severity, so that resolves of severe findings leave early.

use serde::{Deserialize, Serialize};

use super::ledger::lane_key;
use crate::{
    record::{Attempts, Finding, Lane, Revision, Severity, UnixMillis},
    store::{
        codec::{self, DecodeError},
        keys::{Key, KeyFields, Table},
    },
};

/// Order within a lane: the most severe first, then the one that has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    priority: u8,
    number: u64,
}

impl Place {
    pub fn new(severity: Severity, number: u64) -> Self {
        Self { priority: priority(severity), number }
    }

    /// The same place in the line, at the higher of its own and `severity`'s priority.
    #[must_use]
    pub fn raised_to(self, severity: Severity) -> Self {
        Self { priority: self.priority.min(priority(severity)), ..self }
    }

    /// The same place in the line, at `severity`'s priority.
    #[must_use]
    pub fn at(self, severity: Severity) -> Self {
        Self { priority: priority(severity), ..self }
    }
}

/// 0 is the first to leave.
fn priority(severity: Severity) -> u8 {
    Severity::Critical as u8 - severity as u8
}

/// A finding in the outbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub revision: Revision,
    pub place: Place,
    /// When the place in the line was taken; a newer version keeps it.
    pub since: UnixMillis,
    /// Requests that carried this version and whose outcome was settled.
    pub attempts: u32,
    pub first_sent_at: Option<UnixMillis>,
    /// Requests that carried this version and failed, as far as a settlement has noted them.
    pub failures: Attempts,
    pub finding: Finding,
}

impl Waiting {
    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self.revision.0, self)
    }
}

/// A finding claimed for sending. It stays in the outbox until it is settled.
#[derive(Clone, Debug)]
pub struct ClaimedFinding {
    pub key: Key,
    pub waiting: Waiting,
}

/// An outbox entry whose bytes don't decode.
#[derive(Clone, Debug)]
pub struct Undecodable {
    pub key: Key,
    pub error: DecodeError,
    pub bytes: Vec<u8>,
}

pub(super) fn outbox_key(lane: &Lane, place: Place) -> Key {
    lane_key(Table::Outbox, lane).u8(place.priority).u64(place.number)
}

pub(super) fn delayed_key(lane: &Lane, due: UnixMillis, place: Place) -> Key {
    let due_ms = u64::try_from(due.0).unwrap_or(0);
    lane_key(Table::Delayed, lane).u64(due_ms).u64(place.number)
}

pub(super) fn delayed_index_key(lane: &Lane, node: &str, place: Place) -> Key {
    lane_key(Table::DelayedIndex, lane).text(node).u64(place.number)
}

/// When a delayed entry is due, from its key.
pub(super) fn due_of(key: &Key) -> Option<UnixMillis> {
    let mut fields = KeyFields::of(key.as_bytes());
    fields.text()?;
    let due_ms = fields.u64()?;
    Some(UnixMillis(i64::try_from(due_ms).ok()?))
}

/// The lane of a key whose first field is one.
pub(super) fn lane_of(key: &[u8]) -> Option<Lane> {
    KeyFields::of(key).text()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_sorts_first_and_within_a_severity_the_oldest() {
        let lane: Lane = "111122223333/us-east-1".parse().unwrap();
        let key = |severity, number| outbox_key(&lane, Place::new(severity, number));
        assert!(key(Severity::Critical, 9) < key(Severity::High, 1));
        assert!(key(Severity::Low, 1) < key(Severity::Low, 2));
        let resolve = Place::new(Severity::Critical, 5).raised_to(Severity::Informational);
        assert_eq!(outbox_key(&lane, resolve), key(Severity::Critical, 5));
    }
}
