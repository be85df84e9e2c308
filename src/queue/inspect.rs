//! Looking at the queues without changing them: counts at start, ages, recounts.

use super::{
    QueueError, Queues,
    accounting::{self, Accounting, Recount},
    dead,
    lanes::Effects,
    ledger::{self, Acked, Desired},
    outbox::{self, Waiting},
    pages, table_prefix,
};
use crate::{
    record::{Lane, Severity, UnixMillis},
    store::{
        Entry, Reader, StoreError, codec,
        keys::{Key, Table},
    },
};

/// Since when the oldest item of each queue has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueAges {
    pub observed: Option<UnixMillis>,
    pub assessed: Option<UnixMillis>,
}

impl Queues {
    /// Totals as of the last commit.
    pub fn accounting(&self) -> Accounting {
        accounting::of(&self.store.counters())
    }

    /// `queued` and `dead`, counted anew while nothing is committed: for tests and proofs, it holds
    /// everybody up for as long as reading all queues takes.
    pub async fn recount(&self) -> Result<Recount, QueueError> {
        Ok(self.store.hold(accounting::recount).await??)
    }

    pub async fn ages(&self) -> Result<QueueAges, QueueError> {
        let ages = self
            .store
            .read(|reader| {
                let first = |table| -> Result<Option<Entry>, StoreError> {
                    let prefix = table_prefix(table);
                    Ok(reader.page(&prefix, &prefix, 1)?.pop())
                };
                Ok(QueueAges {
                    observed: first(Table::Observed)?.and_then(observed_since),
                    assessed: first(Table::Assessed)?.and_then(assessed_since),
                })
            })
            .await?;
        Ok(ages)
    }

    /// Since when the finding that has waited longest in a lane's outbox has waited, whatever
    /// its severity; delayed ones included.
    pub async fn oldest_in_lane(&self, lane: &Lane) -> Result<Option<UnixMillis>, QueueError> {
        let lane = lane.clone();
        let oldest = self
            .store
            .read(move |reader| {
                let outbox = ledger::lane_key(Table::Outbox, &lane);
                let mut prefixes: Vec<Key> = (0..Severity::ALL.len())
                    .map(|priority| outbox.clone().u8(u8::try_from(priority).unwrap_or(u8::MAX)))
                    .collect();
                prefixes.push(ledger::lane_key(Table::Delayed, &lane));
                let mut oldest: Option<UnixMillis> = None;
                for prefix in prefixes {
                    let Some((_, value)) = reader.page(&prefix, &prefix, 1)?.pop() else {
                        continue;
                    };
                    let Ok((_, waiting)) = codec::decode::<Waiting>(&value) else { continue };
                    oldest = Some(oldest.map_or(waiting.since, |old| old.min(waiting.since)));
                }
                Ok(oldest)
            })
            .await?;
        Ok(oldest)
    }

    /// The ledger of one node: what the hub should hold, and what it is known to hold.
    pub async fn ledger(
        &self,
        lane: &Lane,
        node: &str,
    ) -> Result<(Option<Desired>, Option<Acked>), QueueError> {
        let (lane, node) = (lane.clone(), node.to_string());
        let (desired, acked) = self
            .store
            .read(move |reader| {
                Ok((
                    reader.get(&ledger::desired_key(&lane, &node))?,
                    reader.get(&ledger::acked_key(&lane, &node))?,
                ))
            })
            .await?;
        let desired = desired.map(|bytes| codec::decode(&bytes)).transpose()?;
        let acked = acked.map(|bytes| codec::decode(&bytes)).transpose()?;
        Ok((desired.map(|(_, row)| row), acked.map(|(_, row)| row)))
    }
}

fn observed_since((key, value): Entry) -> Option<UnixMillis> {
    let page = pages::claimed::<pages::Accepted>(key, value)?;
    Some(page.items.ok()?.first()?.at)
}

fn assessed_since((key, value): Entry) -> Option<UnixMillis> {
    let page = pages::claimed::<crate::record::Assessment>(key, value)?;
    Some(page.items.ok()?.first()?.accepted_at)
}

/// Everything that is held in memory, from one scan of each table that tells it.
pub(super) fn count_all(reader: &Reader<'_>) -> Result<Effects, StoreError> {
    let mut effects = Effects { observed: true, assessed: true, ..Effects::default() };
    scan(reader, Table::Lane, |key, _| {
        if let Some(lane) = outbox::lane_of(key) {
            effects.lane(&lane);
        }
    })?;
    scan(reader, Table::Outbox, |key, _| {
        if let Some(lane) = outbox::lane_of(key) {
            effects.lane(&lane).outbox += 1;
        }
    })?;
    scan(reader, Table::Delayed, |key, _| {
        if let Some(lane) = outbox::lane_of(key) {
            effects.lane(&lane).delayed += 1;
        }
    })?;
    scan(reader, Table::Desired, |key, value| {
        let severity = codec::tag(value).ok().and_then(ledger::open_severity);
        if let (Some(lane), Some(severity)) = (outbox::lane_of(key), severity) {
            effects.lane(&lane).open[severity as usize] += 1;
        }
    })?;
    scan(reader, Table::Dead, |key, value| {
        let count = codec::tag(value).map_or(0, |tag| i64::try_from(tag).unwrap_or(i64::MAX));
        if let Some(place) = dead::Place::of(key) {
            effects.lane(&place.lane);
            *effects.dead.entry((place.stage, place.reason)).or_default() += count;
        }
    })?;
    Ok(effects)
}

fn scan(
    reader: &Reader<'_>,
    table: Table,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let prefix = table_prefix(table);
    reader.visit(&prefix, &prefix, |key, value| {
        visit(key, value);
        true
    })
}
