//! The accounting identity: where everything that was ever accepted is.
//!
//! `accepted = delivered + coalesced + unchanged + dead + dropped + queued` holds at every
//! commit, because the counters move in the same batch as the items. `queued` and `dead` have
//! counters of their own, moved by the queues' inserts and removes; [`recount`] counts them anew
//! from what is stored. Neither is ever derived from the identity.

use serde::{Deserialize, Serialize};

use crate::store::{
    CounterId, Counters, Held, StoreError, codec,
    keys::{Key, Table},
};

pub(super) const ACCEPTED: CounterId = CounterId(0);
pub(super) const DELIVERED: CounterId = CounterId(1);
pub(super) const COALESCED: CounterId = CounterId(2);
pub(super) const UNCHANGED: CounterId = CounterId(3);
pub(super) const DEAD: CounterId = CounterId(4);
pub(super) const DROPPED: CounterId = CounterId(5);
pub(super) const OBSERVED: CounterId = CounterId(6);
pub(super) const ASSESSED: CounterId = CounterId(7);
pub(super) const OUTBOX: CounterId = CounterId(8);
pub(super) const DELAYED: CounterId = CounterId(9);
pub(super) const PARKED: CounterId = CounterId(10);

/// Items in each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    pub observed: i64,
    pub assessed: i64,
    pub outbox: i64,
    pub delayed: i64,
    pub parked: i64,
}

impl Queued {
    pub fn total(&self) -> i64 {
        self.observed + self.assessed + self.outbox + self.delayed + self.parked
    }
}

/// Totals since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    pub accepted: i64,
    pub delivered: i64,
    pub coalesced: i64,
    pub unchanged: i64,
    pub dead: i64,
    pub dropped: i64,
    pub queued: Queued,
}

impl Accounting {
    /// Items that are unaccounted for; anything but 0 is a defect.
    pub fn imbalance(&self) -> i64 {
        self.accepted
            - self.delivered
            - self.coalesced
            - self.unchanged
            - self.dead
            - self.dropped
            - self.queued.total()
    }
}

/// As a store's counters say.
pub(super) fn of(counters: &Counters) -> Accounting {
    let of = |counter: CounterId| counters[usize::from(counter.0)];
    Accounting {
        accepted: of(ACCEPTED),
        delivered: of(DELIVERED),
        coalesced: of(COALESCED),
        unchanged: of(UNCHANGED),
        dead: of(DEAD),
        dropped: of(DROPPED),
        queued: Queued {
            observed: of(OBSERVED),
            assessed: of(ASSESSED),
            outbox: of(OUTBOX),
            delayed: of(DELAYED),
            parked: of(PARKED),
        },
    }
}

/// `queued` and `dead`, counted from what is stored, and what the counters say at that instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    pub queued: Queued,
    pub dead: i64,
    pub accounting: Accounting,
}

impl Recount {
    /// Whether the counters say what is stored; anything else is a defect.
    pub fn agrees(&self) -> bool {
        (self.queued, self.dead) == (self.accounting.queued, self.accounting.dead)
    }
}

/// Reads every queue while nothing is committed.
pub(super) fn recount(held: &Held<'_>) -> Result<Recount, StoreError> {
    let reader = held.reader();
    let entries = |table| -> Result<i64, StoreError> {
        let mut count = 0;
        let prefix = Key::new(table);
        reader.visit(&prefix, &prefix, |_, _| {
            count += 1;
            held.gets_on();
            true
        })?;
        Ok(count)
    };
    let tags = |table| -> Result<i64, StoreError> {
        let mut count = 0;
        let prefix = Key::new(table);
        reader.visit(&prefix, &prefix, |_, value| {
            count += codec::tag(value).map_or(0, |tag| i64::try_from(tag).unwrap_or(i64::MAX));
            held.gets_on();
            true
        })?;
        Ok(count)
    };
    Ok(Recount {
        queued: Queued {
            observed: tags(Table::Observed)?,
            assessed: tags(Table::Assessed)?,
            outbox: entries(Table::Outbox)?,
            delayed: entries(Table::Delayed)?,
            parked: entries(Table::Parked)?,
        },
        dead: tags(Table::Dead)?,
        accounting: of(&held.counters()),
    })
}
