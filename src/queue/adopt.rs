//! Read-back: completing a lane's ledger from what its hub holds.
//!
//! The hub outlives the ledger. Before a lane with a new ledger sends anything, the states that
//! its hub holds are adopted as floors (`UpdatedAt`, `CreatedAt`) and as `desired` rows; what
//! transform would have judged meanwhile is parked, on disk, and goes on afterwards. What the
//! ledger believes open and the hub doesn't hold is told anew with the node's next observation.
//!
//! So does a lane whose ledger may be old: it was another machine's meanwhile, or the whole
//! machine was set back ([`tenure`](super::tenure)). There a finding may wait, or an observation,
//! that is older than what the hub was told since, whatever their `UpdatedAt`. The rule that keeps
//! an older state from taking a newer one's place:
//!
//! - Where the hub's `UpdatedAt` is none that this ledger knows of, somebody else told it of the
//!   node. `UpdatedAt` is never before the event that is reported, so a state that happened at or
//!   after it is at least as new as the hub's, and goes on.
//! - Of any other it isn't known. A finding that waits is taken out of the line, an observation
//!   isn't judged: both are coalesced into the hub's state, which becomes `desired`, and the node
//!   is observed anew. What was read after the adoption is newer, by its number.
//! - Lines that somebody handed in can't be read again, so they go on.

use std::{collections::HashSet, sync::atomic::Ordering};

use super::{
    QueueError, Queues,
    ledger::{self, Desired, LaneRow, ReadBack},
    outbox::Waiting,
    table_prefix,
    transition::{Transition, Waits},
};
use crate::{
    failpoint::{self, FailPoint},
    record::{Finding, Lane, ReadNumber, Revision, Source, UnixMillis},
    store::{
        Commit, Store, StoreError, codec,
        keys::{KeyFields, Table},
    },
};

/// Entries that one commit of a read-back moves.
const STEP_ENTRIES_MAX: usize = 500;

/// One finding of ours as the hub holds it.
#[derive(Clone, Debug)]
pub struct HubState {
    /// The finding as far as the hub's copy tells; its facts may be empty.
    pub finding: Finding,
}

impl Queues {
    /// Adopts a page of findings that the hub holds.
    pub async fn adopt(&self, lane: &Lane, states: Vec<HubState>) -> Result<(), QueueError> {
        let lane = lane.clone();
        // Numbers that are given from now on are those of reads that begin after the hub's answer.
        let last_read = self.lane(&lane).last_read();
        self.transition(Commit::hand_off(states.len()), move |step| {
            let last = match last_read {
                Some(last) => last,
                None => step.lane_row(&lane)?.reads_reserved,
            };
            for state in states {
                adopt_one(step, &lane, state.finding, ReadNumber(last + 1))?;
            }
            Ok(())
        })
        .await
    }

    /// Begins a read-back: nothing is sent or judged in the lane until it is finished.
    pub async fn begin_read_back(&self, lane: &Lane) -> Result<(), QueueError> {
        self.set_read_back(lane, ReadBack::Pending).await
    }

    /// Has every lane that the store knows begin with a read-back: what is in the store is older
    /// than what the hubs were told. For the opening, in the first commit of all.
    pub(super) fn want_read_back(&self) -> Result<(), QueueError> {
        let prefix = table_prefix(Table::Lane);
        let rows = self.store.read_blocking(|reader| reader.page(&prefix, &prefix, usize::MAX))?;
        let count = rows.len();
        self.store.commit_blocking(Commit::durable(count), move |tx| {
            for (key, value) in rows {
                // A row that can't be read counts as one that isn't there: pending.
                let Ok((tag, row)) = codec::decode::<LaneRow>(&value) else { continue };
                let row = LaneRow { read_back: ReadBack::Pending, ..row };
                tx.put(&key, codec::encode(tag, &row))?;
            }
            Store::noted_read_back(tx)
        })?;
        tracing::warn!(
            lanes = count,
            "the store may be older than what its hubs were told: every lane is read back from its \
             hub before anything is sent"
        );
        Ok(())
    }

    /// Ends a read-back in which `found` are the nodes whose findings the hub holds (`None` if
    /// the hub may not be read), and lets go what was parked. Nodes of which the hub doesn't hold
    /// what the ledger says are observed anew; of the others nothing has to be read.
    pub async fn finish_read_back(
        &self,
        lane: &Lane,
        found: Option<HashSet<String>>,
    ) -> Result<(), QueueError> {
        let denied = found.is_none();
        if let Some(found) = found {
            self.forget_missing(lane, found).await?;
        }
        failpoint::reach(FailPoint::ReadBackReconciled);
        self.set_read_back(lane, ReadBack::Releasing { denied }).await?;
        let state = self.lane(lane);
        if state.stale.swap(false, Ordering::AcqRel) {
            state.observe.notify_one();
        }
        self.release_parked(lane).await
    }

    async fn set_read_back(&self, lane: &Lane, read_back: ReadBack) -> Result<(), QueueError> {
        let row_lane = lane.clone();
        self.transition(Commit::durable(1), move |step| {
            let row = step.lane_row(&row_lane)?;
            step.put_lane_row(&row_lane, &LaneRow { read_back, ..row })
        })
        .await?;
        self.lane(lane).deliver.notify_one();
        Ok(())
    }

    /// Marks what the ledger believes open and the hub doesn't hold as never told.
    async fn forget_missing(&self, lane: &Lane, found: HashSet<String>) -> Result<(), QueueError> {
        let prefix = ledger::lane_key(Table::Desired, lane);
        let missing = self
            .store
            .read(move |reader| {
                let mut missing = Vec::new();
                reader.visit(&prefix, &prefix, |key, value| {
                    let open =
                        codec::tag(value).is_ok_and(|tag| ledger::open_severity(tag).is_some());
                    let mut fields = KeyFields::of(key);
                    let node = fields.text().and_then(|_lane| fields.text());
                    if let (true, Some(node)) = (open, node)
                        && !found.contains(node)
                    {
                        missing.push(node.to_string());
                    }
                    true
                })?;
                Ok(missing)
            })
            .await?;
        for nodes in missing.chunks(STEP_ENTRIES_MAX) {
            let (lane, nodes) = (lane.clone(), nodes.to_vec());
            self.transition(Commit::hand_off(nodes.len()), move |step| {
                for node in nodes {
                    forget_told(step, &lane, &node)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

pub(super) fn adopt_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    hub: Finding,
    fresh: ReadNumber,
) -> Result<(), StoreError> {
    let Some(old) = step.desired(lane, hub.node.as_str())? else {
        return adopt_state(step, lane, None, hub, fresh);
    };
    if !old.finding.has_name_of(&hub, lane) {
        // What is told under another name from now on is newer than anything told before.
        return Ok(());
    }
    let waiting = step.newest_waiting(lane, &old)?;
    match waiting {
        Some((_, waiting)) if is_overtaken(step, lane, &waiting.finding, &hub)? => {
            step.take_waiting(lane, Some(&old))?;
            adopt_state(step, lane, Some(&old), hub, fresh)
        }
        Some(_) if hub.updated_at >= old.finding.updated_at => {
            raise_floor(step, lane, &old, &hub, waiting)
        }
        None if hub.updated_at > old.finding.updated_at => {
            adopt_state(step, lane, Some(&old), hub, fresh)
        }
        _ => Ok(()),
    }
}

/// Whether the hub may hold a newer state than a version that waits.
fn is_overtaken(
    step: &Transition<'_, '_>,
    lane: &Lane,
    waiting: &Finding,
    hub: &Finding,
) -> Result<bool, StoreError> {
    if waiting.source == Source::File || waiting.updated_at == hub.updated_at {
        return Ok(false);
    }
    let told = step.acked(lane, hub.node.as_str())?.map(|acked| acked.receipt.updated_at);
    Ok(told.is_none_or(|told| hub.updated_at > told) && waiting.last_observed_at < hub.updated_at)
}

/// Has what the hub holds be what it should hold, until the node is observed.
fn adopt_state(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    old: Option<&Desired>,
    mut hub: Finding,
    fresh: ReadNumber,
) -> Result<(), StoreError> {
    let mut fresh = fresh;
    if let Some(old) = old {
        // The hub's copy tells less; a node that turns out to be gone is told with these.
        hub.facts = old.finding.facts.clone();
        hub.facts.patches = None;
        hub.policy = old.finding.policy.clone();
        hub.updated_at = hub.updated_at.max(old.finding.updated_at);
        fresh = fresh.max(old.read);
        // Whatever was to follow a version that was to close it.
        step.end_reopening(lane, hub.node.as_str())?;
    }
    let row = Desired::adopted(hub, fresh, step.now());
    step.put_desired(lane, old, &row)?;
    observe_anew(step, lane, row.finding.node.as_str())
}

/// The hub holds a version as new as the one that waits, or newer: that must be newer still.
fn raise_floor(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    old: &Desired,
    hub: &Finding,
    waiting: Option<(Waits, Waiting)>,
) -> Result<(), StoreError> {
    let Some((place, mut waiting)) = waiting else { return Ok(()) };
    let mut new = old.clone();
    // Other bytes are another version: what was claimed of the old one settles nothing.
    new.revision = Revision(step.tx.next_sequence());
    new.finding.created_at = hub.created_at;
    new.finding.updated_at = UnixMillis(hub.updated_at.0 + 1);
    waiting.revision = new.revision;
    waiting.finding.updated_at = new.finding.updated_at;
    waiting.finding.created_at = hub.created_at;
    step.rewrite_waiting(lane, &place, &waiting)?;
    step.put_desired(lane, Some(old), &new)
}

fn forget_told(step: &mut Transition<'_, '_>, lane: &Lane, node: &str) -> Result<(), StoreError> {
    let Some(old) = step.desired(lane, node)? else { return Ok(()) };
    if step.newest_waiting(lane, &old)?.is_some() {
        return Ok(());
    }
    step.put_desired(lane, Some(&old), &Desired { digest: 0, ..old.clone() })?;
    observe_anew(step, lane, node)
}

/// Has the node pass change detection once, and a sweep follow the read-back.
fn observe_anew(step: &mut Transition<'_, '_>, lane: &Lane, node: &str) -> Result<(), StoreError> {
    step.effects.lane(lane).stale = true;
    step.tx.remove(&ledger::seen_key(lane, node))?;
    Ok(())
}
