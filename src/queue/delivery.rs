//! The outboxes: what deliver claims, how each finding is settled, and when delayed ones return.

use std::{collections::HashSet, time::Duration};

use super::{
    QueueError, Queues, accounting as account,
    dead::Death,
    details,
    ledger::{self, Acked},
    outbox::{self, ClaimedFinding, Undecodable, Waiting},
    reopening,
    transition::Transition,
};
use crate::{
    record::{
        Lane, PatchDetail, Reason, Receipt, RecordState, Source, Stage, UnixMillis,
        dead_letter::DeadItem, observation::GoneReason,
    },
    store::{
        Commit, Reader, StoreError, codec,
        keys::{Key, Table},
    },
};

/// Delayed findings that one look brings back.
const PROMOTED_MAX: usize = 500;

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
        let reopens = settlements.iter().any(|settlement| match settlement {
            Settlement::Acknowledged { claimed, .. } => {
                reopening::may_close(&claimed.waiting.finding)
            }
            _ => false,
        });
        let count = settlements.len();
        // Durable: what follows a closing version may be sent as soon as this returns.
        let commit = if reopens { Commit::durable(count) } else { Commit::hand_off(count) };
        self.transition(commit, move |step| {
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
        delay_max: Duration,
    ) -> Result<Option<UnixMillis>, QueueError> {
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
}

fn read_patches(
    reader: &Reader<'_>,
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
            if newest {
                reopening::acknowledged(step, lane, &claimed)?;
            }
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
            if !take_claimed(step, lane, &claimed)? {
                return Ok(false);
            }
            if closes_a_former_name(&claimed) {
                // A name that the hub doesn't take is one that it holds nothing under.
                tracing::info!(%lane, node = %claimed.waiting.finding.node, said = %message, "the hub holds nothing under the finding's former name");
                remove_patches(step, lane, &claimed)?;
                step.add(account::UNCHANGED, 1);
                return Ok(false);
            }
            mark_rejected(step, lane, &claimed)?;
            reopening::rejected(step, lane, &claimed)?;
            step.bury(lane, rejected(claimed, &message))?;
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

fn closes_a_former_name(claimed: &ClaimedFinding) -> bool {
    let finding = &claimed.waiting.finding;
    finding.source == Source::Derived && finding.state == RecordState::Gone(GoneReason::Superseded)
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
    if step.tx.get(key)?.as_deref() != Some(value) {
        // Moved or replaced since it was read; a replaced one is found by the next look.
        return Ok(());
    }
    step.tx.remove(key)?;
    let node = waiting.finding.node.as_str();
    step.tx.remove(&outbox::delayed_index_key(lane, node, waiting.place))?;
    step.add(account::DELAYED, -1);
    step.effects.lane(lane).delayed -= 1;
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
