//! What a comparison with the hub needs of the ledger, and how a difference is repaired: through
//! the outbox like everything else, accepted and counted here since no observation asked for it.
//!
//! Guarantees: a node is left alone if it has moved since it was compared: a version of its finding
//! waits, or its `desired` row is another. `UpdatedAt` of what is sent is above every one that was
//! assigned to or read from the hub.
//!
//! Deliberately doesn't know: what the hub was asked, and which difference wants which repair.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    QueueError, Queues, accounting as account, adopt,
    ledger::{self, Acked, Desired, lane_key},
    outbox::Waiting,
    reopening::{Reopening, derived},
    transition::{Decided, Transition},
};
use crate::{
    record::{Change, Facts, Finding, Lane, ReadNumber, RecordState, Revision, UnixMillis},
    store::{
        Commit, Reader, StoreError, codec,
        keys::{KeyFields, Table},
    },
};

/// Nodes that one commit repairs.
const STEP_NODES_MAX: usize = 200;

/// What the ledger holds of a node, as far as it is compared with the hub.
#[derive(Clone, Debug)]
pub struct Told {
    /// The newest version; its facts are left out.
    pub finding: Finding,
    pub version: Version,
    /// The hub called it invalid.
    pub rejected: bool,
    /// It is on its way, or was decided or acknowledged too recently for the hub to show it.
    pub is_moving: bool,
}

/// Which `desired` row a comparison saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    revision: Revision,
    updated_at: UnixMillis,
}

impl Version {
    #[must_use]
    pub fn of(desired: &Desired) -> Self {
        Self { revision: desired.revision, updated_at: desired.finding.updated_at }
    }
}

/// What to do about one difference.
#[derive(Clone, Debug)]
pub enum Repair {
    /// The newest version is sent again, as a newer one than `above`, as this change.
    SendAgain { seen: Version, above: Option<UnixMillis>, change: Change },
    /// Later versions are to be newer than this; nothing is sent.
    RaiseFloor { seen: Version, above: UnixMillis },
    /// The ledger takes over what the hub holds, and the node is observed anew.
    Adopt,
    /// What the hub holds under a name that isn't the ledger's is closed as this state.
    Close { state: RecordState },
}

impl Queues {
    /// The ledger of a lane, by node. What was acknowledged or decided within `settles` of `now`
    /// counts as moving.
    pub async fn told(
        &self,
        lane: &Lane,
        now: UnixMillis,
        settles: Duration,
    ) -> Result<HashMap<String, Told>, QueueError> {
        let lane = lane.clone();
        Ok(self.store.read(move |reader| told(reader, &lane, now, settles)).await?)
    }

    /// Carries repairs out, each with the finding as the hub holds it (or, where it holds none, as
    /// the ledger does); how many took hold, and how many of these send something.
    pub async fn repair(
        &self,
        lane: &Lane,
        repairs: Vec<(Finding, Repair)>,
    ) -> Result<Repaired, QueueError> {
        let mut total = Repaired::default();
        // Numbers that are given from now on are those of reads that begin after the hub's answer.
        let last_read = self.lane(lane).last_read();
        let mut repairs = repairs.into_iter().peekable();
        while repairs.peek().is_some() {
            let part: Vec<_> = repairs.by_ref().take(STEP_NODES_MAX).collect();
            let lane = lane.clone();
            let done = self
                .transition(Commit::durable(part.len()), move |step| {
                    let mut done = Repaired::default();
                    let last = match last_read {
                        Some(last) => last,
                        None => step.lane_row(&lane)?.reads_reserved,
                    };
                    let fresh = ReadNumber(last + 1);
                    for (finding, repair) in part {
                        repair_one(step, &lane, &finding, repair, fresh, &mut done)?;
                    }
                    Ok(done)
                })
                .await?;
            total.done += done.done;
            total.sent += done.sent;
        }
        Ok(total)
    }
}

/// What came of repairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    pub done: usize,
    /// Those of them that put something in the outbox.
    pub sent: usize,
}

fn told(
    reader: &Reader<'_>,
    lane: &Lane,
    now: UnixMillis,
    settles: Duration,
) -> Result<HashMap<String, Told>, StoreError> {
    let mut moving = HashSet::new();
    for table in [Table::Outbox, Table::Delayed] {
        let prefix = lane_key(table, lane);
        reader.visit(&prefix, &prefix, |_, value| {
            if let Ok((_, waiting)) = codec::decode::<Waiting>(value) {
                moving.insert(waiting.finding.node.to_string());
            }
            true
        })?;
    }
    let prefix = lane_key(Table::Parked, lane);
    reader.visit(&prefix, &prefix, |key, _| {
        moving.extend(node_of(key).map(str::to_string));
        true
    })?;
    let prefix = lane_key(Table::Reopening, lane);
    reader.visit(&prefix, &prefix, |key, value| {
        if let Ok((_, Reopening::Closing(_))) = codec::decode::<Reopening>(value) {
            moving.extend(node_of(key).map(str::to_string));
        }
        true
    })?;
    let mut rows = Vec::new();
    let prefix = lane_key(Table::Desired, lane);
    reader.visit(&prefix, &prefix, |_, value| {
        if let Ok((_, row)) = codec::decode::<Desired>(value) {
            rows.push(lean(row));
        }
        true
    })?;
    let is_recent = |at: UnixMillis| now.since(at).max(at.since(now)) < settles;
    let mut told = HashMap::with_capacity(rows.len());
    for row in rows {
        let node = row.finding.node.to_string();
        let acked = reader.get(&ledger::acked_key(lane, &node))?;
        let acked = acked.and_then(|bytes| codec::decode::<Acked>(&bytes).ok());
        let acknowledged_at = acked.map(|(_, acked)| acked.receipt.acknowledged_at);
        let is_moving = moving.contains(&node)
            || is_recent(row.decided_at)
            || acknowledged_at.is_some_and(is_recent);
        let version = Version::of(&row);
        let rejected = row.rejected;
        told.insert(node, Told { finding: row.finding, version, rejected, is_moving });
    }
    Ok(told)
}

/// Without what a comparison doesn't look at, and a fleet's worth of which would fill memory.
fn lean(mut row: Desired) -> Desired {
    row.finding.facts = Facts::default();
    row
}

fn node_of(key: &[u8]) -> Option<&str> {
    let mut fields = KeyFields::of(key);
    fields.text().and_then(|_lane| fields.text())
}

#[expect(clippy::needless_pass_by_value, reason = "a repair is carried out once")]
fn repair_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    finding: &Finding,
    repair: Repair,
    fresh: ReadNumber,
    done: &mut Repaired,
) -> Result<(), StoreError> {
    let node = finding.node.as_str();
    let desired = step.desired(lane, node)?;
    let as_seen = |seen: Version| desired.as_ref().filter(|row| Version::of(row) == seen);
    match repair {
        Repair::SendAgain { seen, above, change } => {
            let Some(desired) = as_seen(seen) else { return Ok(()) };
            if !is_still(step, lane, desired)? {
                return Ok(());
            }
            send_again(step, lane, desired, above, change)?;
            done.sent += 1;
        }
        Repair::RaiseFloor { seen, above } => {
            let Some(desired) = as_seen(seen) else { return Ok(()) };
            let mut raised = desired.clone();
            raised.finding.updated_at = raised.finding.updated_at.max(above);
            step.put_desired(lane, Some(desired), &raised)?;
        }
        Repair::Adopt => {
            if desired.is_some() {
                return Ok(());
            }
            adopt::adopt_one(step, lane, finding.clone(), fresh)?;
        }
        Repair::Close { state } => {
            if desired.as_ref().is_some_and(|row| row.finding.has_name_of(finding, lane)) {
                return Ok(());
            }
            let mut closed = derived(finding, step.now());
            if let Some(desired) = &desired {
                closed.facts = desired.finding.facts.clone();
                closed.facts.patches = None;
            }
            closed.change = Change::Resolved;
            closed.state = state;
            step.send_derived(lane, closed)?;
            done.sent += 1;
        }
    }
    done.done += 1;
    Ok(())
}

/// Whether nothing of the node is on its way.
fn is_still(step: &Transition<'_, '_>, lane: &Lane, desired: &Desired) -> Result<bool, StoreError> {
    let node = desired.finding.node.as_str();
    Ok(step.newest_waiting(lane, desired)?.is_none()
        && !matches!(step.reopening(lane, node)?, Some(Reopening::Closing(_))))
}

fn send_again(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    desired: &Desired,
    above: Option<UnixMillis>,
    change: Change,
) -> Result<(), StoreError> {
    let mut finding = derived(&desired.finding, step.now());
    if let Some(above) = above {
        finding.updated_at = finding.updated_at.max(UnixMillis(above.0 + 1));
    }
    finding.change = change;
    let mut digest = desired.digest;
    let lacks = desired.finding.facts.patches.is_some() || desired.is_adopted();
    if finding.state.is_open() && lacks {
        // It goes without its patches, or its facts: the node is observed anew, and told with them.
        step.forget_seen(lane, finding.node.as_str())?;
        digest = 0;
    }
    step.add(account::ACCEPTED, 1);
    let decided = Decided { finding, read: desired.read, digest, coalesces: true };
    step.send(lane, Some(desired), decided)
}
