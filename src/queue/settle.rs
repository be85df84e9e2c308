//! The steps between the stages: accept, claim, settle; and read numbers.

use std::collections::HashSet;

use super::{
    QueueError, Queues, accounting as account,
    dead::Death,
    details,
    ledger::{self, Acked, ReadBack, Seen},
    outbox::{self, ClaimedFinding, Undecodable, Waiting},
    pages::{self, Accepted, ClaimedPage},
    table_prefix,
    transition::Transition,
};
use crate::{
    record::{
        Assessment, Lane, Observation, PatchDetail, ReadNumber, Reason, Receipt, Stage, UnixMillis,
        dead_letter::DeadItem,
    },
    store::{
        Commit, StoreError, codec,
        keys::{Key, Table},
    },
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

/// What validate made of one page.
#[derive(Debug, Default)]
pub struct Validated {
    pub assessments: Vec<Assessment>,
    pub deaths: Vec<Death>,
}

/// What was claimed from a lane's outbox.
#[derive(Debug, Default)]
pub struct OutboxClaim {
    pub findings: Vec<(ClaimedFinding, Vec<PatchDetail>)>,
    pub undecodable: Vec<Undecodable>,
    /// The scan reached the end of the lane's outbox.
    pub exhausted: bool,
}

/// How the sending of one claimed finding ended.
#[derive(Debug)]
pub enum Settlement {
    Acknowledged {
        claimed: ClaimedFinding,
        receipt: Receipt,
    },
    /// To be tried again at `due`; `attempts` so far.
    Retry {
        claimed: ClaimedFinding,
        due: UnixMillis,
        attempts: u32,
    },
    /// The hub calls it invalid, sent alone.
    Rejected {
        claimed: ClaimedFinding,
        message: String,
    },
}

impl Queues {
    /// Accepts observations of one lane: on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Full`] while ingest is paused; then nothing was accepted.
    pub async fn accept(&self, lane: &Lane, nodes: Vec<AcceptedNode>) -> Result<(), QueueError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let mut accepted = Vec::with_capacity(nodes.len());
        let mut ledger = Vec::with_capacity(nodes.len());
        for AcceptedNode { observation, seen, patches } in nodes {
            let list = observation.patches.clone();
            ledger.push((observation.node.clone(), seen, list, patches));
            accepted.push(Accepted { at, observation });
        }
        let pages = pages::paginate(&accepted);
        let lane = lane.clone();
        self.transition(Commit::ingest(accepted.len()), move |step| {
            for (page, count) in pages {
                let key = pages::fifo_key(Table::Observed, step.tx.next_sequence(), &lane);
                step.tx.insert_new(&key, page)?;
                step.add(account::ACCEPTED, count);
                step.add(account::OBSERVED, count);
            }
            for (node, seen, list, patches) in ledger {
                if let Some(seen) = seen {
                    let key = ledger::seen_key(&lane, node.as_str());
                    step.tx.put(&key, codec::encode(0, &seen))?;
                }
                if let Some(list) = list {
                    details::insert(step.tx, &lane, node.as_str(), &list, patches)?;
                }
            }
            step.effects.observed = true;
            Ok(())
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
            let mut reads = state.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if reads.end < end {
                reads.next = reads.next.max(end - READS_RESERVED + 1);
                reads.end = end;
            }
        }
        take_read(&state).ok_or(QueueError::Store(StoreError::Poisoned))
    }

    /// Claims up to `pages_max` pages of observations, oldest first.
    pub async fn claim_observed(
        &self,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<Accepted>>, QueueError> {
        self.claim_pages(Table::Observed, pages_max).await
    }

    /// Claims up to `pages_max` pages of assessments, oldest first.
    pub async fn claim_assessed(
        &self,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<Assessment>>, QueueError> {
        self.claim_pages(Table::Assessed, pages_max).await
    }

    async fn claim_pages<T>(
        &self,
        table: Table,
        pages_max: usize,
    ) -> Result<Vec<ClaimedPage<T>>, QueueError>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        let claimed = self
            .store
            .read(move |reader| {
                let prefix = table_prefix(table);
                let entries = reader.page(&prefix, &prefix, pages_max)?;
                Ok(entries
                    .into_iter()
                    .filter_map(|(key, value)| pages::claimed(key, value))
                    .collect())
            })
            .await?;
        Ok(claimed)
    }

    /// Moves validated pages on. `validated` goes with the pages one to one.
    pub async fn settle_observed(
        &self,
        validated: Vec<(ClaimedPage<Accepted>, Validated)>,
    ) -> Result<(), QueueError> {
        let items = validated.iter().map(|(page, _)| page.count).sum::<u64>();
        let prepared: Vec<_> = validated
            .into_iter()
            .map(|(page, out)| {
                (page.key, page.lane, page.count, pages::paginate(&out.assessments), out.deaths)
            })
            .collect();
        self.transition(Commit::hand_off(to_usize(items)), move |step| {
            for (key, lane, count, pages, deaths) in prepared {
                if !step.tx.remove(&key)? {
                    continue;
                }
                step.add(account::OBSERVED, -to_i64(count));
                for (page, count) in pages {
                    let key = pages::fifo_key(Table::Assessed, step.tx.next_sequence(), &lane);
                    step.tx.insert_new(&key, page)?;
                    step.add(account::ASSESSED, count);
                }
                for death in deaths {
                    step.bury(&lane, death)?;
                }
            }
            step.effects.assessed = true;
            Ok(())
        })
        .await
    }

    /// Judges claimed assessments: `judge` runs in the committer, item by item in order, and
    /// must send, end or bury each. Pages of a lane that is being read back are parked instead.
    pub async fn settle_assessed<J>(
        &self,
        pages: Vec<ClaimedPage<Assessment>>,
        mut judge: J,
    ) -> Result<(), QueueError>
    where
        J: FnMut(&mut Transition<'_, '_>, &Lane, Assessment) -> Result<(), StoreError>
            + Send
            + 'static,
    {
        let items = pages.iter().map(|page| page.count).sum::<u64>();
        // Durable: what reaches the outbox may be sent as soon as this returns.
        self.transition(Commit::durable(to_usize(items)), move |step| {
            for page in pages {
                settle_assessed_page(step, page, &mut judge)?;
            }
            Ok(())
        })
        .await
    }

    /// Claims up to `limit` findings of a lane's outbox, from `from` on, in the order in which
    /// they should leave, without those whose keys are in `skip`.
    pub async fn claim_outbox(
        &self,
        lane: &Lane,
        from: Option<Key>,
        limit: usize,
        skip: HashSet<Key>,
    ) -> Result<OutboxClaim, QueueError> {
        let lane = lane.clone();
        let claim = self
            .store
            .read(move |reader| {
                let prefix = ledger::lane_key(Table::Outbox, &lane);
                let from = from.unwrap_or_else(|| prefix.clone());
                let mut found = Vec::new();
                reader.visit(&prefix, &from, |key, value| {
                    let key = Key::from_bytes(key.to_vec());
                    if !skip.contains(&key) {
                        found.push((key, value.to_vec()));
                    }
                    found.len() < limit
                })?;
                let mut claim =
                    OutboxClaim { exhausted: found.len() < limit, ..Default::default() };
                for (key, bytes) in found {
                    match codec::decode::<Waiting>(&bytes) {
                        Ok((_, waiting)) => {
                            let patches = read_patches(reader, &lane, &waiting)?;
                            claim.findings.push((ClaimedFinding { key, waiting }, patches));
                        }
                        Err(error) => claim.undecodable.push(Undecodable { key, error, bytes }),
                    }
                }
                Ok(claim)
            })
            .await?;
        Ok(claim)
    }

    /// Buries outbox entries that don't decode.
    pub async fn bury_undecodable(
        &self,
        lane: &Lane,
        entries: Vec<Undecodable>,
    ) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.transition(Commit::hand_off(entries.len()), move |step| {
            for Undecodable { key, error, bytes } in entries {
                if step.tx.get(&key)?.is_none() {
                    continue;
                }
                step.remove_waiting(&lane, &key)?;
                let name = format!("(outbox entry {:08x})", crc32fast::hash(key.as_bytes()));
                let message = error.to_string();
                step.bury(&lane, Death::undecodable(&name, Stage::Deliver, &message, &bytes, 1))?;
            }
            Ok(())
        })
        .await
    }

    /// Settles the findings of one request, each by its own outcome. Tells of each whether it was
    /// acknowledged as the newest version; an acknowledged older one counts as coalesced.
    pub async fn settle_delivery(
        &self,
        lane: &Lane,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<bool>, QueueError> {
        let lane = lane.clone();
        self.transition(Commit::hand_off(settlements.len()), move |step| {
            settlements.into_iter().map(|settlement| settle_one(step, &lane, settlement)).collect()
        })
        .await
    }

    /// Moves a lane's delayed findings that are due back to their places in the outbox; when the
    /// next one is due. A due time further off than `delay_max` means that the clock was moved:
    /// it is due now.
    pub async fn promote_due(
        &self,
        lane: &Lane,
        delay_max: std::time::Duration,
    ) -> Result<Option<UnixMillis>, QueueError> {
        const PROMOTED_MAX: usize = 500;
        let now = self.clock.now();
        let horizon = now.plus(delay_max);
        let scan_lane = lane.clone();
        let entries = self
            .store
            .read(move |reader| {
                let prefix = ledger::lane_key(Table::Delayed, &scan_lane);
                reader.page(&prefix, &prefix, PROMOTED_MAX)
            })
            .await?;
        let mut due_now = Vec::new();
        let mut next: Option<UnixMillis> = None;
        for (key, value) in entries {
            match outbox::due_of(&key) {
                Some(due) if due > now && due <= horizon => {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                _ => due_now.push((key, value)),
            }
        }
        if due_now.is_empty() {
            return Ok(next);
        }
        let lane = lane.clone();
        self.transition(Commit::hand_off(due_now.len()), move |step| {
            for (key, value) in due_now {
                promote(step, &lane, &key, &value)?;
            }
            Ok(())
        })
        .await?;
        Ok(next)
    }

    /// What a lane's row says of its read-back.
    pub async fn read_back_state(&self, lane: &Lane) -> Result<ReadBack, QueueError> {
        let lane = lane.clone();
        self.transition(Commit::hand_off(1), move |step| Ok(step.lane_row(&lane)?.read_back)).await
    }
}

fn take_read(state: &super::LaneState) -> Option<ReadNumber> {
    let mut reads = state.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if reads.next == 0 || reads.next > reads.end {
        return None;
    }
    let number = ReadNumber(reads.next);
    reads.next += 1;
    Some(number)
}

fn read_patches(
    reader: &crate::store::Reader<'_>,
    lane: &Lane,
    waiting: &Waiting,
) -> Result<Vec<PatchDetail>, StoreError> {
    let Some(list) = &waiting.finding.facts.patches else { return Ok(Vec::new()) };
    match details::read(reader, lane, waiting.finding.node.as_str(), list) {
        Ok(patches) => Ok(patches),
        Err(QueueError::Store(error)) => Err(error),
        Err(QueueError::Decode(error)) => {
            tracing::error!(%lane, node = %waiting.finding.node, %error, "a patch list is damaged: the finding is sent without it");
            Ok(Vec::new())
        }
    }
}

fn settle_assessed_page(
    step: &mut Transition<'_, '_>,
    page: ClaimedPage<Assessment>,
    judge: &mut impl FnMut(&mut Transition<'_, '_>, &Lane, Assessment) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !step.tx.remove(&page.key)? {
        return Ok(());
    }
    step.add(account::ASSESSED, -to_i64(page.count));
    let items = match page.items {
        Ok(items) => items,
        Err(damaged) => {
            let message = damaged.error.to_string();
            let name = format!("(page {:08x})", crc32fast::hash(page.key.as_bytes()));
            let death =
                Death::undecodable(&name, Stage::Transform, &message, &damaged.bytes, page.count);
            return step.bury(&page.lane, death);
        }
    };
    if step.lane_row(&page.lane)?.read_back == ReadBack::Pending {
        return park(step, &page.lane, &items);
    }
    for assessment in items {
        judge(step, &page.lane, assessment)?;
    }
    Ok(())
}

fn park(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    items: &[Assessment],
) -> Result<(), StoreError> {
    for (page, count) in pages::paginate(items) {
        let key = pages::parked_key(lane, step.tx.next_sequence());
        step.tx.insert_new(&key, page)?;
        step.add(account::PARKED, count);
    }
    Ok(())
}

/// Whether an acknowledged finding was still the newest version.
fn settle_one(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    settlement: Settlement,
) -> Result<bool, StoreError> {
    match settlement {
        Settlement::Acknowledged { claimed, receipt } => {
            let newest = take_claimed(step, lane, &claimed)?;
            if newest {
                step.add(account::DELIVERED, 1);
                remove_patches(step, lane, &claimed)?;
            }
            acknowledge(step, lane, &claimed, receipt)?;
            Ok(newest)
        }
        Settlement::Retry { claimed, due, attempts } => {
            if take_claimed(step, lane, &claimed)? {
                let waiting = Waiting { attempts, ..claimed.waiting };
                step.put_delayed(lane, &waiting, due)?;
            }
            Ok(false)
        }
        Settlement::Rejected { claimed, message } => {
            if take_claimed(step, lane, &claimed)? {
                mark_rejected(step, lane, &claimed)?;
                step.bury(lane, rejected(claimed, &message))?;
            }
            Ok(false)
        }
    }
}

/// Removes a claimed finding if it is still there and still that version.
fn take_claimed(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
) -> Result<bool, StoreError> {
    let Some(bytes) = step.tx.get(&claimed.key)? else { return Ok(false) };
    if codec::tag(&bytes) != Ok(claimed.waiting.revision.0) {
        return Ok(false);
    }
    step.remove_waiting(lane, &claimed.key)?;
    Ok(true)
}

fn remove_patches(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
) -> Result<(), StoreError> {
    let finding = &claimed.waiting.finding;
    details::remove(step.tx, lane, finding.node.as_str(), finding.facts.patches.as_ref())
}

fn acknowledge(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
    receipt: Receipt,
) -> Result<(), StoreError> {
    let node = claimed.waiting.finding.node.as_str();
    let newer =
        step.acked(lane, node)?.is_some_and(|acked| acked.receipt.revision > receipt.revision);
    if newer {
        return Ok(());
    }
    step.tx.put(&ledger::acked_key(lane, node), codec::encode(0, &Acked { receipt }))
}

fn mark_rejected(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
) -> Result<(), StoreError> {
    let Some(old) = step.desired(lane, claimed.waiting.finding.node.as_str())? else {
        return Ok(());
    };
    if old.revision != claimed.waiting.revision {
        return Ok(());
    }
    let new = ledger::Desired { rejected: true, ..old.clone() };
    step.put_desired(lane, Some(&old), &new)
}

fn rejected(claimed: ClaimedFinding, message: &str) -> Death {
    let finding = claimed.waiting.finding;
    Death {
        node: finding.node.as_str().into(),
        stage: Stage::Deliver,
        reason: Reason::RejectedByHub,
        message: message.into(),
        item: DeadItem::Finding(Box::new(finding)),
        count: 1,
    }
}

fn promote(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    key: &Key,
    value: &[u8],
) -> Result<(), StoreError> {
    let waiting = match codec::decode::<Waiting>(value) {
        Ok((_, waiting)) => waiting,
        Err(error) => return bury_delayed(step, lane, key, value, &error.to_string()),
    };
    let node = waiting.finding.node.to_string();
    // Whoever moved it meanwhile has taken the index entry, too.
    let Some(waiting) = step.take_delayed(lane, &node, waiting.place)? else { return Ok(()) };
    step.put_waiting(lane, &waiting)
}

fn bury_delayed(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    key: &Key,
    value: &[u8],
    message: &str,
) -> Result<(), StoreError> {
    if !step.tx.remove(key)? {
        return Ok(());
    }
    step.add(account::DELAYED, -1);
    step.effects.lane(lane).delayed -= 1;
    let name = format!("(delayed entry {:08x})", crc32fast::hash(key.as_bytes()));
    step.bury(lane, Death::undecodable(&name, Stage::Deliver, message, value, 1))
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
