//! Retiring a lane: what waits in it leaves for a file, then what is known of it is forgotten.
//!
//! Guarantees: an item counts as dropped in the commit that removes it, and is removed only as it
//! was read; every step can be cut and done again. The lane's own row goes last, so that a lane
//! that is half retired is still a lane that the store knows.
//!
//! Deliberately doesn't know: files, and whether the lane is served. The caller has seen to it that
//! nobody works in the lane.

use serde::Serialize;

use super::{
    Decided, QueueError, Queues, accounting as account,
    dead::{self, Place},
    details,
    ledger::{self, LaneRow},
    outbox::{self, Waiting},
    pages::Accepted,
    pause::PauseWhat,
    table_prefix,
    transition::Transition,
};
use crate::{
    record::{
        Assessment, DeadLetter, FindingId, Lane, PatchDetail, RecordState, UnixMillis,
        dead_letter::DeadItem,
        observation::{GoneReason, PatchList},
    },
    store::{
        Commit, Reader, StoreError, codec,
        keys::{Key, KeyFields, Table},
    },
};

/// Entries that one step takes.
const STEP_ENTRIES_MAX: usize = 250;

/// Where items of a lane wait to be judged.
const UPSTREAM: [Table; 3] = [Table::Observed, Table::Assessed, Table::Parked];
/// Where its findings wait, and what couldn't go on.
const DOWNSTREAM: [Table; 3] = [Table::Outbox, Table::Delayed, Table::Dead];
/// Tables whose keys don't begin with a lane, or that are emptied item by item.
const NOT_FORGOTTEN: [Table; 8] = [
    Table::Meta,
    Table::Pause,
    Table::Lane,
    Table::Observed,
    Table::Assessed,
    Table::Parked,
    Table::Outbox,
    Table::Delayed,
];

/// Which of a lane's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that aren't judged yet.
    Upstream,
    /// All.
    All,
}

/// One item that waits, as it is written to the file.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    pub queue: &'static str,
    pub lane: Lane,
    pub item: DeadItem,
    /// Of the item, as far as they are stored.
    pub patches: Vec<PatchDetail>,
}

/// Some entries of a lane's queues, as they were read.
#[derive(Debug, Default)]
pub struct LeftPage {
    pub items: Vec<Left>,
    entries: Vec<(Table, Key, Vec<u8>)>,
}

impl LeftPage {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Queues {
    /// The next entries that wait in a lane; empty if none do. What is dropped isn't found again.
    pub async fn left_in_lane(&self, lane: &Lane, which: Which) -> Result<LeftPage, QueueError> {
        let lane = lane.clone();
        Ok(self.store.read(move |reader| read_left(reader, &lane, which)).await?)
    }

    /// Drops entries as they were read; how many items they held. One that has changed since is
    /// left, to be found again. On disk when this returns.
    pub async fn drop_left(&self, lane: &Lane, page: LeftPage) -> Result<u64, QueueError> {
        let lane = lane.clone();
        self.transition(Commit::durable(page.entries.len()), move |step| {
            let mut items = 0;
            for (table, key, value) in page.entries {
                if step.tx.get(&key)?.as_ref() == Some(&value) {
                    items += drop_one(step, &lane, table, &key, &value)?;
                }
            }
            step.add(account::DROPPED, i64::try_from(items).unwrap_or(i64::MAX));
            Ok(items)
        })
        .await
    }

    /// Has every open finding of a lane closed: it waits in the outbox as archived, in the place of
    /// a version that waited there. How many.
    pub async fn close_open(&self, lane: &Lane) -> Result<u64, QueueError> {
        let mut closed = 0;
        let mut from = ledger::lane_key(Table::Desired, lane);
        loop {
            let (prefix, begin) = (ledger::lane_key(Table::Desired, lane), from.clone());
            let rows = self
                .store
                .read(move |reader| reader.page(&prefix, &begin, STEP_ENTRIES_MAX))
                .await?;
            let Some((last, _)) = rows.last() else { return Ok(closed) };
            from = last.successor();
            let lane = lane.clone();
            closed += self
                .transition(Commit::durable(rows.len()), move |step| {
                    let mut closed = 0;
                    for (key, _) in rows {
                        closed += u64::from(close_one(step, &lane, &key)?);
                    }
                    Ok(closed)
                })
                .await?;
        }
    }

    /// Forgets what is known of a lane in which nothing waits. On disk when this returns.
    pub async fn forget_lane(&self, lane: &Lane) -> Result<(), QueueError> {
        for table in Table::ALL.into_iter().filter(|table| !NOT_FORGOTTEN.contains(table)) {
            loop {
                let prefix = ledger::lane_key(table, lane);
                let rows = self
                    .store
                    .read(move |reader| reader.page(&prefix, &prefix, STEP_ENTRIES_MAX))
                    .await?;
                if rows.is_empty() {
                    break;
                }
                let lane = lane.clone();
                self.transition(Commit::hand_off(rows.len()), move |step| {
                    for (key, _) in rows {
                        forget_row(step, &lane, table, &key)?;
                    }
                    Ok(())
                })
                .await?;
            }
        }
        for what in PauseWhat::ALL {
            self.resume(what, Some(lane.clone())).await?;
        }
        let lane = lane.clone();
        self.transition(Commit::durable(1), move |step| {
            step.tx.remove(&ledger::lane_row_key(&lane))?;
            step.effects.forgotten.push(lane);
            Ok(())
        })
        .await
    }
}

fn read_left(reader: &Reader<'_>, lane: &Lane, which: Which) -> Result<LeftPage, StoreError> {
    let downstream = if which == Which::All { &DOWNSTREAM[..] } else { &[] };
    let mut page = LeftPage::default();
    for table in UPSTREAM.iter().chain(downstream) {
        let own_prefix = !matches!(table, Table::Observed | Table::Assessed);
        let prefix = if own_prefix { ledger::lane_key(*table, lane) } else { table_prefix(*table) };
        reader.visit(&prefix, &prefix, |key, value| {
            if own_prefix || lane_of_page(key).as_ref() == Some(lane) {
                page.entries.push((*table, Key::from_bytes(key.to_vec()), value.to_vec()));
            }
            page.entries.len() < STEP_ENTRIES_MAX
        })?;
        if page.entries.len() >= STEP_ENTRIES_MAX {
            break;
        }
    }
    for (table, _, value) in &page.entries {
        for item in items(*table, value) {
            let patches = stored_patches(reader, lane, &item)?;
            let queue = name(*table);
            page.items.push(Left { queue, lane: lane.clone(), item, patches });
        }
    }
    Ok(page)
}

/// Of a key of `Observed` or `Assessed`.
fn lane_of_page(key: &[u8]) -> Option<Lane> {
    let mut fields = KeyFields::of(key);
    fields.u64()?;
    fields.text()?.parse().ok()
}

fn name(table: Table) -> &'static str {
    match table {
        Table::Observed => "observed",
        Table::Assessed => "assessed",
        Table::Parked => "parked",
        Table::Outbox => "outbox",
        Table::Delayed => "delayed",
        _ => "dead",
    }
}

/// What an entry holds; its bytes if they don't decode.
fn items(table: Table, value: &[u8]) -> Vec<DeadItem> {
    let decoded = match table {
        Table::Observed => codec::decode::<Vec<Accepted>>(value).map(|(_, page)| {
            let items = page.into_iter().map(|accepted| DeadItem::Observation {
                accepted_at: accepted.at,
                observation: Box::new(accepted.observation),
            });
            items.collect()
        }),
        Table::Assessed => codec::decode::<Vec<Assessment>>(value).map(|(_, page)| {
            page.into_iter().map(|it| DeadItem::Assessment(Box::new(it))).collect()
        }),
        Table::Parked => codec::decode::<Assessment>(value)
            .map(|(_, assessment)| vec![DeadItem::Assessment(Box::new(assessment))]),
        Table::Dead => codec::decode::<DeadLetter>(value).map(|(_, letter)| vec![letter.item]),
        _ => codec::decode::<Waiting>(value)
            .map(|(_, waiting)| vec![DeadItem::Finding(Box::new(waiting.finding))]),
    };
    decoded.unwrap_or_else(|_| {
        vec![DeadItem::Raw { kept: value.to_vec(), total_bytes: value.len() as u64 }]
    })
}

fn list_of(item: &DeadItem) -> Option<&PatchList> {
    dead::patches_of(item)
}

fn stored_patches(
    reader: &Reader<'_>,
    lane: &Lane,
    item: &DeadItem,
) -> Result<Vec<PatchDetail>, StoreError> {
    let Some(list) = list_of(item) else { return Ok(Vec::new()) };
    match details::read(reader, lane, super::readmit::node_of(item), list) {
        Ok(patches) => Ok(patches),
        Err(QueueError::Store(error)) => Err(error),
        Err(QueueError::Decode(_)) => Ok(Vec::new()),
    }
}

/// Removes an entry; how many items it counted.
fn drop_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    table: Table,
    key: &Key,
    value: &[u8],
) -> Result<u64, StoreError> {
    let items = items(table, value);
    for item in &items {
        details::remove(step.tx, lane, super::readmit::node_of(item), list_of(item))?;
    }
    let page_items = || codec::tag(value).unwrap_or(0);
    match table {
        Table::Observed | Table::Assessed => {
            let queue =
                if table == Table::Observed { account::OBSERVED } else { account::ASSESSED };
            step.tx.remove(key)?;
            step.add(queue, -i64::try_from(page_items()).unwrap_or(i64::MAX));
            Ok(page_items())
        }
        Table::Parked => {
            step.tx.remove(key)?;
            step.add(account::PARKED, -1);
            let row = step.lane_row(lane)?;
            step.put_lane_row(lane, &LaneRow { parked: row.parked - 1, ..row })?;
            Ok(1)
        }
        Table::Outbox => {
            step.remove_waiting(lane, key)?;
            Ok(1)
        }
        Table::Delayed => {
            if let Ok((_, waiting)) = codec::decode::<Waiting>(value) {
                let node = waiting.finding.node.as_str();
                step.tx.remove(&outbox::delayed_index_key(lane, node, waiting.place))?;
            }
            step.tx.remove(key)?;
            step.add(account::DELAYED, -1);
            step.effects.lane(lane).delayed -= 1;
            Ok(1)
        }
        _ => {
            let Some(place) = Place::of(key.as_bytes()) else { return Ok(0) };
            step.remove_letter(key, value, place.stage, place.reason)
        }
    }
}

/// Whether there was something to close.
fn close_one(step: &mut Transition<'_, '_>, lane: &Lane, key: &Key) -> Result<bool, StoreError> {
    let mut fields = KeyFields::of(key.as_bytes());
    let Some(node) = fields.text().and_then(|_lane| fields.text()) else { return Ok(false) };
    let Some(old) = step.desired(lane, node)?.filter(|row| row.finding.state.is_open()) else {
        return Ok(false);
    };
    let now = step.now();
    let updated_at = now.max(UnixMillis(old.finding.updated_at.0 + 1));
    let state = RecordState::Gone(GoneReason::LaneRetired);
    let finding = old.finding.closed(state, updated_at, now);
    let coalesces = finding.id == FindingId::Node;
    step.add(account::ACCEPTED, 1);
    let decided = Decided { finding, read: old.read, digest: old.digest, coalesces };
    step.send(lane, Some(&old), decided)?;
    Ok(true)
}

fn forget_row(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    table: Table,
    key: &Key,
) -> Result<(), StoreError> {
    if table == Table::Desired {
        let tag = step.tx.get(key)?.and_then(|value| codec::tag(&value).ok());
        if let Some(severity) = tag.and_then(ledger::open_severity) {
            step.effects.lane(lane).open[severity as usize] -= 1;
        }
    }
    step.tx.remove(key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::pages;

    #[test]
    fn every_table_of_a_lane_is_emptied_item_by_item_or_forgotten() {
        for table in Table::ALL {
            let item_by_item = UPSTREAM.contains(&table) || DOWNSTREAM.contains(&table);
            let forgotten = !NOT_FORGOTTEN.contains(&table);
            let kept = matches!(table, Table::Meta | Table::Pause | Table::Lane);
            assert!(item_by_item || forgotten || kept, "{table:?}");
        }
        assert_eq!(
            lane_of_page(pages::fifo_key(Table::Observed, 7, &sample()).as_bytes()),
            Some(sample())
        );
    }

    fn sample() -> Lane {
        "111122223333/us-east-1".parse().unwrap()
    }
}
