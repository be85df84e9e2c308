//! Read-back: completing a lane's ledger from what its hub holds.
//!
//! The hub outlives the ledger. Before a lane with a new ledger sends anything, the states that
//! its hub holds are adopted as floors (`UpdatedAt`, `CreatedAt`) and as `desired` rows; what
//! transform would have judged meanwhile is parked, on disk, and goes on afterwards. What the
//! ledger believes open and the hub doesn't hold is told anew with the node's next observation.

use std::collections::HashSet;

use super::{
    QueueError, Queues,
    ledger::{self, Desired, LaneRow, ReadBack},
    table_prefix,
    transition::Transition,
};
use crate::{
    failpoint::{self, FailPoint},
    record::{Finding, Lane, ReadNumber, Revision, UnixMillis},
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
        self.transition(Commit::hand_off(states.len()), move |step| {
            for state in states {
                adopt_one(step, &lane, state.finding)?;
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
    /// the hub may not be read), lets go what was parked and has every node observed anew. How
    /// many findings that the ledger believes open the hub doesn't hold.
    pub async fn finish_read_back(
        &self,
        lane: &Lane,
        found: Option<HashSet<String>>,
    ) -> Result<usize, QueueError> {
        let denied = found.is_none();
        let mut missing = 0;
        if let Some(found) = found {
            missing = self.forget_missing(lane, found).await?;
            self.forget_seen(lane).await?;
        }
        failpoint::reach(FailPoint::ReadBackReconciled);
        self.set_read_back(lane, ReadBack::Releasing { denied }).await?;
        self.release_parked(lane).await?;
        Ok(missing)
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

    /// Marks what the ledger believes open and the hub doesn't hold as never told; how many.
    async fn forget_missing(
        &self,
        lane: &Lane,
        found: HashSet<String>,
    ) -> Result<usize, QueueError> {
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
        Ok(missing.len())
    }

    /// Has every node of the lane pass change detection once.
    async fn forget_seen(&self, lane: &Lane) -> Result<(), QueueError> {
        let mut from = ledger::lane_key(Table::Seen, lane);
        loop {
            let (prefix, begin) = (ledger::lane_key(Table::Seen, lane), from.clone());
            let rows = self
                .store
                .read(move |reader| reader.page(&prefix, &begin, STEP_ENTRIES_MAX))
                .await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = last.successor();
            self.transition(Commit::hand_off(rows.len()), move |step| {
                for (key, _) in rows {
                    step.tx.remove(&key)?;
                }
                Ok(())
            })
            .await?;
        }
    }
}

pub(super) fn adopt_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    hub: Finding,
) -> Result<(), StoreError> {
    let Some(old) = step.desired(lane, hub.node.as_str())? else {
        let row = Desired {
            read: ReadNumber(0),
            revision: Revision(0),
            finding: hub,
            digest: 0,
            place: None,
            rejected: false,
            decided_at: step.now(),
        };
        return step.put_desired(lane, None, &row);
    };
    if !old.finding.has_name_of(&hub, lane) || hub.updated_at < old.finding.updated_at {
        return Ok(());
    }
    raise_floor(step, lane, &old, &hub)
}

/// The hub holds a version as new as ours, or newer: the version that waits, if one does, must
/// be newer still.
fn raise_floor(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    old: &Desired,
    hub: &Finding,
) -> Result<(), StoreError> {
    let mut new = old.clone();
    new.finding.created_at = hub.created_at;
    if let Some((place, mut waiting)) = step.newest_waiting(lane, old)? {
        // Other bytes are another version: what was claimed of the old one settles nothing.
        new.revision = Revision(step.tx.next_sequence());
        waiting.revision = new.revision;
        new.finding.updated_at = UnixMillis(hub.updated_at.0 + 1);
        waiting.finding.updated_at = new.finding.updated_at;
        waiting.finding.created_at = hub.created_at;
        step.rewrite_waiting(lane, &place, &waiting)?;
    } else if hub.updated_at > old.finding.updated_at {
        new.finding.updated_at = hub.updated_at;
        new.finding.state = hub.state;
        new.digest = 0;
    }
    step.put_desired(lane, Some(old), &new)
}

fn forget_told(step: &mut Transition<'_, '_>, lane: &Lane, node: &str) -> Result<(), StoreError> {
    let Some(old) = step.desired(lane, node)? else { return Ok(()) };
    if step.newest_waiting(lane, &old)?.is_some() {
        return Ok(());
    }
    step.put_desired(lane, Some(&old), &Desired { digest: 0, ..old.clone() })
}
