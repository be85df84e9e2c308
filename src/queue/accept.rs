//! Acceptance: what ingest brings in, and the numbers that order it.

use std::sync::PoisonError;

use super::{
    Death, LaneState, QueueError, Queues, Transition, absent, accounting as account, details,
    ledger::{self, ReadBack, Seen},
    pages::{self, Accepted},
};
use crate::{
    record::{Lane, Observation, ReadNumber, Text, UnixMillis, observation::PatchList},
    store::{Commit, StoreError, codec, keys::Table},
};

/// Read numbers that one commit reserves: a sweep of 20,000 nodes takes some 800.
const READS_RESERVED: u64 = 65_536;

/// A node as ingest hands it over.
#[derive(Clone, Debug)]
pub struct AcceptedNode {
    pub observation: Observation,
    /// The ledger row that makes the same state known; `None` for a source without one.
    pub seen: Option<Seen>,
    /// The patch list, as [`details::chunks`] cut it; empty without one.
    pub patches: Vec<Vec<u8>>,
}

/// What is brought into one lane, encoded.
struct Incoming {
    lane: Lane,
    pages: Vec<(Vec<u8>, i64)>,
    rows: Vec<Row>,
}

/// What is written under a node beside its observation.
struct Row {
    node: Text<128>,
    is_gone: bool,
    seen: Option<Seen>,
    list: Option<PatchList>,
    patches: Vec<Vec<u8>>,
}

impl Incoming {
    fn new(lane: Lane, nodes: Vec<AcceptedNode>, at: UnixMillis) -> Self {
        let mut accepted = Vec::with_capacity(nodes.len());
        let mut rows = Vec::with_capacity(nodes.len());
        for AcceptedNode { observation, seen, patches } in nodes {
            let list = observation.patches.clone();
            let (node, is_gone) = (observation.node.clone(), observation.gone.is_some());
            rows.push(Row { node, is_gone, seen, list, patches });
            accepted.push(Accepted { at, observation });
        }
        Self { lane, pages: pages::paginate(&accepted), rows }
    }

    fn write(self, step: &mut Transition<'_, '_>) -> Result<(), StoreError> {
        let Self { lane, pages, rows } = self;
        for (page, count) in pages {
            let key = pages::fifo_key(Table::Observed, step.tx.next_sequence(), &lane);
            step.tx.insert_new(&key, page)?;
            step.add(account::ACCEPTED, count);
            step.add(account::OBSERVED, count);
        }
        for Row { node, is_gone, seen, list, patches } in rows {
            if is_gone {
                // Should it come back, whatever it then says is news.
                step.tx.remove(&ledger::seen_key(&lane, node.as_str()))?;
                absent::forget(step, &lane, node.as_str())?;
            }
            if let Some(seen) = seen {
                let key = ledger::seen_key(&lane, node.as_str());
                step.tx.put(&key, codec::encode(0, &seen))?;
            }
            if let Some(list) = list {
                details::insert(step.tx, &lane, node.as_str(), &list, patches)?;
            }
        }
        Ok(())
    }
}

impl Queues {
    /// Accepts observations of one lane: on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Full`] while ingest is paused; then nothing was accepted.
    pub async fn accept(&self, lane: &Lane, nodes: Vec<AcceptedNode>) -> Result<(), QueueError> {
        self.accept_all(vec![(lane.clone(), nodes)]).await
    }

    /// Accepts observations of several lanes in one commit: all are on disk when this returns, or
    /// none. Those of a lane keep their order.
    ///
    /// # Errors
    /// As [`Queues::accept`].
    pub async fn accept_all(
        &self,
        lanes: Vec<(Lane, Vec<AcceptedNode>)>,
    ) -> Result<(), QueueError> {
        let at = self.clock.now();
        let lanes: Vec<Incoming> =
            lanes.into_iter().map(|(lane, nodes)| Incoming::new(lane, nodes, at)).collect();
        let items = lanes.iter().map(|lane| lane.rows.len()).sum();
        if items == 0 {
            return Ok(());
        }
        self.transition(Commit::ingest(items), move |step| {
            lanes.into_iter().try_for_each(|lane| lane.write(step))?;
            step.effects.observed = true;
            Ok(())
        })
        .await
    }

    /// Accepts what is no observation at all as a dead letter: counted, and on disk when this
    /// returns.
    ///
    /// # Errors
    /// As [`Queues::accept`].
    pub async fn accept_dead(&self, lane: &Lane, death: Death) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.transition(Commit::ingest(1), move |step| {
            step.add(account::ACCEPTED, i64::try_from(death.count).unwrap_or(i64::MAX));
            step.bury(&lane, death)
        })
        .await
    }

    /// Whether anything would be accepted now.
    pub async fn has_room(&self) -> Result<bool, QueueError> {
        // An empty commit has the committer look at the space anew.
        match self.store.commit(Commit::ingest(0), |_| Ok(())).await {
            Ok(()) => Ok(true),
            Err(StoreError::Full(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what was seen of nodes of which there is nothing to tell.
    pub async fn note_seen(
        &self,
        lane: &Lane,
        nodes: Vec<(Text<128>, Seen)>,
    ) -> Result<(), QueueError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let lane = lane.clone();
        self.transition(Commit::hand_off(nodes.len()), move |step| {
            nodes.iter().try_for_each(|(node, seen)| {
                let key = ledger::seen_key(&lane, node.as_str());
                step.tx.put(&key, codec::encode(0, seen))
            })
        })
        .await
    }

    /// The `seen` rows of nodes, in the order of `nodes`.
    pub async fn seen(
        &self,
        lane: &Lane,
        nodes: Vec<String>,
    ) -> Result<Vec<Option<Seen>>, QueueError> {
        let lane = lane.clone();
        let rows = self
            .store
            .read(move |reader| {
                nodes
                    .iter()
                    .map(|node| {
                        let bytes = reader.get(&ledger::seen_key(&lane, node))?;
                        Ok(bytes.and_then(|bytes| Some(codec::decode::<Seen>(&bytes).ok()?.1)))
                    })
                    .collect()
            })
            .await?;
        Ok(rows)
    }

    /// Whether the hub should hold an open finding for each of these nodes, in their order.
    pub async fn are_open(&self, lane: &Lane, nodes: Vec<String>) -> Result<Vec<bool>, QueueError> {
        let lane = lane.clone();
        let rows = self
            .store
            .read(move |reader| {
                nodes
                    .iter()
                    .map(|node| {
                        let row = reader.get(&ledger::desired_key(&lane, node))?;
                        let tag = row.and_then(|row| codec::tag(&row).ok());
                        Ok(tag.is_some_and(|tag| ledger::open_severity(tag).is_some()))
                    })
                    .collect()
            })
            .await?;
        Ok(rows)
    }

    /// The next read number of a lane: greater than all earlier ones, across restarts.
    pub async fn next_read(&self, lane: &Lane) -> Result<ReadNumber, QueueError> {
        let state = self.lane(lane);
        if let Some(number) = take_read(&state) {
            return Ok(number);
        }
        let row_lane = lane.clone();
        let end = self
            .transition(Commit::hand_off(1), move |step| {
                let mut row = step.lane_row(&row_lane)?;
                row.reads_reserved += READS_RESERVED;
                step.put_lane_row(&row_lane, &row)?;
                Ok(row.reads_reserved)
            })
            .await?;
        {
            let mut reads = state.reads.lock().unwrap_or_else(PoisonError::into_inner);
            if reads.end < end {
                reads.next = reads.next.max(end - READS_RESERVED + 1);
                reads.end = end;
            }
        }
        take_read(&state).ok_or(QueueError::Store(StoreError::Poisoned))
    }

    /// What a lane's row says of its read-back.
    pub async fn read_back_state(&self, lane: &Lane) -> Result<ReadBack, QueueError> {
        let lane = lane.clone();
        self.transition(Commit::hand_off(1), move |step| Ok(step.lane_row(&lane)?.read_back)).await
    }
}

fn take_read(state: &LaneState) -> Option<ReadNumber> {
    let mut reads = state.reads.lock().unwrap_or_else(PoisonError::into_inner);
    if reads.next == 0 || reads.next > reads.end {
        return None;
    }
    let number = ReadNumber(reads.next);
    reads.next += 1;
    Some(number)
}
