//! Forgetting: ledger rows that nobody needs any more.
//!
//! | row | removed |
//! |---|---|
//! | `desired` | 35 days after its finding was resolved: Security Hub keeps ARCHIVED ones for 30 |
//! | `acked`, its receipt | when it is older than receipts are kept and no finding is open |
//! | `dead_history` | when it is older than receipts are kept and the node has no dead letter |
//! | `absent` | 35 days after the absence was last confirmed |
//! | `seen` | 35 days after the node last passed, unless its finding is open: one that still exists passes once more |
//!
//! Nothing that waits, and nothing of an open finding, is ever removed.

use std::time::Duration;

use super::{
    Absence, QueueError, Queues,
    dead::{self, history},
    ledger::{self, Acked, Desired, Seen},
    outbox,
    transition::Transition,
};
use crate::{
    record::{Lane, Reason, Stage, UnixMillis},
    store::{
        Commit, StoreError, codec,
        keys::{Key, KeyFields, Table},
    },
};

/// Longer than the hub keeps an archived finding (30 days).
const RESOLVED_KEPT: Duration = Duration::from_secs(35 * 86_400);
/// Rows that one commit removes.
const STEP_ROWS_MAX: usize = 500;

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub receipts_kept: Duration,
}

impl Queues {
    /// Removes a lane's rows whose time is over; how many.
    pub async fn forget_old(&self, lane: &Lane, retention: Retention) -> Result<usize, QueueError> {
        let mut removed = 0;
        for table in [Table::Desired, Table::Acked, Table::Seen, Table::Absent, Table::DeadHistory]
        {
            let prefix = ledger::lane_key(table, lane);
            let mut from = prefix.clone();
            loop {
                let (scan, begin) = (prefix.clone(), from.clone());
                let rows = self
                    .store
                    .read(move |reader| reader.page(&scan, &begin, STEP_ROWS_MAX))
                    .await?;
                let Some((last, _)) = rows.last() else { break };
                from = last.successor();
                let now = self.clock.now();
                let old: Vec<Key> = rows
                    .into_iter()
                    .filter(|(_, value)| is_old(table, value, retention, now))
                    .map(|(key, _)| key)
                    .collect();
                removed += self.forget(lane, table, old, retention).await?;
            }
        }
        Ok(removed)
    }

    async fn forget(
        &self,
        lane: &Lane,
        table: Table,
        keys: Vec<Key>,
        retention: Retention,
    ) -> Result<usize, QueueError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let lane = lane.clone();
        self.transition(Commit::hand_off(keys.len()), move |step| {
            let mut removed = 0;
            for key in keys {
                // It may have been renewed since it was read.
                let now = step.now();
                let Some(value) = step.tx.get(&key)? else { continue };
                if is_old(table, &value, retention, now) && !is_needed(step, &lane, table, &key)? {
                    step.tx.remove(&key)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }
}

fn is_old(table: Table, value: &[u8], retention: Retention, now: UnixMillis) -> bool {
    let older = |since: UnixMillis, kept: Duration| now.since(since) > kept;
    match table {
        Table::Desired => codec::decode::<Desired>(value).is_ok_and(|(_, row)| {
            !row.finding.state.is_open() && older(row.decided_at, RESOLVED_KEPT)
        }),
        Table::Acked => codec::decode::<Acked>(value)
            .is_ok_and(|(_, row)| older(row.receipt.acknowledged_at, retention.receipts_kept)),
        Table::Seen => {
            codec::decode::<Seen>(value).is_ok_and(|(_, row)| older(row.accepted_at, RESOLVED_KEPT))
        }
        // One that is damaged tells nothing.
        Table::Absent => codec::decode::<Absence>(value)
            .map_or(true, |(_, row)| older(row.confirmed_at, RESOLVED_KEPT)),
        Table::DeadHistory => {
            // One that is damaged tells nothing.
            history::last_redriven_at(value).is_none_or(|at| older(at, retention.receipts_kept))
        }
        _ => false,
    }
}

/// Whether the node's finding is open, or a version of it waits.
fn is_needed(
    step: &Transition<'_, '_>,
    lane: &Lane,
    table: Table,
    key: &Key,
) -> Result<bool, StoreError> {
    let mut fields = KeyFields::of(key.as_bytes());
    let Some(node) = fields.text().and_then(|_lane| fields.text()) else { return Ok(true) };
    if table == Table::Absent {
        return Ok(false);
    }
    if table == Table::DeadHistory {
        return has_dead_letter(step, lane, node);
    }
    let Some(desired) = step.desired(lane, node)? else { return Ok(false) };
    if desired.finding.state.is_open() {
        return Ok(true);
    }
    let Some(place) = desired.place.filter(|_| table == Table::Desired) else { return Ok(false) };
    let waits = step.tx.get(&outbox::outbox_key(lane, place))?.is_some();
    let delayed = step.tx.get(&outbox::delayed_index_key(lane, node, place))?.is_some();
    Ok(waits || delayed)
}

fn has_dead_letter(step: &Transition<'_, '_>, lane: &Lane, node: &str) -> Result<bool, StoreError> {
    for stage in Stage::ALL {
        for reason in Reason::ALL {
            if step.tx.get(&dead::key(lane, node, stage, reason))?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
