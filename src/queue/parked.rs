//! Parked: assessments of a lane that is being read back, which may not be judged before what
//! the hub holds is known.
//!
//! Key: `Parked`, lane, node, read number, or 0 where a node's states coalesce. So a hub that is
//! off for days parks at most one assessment per node, the newest.
//!
//! A read-back ends by releasing them ([`ReadBack::Releasing`]): released pages return to
//! `assessed`, marked as such in their keys, and are judged; every other page of the lane is
//! still parked, until nothing is. So nothing that arrives meanwhile is judged before an older
//! state of the same node.

use super::{
    QueueError, Queues, accounting as account,
    dead::Death,
    details,
    ledger::{self, LaneRow, ReadBack},
    pages,
    transition::Transition,
};
use crate::{
    failpoint::{self, FailPoint},
    record::{Assessment, Lane, Stage},
    store::{
        Commit, Entry, StoreError, codec,
        keys::{Key, Table},
    },
};

/// Assessments that one commit of a release moves.
const STEP_ITEMS_MAX: usize = 500;

/// Parks assessments of a lane whose row the caller has read, and writes the row.
pub(super) fn park(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    mut row: LaneRow,
    items: Vec<Assessment>,
    coalesces: bool,
) -> Result<(), StoreError> {
    let before = row.parked;
    for assessment in items {
        park_one(step, lane, &mut row, &assessment, coalesces)?;
    }
    if row.parked == before { Ok(()) } else { step.put_lane_row(lane, &row) }
}

fn park_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    row: &mut LaneRow,
    assessment: &Assessment,
    coalesces: bool,
) -> Result<(), StoreError> {
    let read = if coalesces { 0 } else { assessment.read.0 };
    let key = key(lane, assessment.node.as_str(), read);
    let Some(bytes) = step.tx.get(&key)? else {
        row.parked += 1;
        step.add(account::PARKED, 1);
        return step.tx.put(&key, codec::encode(1, assessment));
    };
    let older = match codec::decode::<Assessment>(&bytes) {
        Ok((_, older)) => older,
        Err(error) => {
            let message = error.to_string();
            let node = assessment.node.as_str();
            let death = Death::undecodable(node, Stage::Transform, &message, &bytes, 1);
            step.bury(lane, death)?;
            return step.tx.put(&key, codec::encode(1, assessment));
        }
    };
    step.add(account::COALESCED, 1);
    let superseded = if older.read > assessment.read { assessment } else { &older };
    let patches = superseded.facts.patches.as_ref();
    details::remove(step.tx, lane, assessment.node.as_str(), patches)?;
    if older.read > assessment.read {
        return Ok(());
    }
    step.tx.put(&key, codec::encode(1, assessment))
}

impl Queues {
    /// Returns what is parked in a lane to where transform finds it, until nothing is; then the
    /// read-back is done. Does nothing in a lane that isn't releasing.
    pub async fn release_parked(&self, lane: &Lane) -> Result<(), QueueError> {
        let mut missing = None;
        loop {
            let prefix = ledger::lane_key(Table::Parked, lane);
            let parked = self
                .store
                .read(move |reader| reader.page(&prefix, &prefix, STEP_ITEMS_MAX))
                .await?;
            let none_there = parked.is_empty();
            let left = self.release_step(lane, parked, missing).await?;
            let Some(left) = left else { return Ok(()) };
            // Counted, but not there: parked since the look, or, if the next look doesn't find
            // them either, a count that is wrong.
            missing = none_there.then_some(left);
            failpoint::reach(FailPoint::Unparking);
        }
    }

    /// Releases what was read; how many are parked then, or `None` if the read-back is done.
    async fn release_step(
        &self,
        lane: &Lane,
        parked: Vec<Entry>,
        missing: Option<i64>,
    ) -> Result<Option<i64>, QueueError> {
        let (lane, at) = (lane.clone(), self.clock.now());
        self.transition(Commit::hand_off(parked.len()), move |step| {
            let row = step.lane_row(&lane)?;
            let ReadBack::Releasing { denied } = row.read_back else { return Ok(None) };
            let miscounted = parked.is_empty() && missing == Some(row.parked);
            if row.parked <= 0 || miscounted {
                if miscounted {
                    tracing::error!(%lane, counted = row.parked, "assessments that were parked are not there, a defect: run `patchferry store verify`");
                }
                let read_back = if denied { ReadBack::Denied { at } } else { ReadBack::Done { at } };
                step.put_lane_row(&lane, &LaneRow { read_back, parked: 0, ..row })?;
                return Ok(None);
            }
            let left = release(step, &lane, row, parked)?;
            Ok(Some(left))
        })
        .await
    }
}

fn release(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    mut row: LaneRow,
    parked: Vec<Entry>,
) -> Result<i64, StoreError> {
    let mut items: Vec<Assessment> = Vec::with_capacity(parked.len());
    for (key, _) in parked {
        // What was read may have been replaced meanwhile.
        let Some(bytes) = step.tx.get(&key)? else { continue };
        step.tx.remove(&key)?;
        row.parked -= 1;
        step.add(account::PARKED, -1);
        match codec::decode(&bytes) {
            Ok((_, assessment)) => items.push(assessment),
            Err(error) => {
                let name = format!("(parked {:08x})", crc32fast::hash(key.as_bytes()));
                let message = error.to_string();
                step.bury(lane, Death::undecodable(&name, Stage::Transform, &message, &bytes, 1))?;
            }
        }
    }
    items.sort_by_key(|assessment| assessment.read);
    for (page, count) in pages::paginate(&items) {
        let key = pages::released_key(step.tx.next_sequence(), lane);
        step.tx.insert_new(&key, page)?;
        step.add(account::ASSESSED, count);
    }
    step.effects.assessed = true;
    step.put_lane_row(lane, &row)?;
    Ok(row.parked)
}

fn key(lane: &Lane, node: &str, read: u64) -> Key {
    ledger::lane_key(Table::Parked, lane).text(node).u64(read)
}
