//! Tenure: whether what a store says of its lanes can still be the newest that their hubs were
//! told.
//!
//! It can where this store's owner was at work all the time. It may not where nobody was for
//! longer than a lease: the lane may have been another machine's meanwhile, or the machine was set
//! back to an earlier state, store and all. So a lane is read back from its hub ([`adopt`]) before
//! anything is judged or sent in it:
//!
//! | when | which lanes |
//! |---|---|
//! | a start, longer than a lease after the last sign of life | all |
//! | a start after another boot of the machine, or on another machine | all |
//! | a start where lanes move between machines, or did at the last one (lease 0) | all |
//! | a start, any | those that this start doesn't serve, once they are served again |
//! | in between, when a lane's task finds that it hasn't looked for longer than a lease | that one |
//!
//! The last sign of life is a row of its own (`Tenure`, no fields), written anew every minute, so
//! an idle store stays idle. What a lease can't see: two owners at the same time, and a store
//! that is set back to less than a lease ago without a boot.
//!
//! [`adopt`]: super::adopt

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    QueueError, Queues,
    ledger::{LaneRow, ReadBack},
    outbox, table_prefix,
    transition::Transition,
};
use crate::{
    record::{Lane, UnixMillis},
    store::{
        Commit, StoreError, codec,
        keys::{Key, Table},
    },
};

/// The last sign of life of a store's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    pub alive_at: UnixMillis,
    pub boot: Boot,
    /// Without a lease: lanes moved between machines then, and may have since.
    pub unleased: bool,
}

/// Who is at work, and how long it may be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub boot: Boot,
    pub lease: Duration,
}

/// Tells one boot of a machine from every other boot of any; 0 where that isn't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(pub u64);

/// Why the ledger may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// Nothing says when its owner was last at work.
    Unknown,
    /// The owner was last at work longer ago than a lease, or in the future.
    Absent { since: UnixMillis },
    /// The owner was last at work on another machine, or before this one was booted.
    OtherBoot { since: UnixMillis },
    /// No absence is short enough.
    NoLease,
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("it isn't known until when this store was in use"),
            Self::Absent { since } => write!(f, "this store was last in use at {since}"),
            Self::OtherBoot { since } => write!(
                f,
                "this store was last in use at {since}, before this boot or on another machine"
            ),
            Self::NoLease => f.write_str("lanes are divided among machines"),
        }
    }
}

impl Tenure {
    /// Why the tenure has lapsed by `now`, if it has.
    #[must_use]
    pub fn lapse(last: Option<Self>, now: UnixMillis, owner: Owner) -> Option<Lapse> {
        let Some(Self { alive_at: since, boot, unleased }) = last else {
            return Some(Lapse::Unknown);
        };
        if owner.lease.is_zero() || unleased {
            Some(Lapse::NoLease)
        } else if boot != owner.boot {
            Some(Lapse::OtherBoot { since })
        } else if now.since(since).max(since.since(now)) > owner.lease {
            Some(Lapse::Absent { since })
        } else {
            None
        }
    }
}

/// What the beginning of a tenure has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// Why lanes are to be read back, if they are.
    pub lapse: Option<Lapse>,
    /// Served lanes that had a complete ledger and are to be read back.
    pub read_back: usize,
    /// Lanes that the store knows and this start doesn't serve.
    pub left: usize,
}

impl Queues {
    /// Begins a tenure over the lanes in `served`, before anything is judged or sent. On disk when
    /// this returns.
    pub async fn take_up(&self, served: Vec<Lane>, owner: Owner) -> Result<TakenUp, QueueError> {
        let prefix = table_prefix(Table::Lane);
        let rows = self.store.read(move |reader| reader.page(&prefix, &prefix, usize::MAX)).await?;
        let known: Vec<Lane> =
            rows.iter().filter_map(|(key, _)| outbox::lane_of(key.as_bytes())).collect();
        self.transition(Commit::durable(known.len() + 1), move |step| {
            let lapse = Tenure::lapse(step.tenure()?, step.now(), owner);
            let mut taken = TakenUp { lapse, ..TakenUp::default() };
            for lane in known {
                let is_served = served.contains(&lane);
                taken.left += usize::from(!is_served);
                let wanted = lapse.is_some() || !is_served;
                if wanted && step.want_read_back(&lane)? {
                    taken.read_back += usize::from(is_served);
                }
            }
            step.keep_tenure(owner)?;
            Ok(taken)
        })
        .await
    }

    /// Notes that the owner is at work. Not flushed: one that is lost makes the absence look
    /// longer.
    pub async fn keep_tenure(&self, owner: Owner) -> Result<(), QueueError> {
        self.transition(Commit::hand_off(1), move |step| step.keep_tenure(owner)).await
    }
}

impl Transition<'_, '_> {
    fn tenure(&self) -> Result<Option<Tenure>, StoreError> {
        self.row(&key())
    }

    fn keep_tenure(&mut self, owner: Owner) -> Result<(), StoreError> {
        let Owner { boot, lease } = owner;
        let tenure = Tenure { alive_at: self.now, boot, unleased: lease.is_zero() };
        self.tx.put(&key(), codec::encode(0, &tenure))
    }

    /// Whether the lane's ledger was complete until now.
    fn want_read_back(&mut self, lane: &Lane) -> Result<bool, StoreError> {
        let row = self.lane_row(lane)?;
        if row.read_back == ReadBack::Pending {
            return Ok(false);
        }
        self.put_lane_row(lane, &LaneRow { read_back: ReadBack::Pending, ..row })?;
        Ok(true)
    }
}

fn key() -> Key {
    Key::new(Table::Tenure)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { boot: Boot(7), lease: Duration::from_secs(300) };

    fn tenure(alive_at: i64, boot: u64) -> Tenure {
        Tenure { alive_at: UnixMillis(alive_at), boot: Boot(boot), unleased: false }
    }

    fn lapse(alive_at: i64, boot: u64, now: i64) -> Option<Lapse> {
        Tenure::lapse(Some(tenure(alive_at, boot)), UnixMillis(now), OWNER)
    }

    #[test]
    fn a_short_absence_within_one_boot_is_none() {
        assert_eq!(lapse(1_000_000, 7, 1_300_000), None);
        assert_eq!(lapse(1_300_000, 7, 1_000_000), None);
    }

    #[test]
    fn a_long_absence_another_boot_and_a_clock_that_was_moved_are_told_apart() {
        let since = UnixMillis(1_000_000);
        assert_eq!(lapse(1_000_000, 7, 1_300_001), Some(Lapse::Absent { since }));
        assert_eq!(lapse(1_000_000, 7, 600_000), Some(Lapse::Absent { since }));
        assert_eq!(lapse(1_000_000, 8, 1_000_001), Some(Lapse::OtherBoot { since }));
    }

    #[test]
    fn without_a_lease_or_a_sign_of_life_every_start_reads_back() {
        let now = UnixMillis(1_000_000);
        let last = tenure(now.0, 7);
        let without = Owner { lease: Duration::ZERO, ..OWNER };
        assert_eq!(Tenure::lapse(Some(last), now, without), Some(Lapse::NoLease));
        let then = Tenure { unleased: true, ..last };
        assert_eq!(Tenure::lapse(Some(then), now, OWNER), Some(Lapse::NoLease));
        assert_eq!(Tenure::lapse(None, now, OWNER), Some(Lapse::Unknown));
    }
}
