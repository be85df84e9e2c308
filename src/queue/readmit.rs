//! Readmission: an item that had left the queues goes on where it belongs.
//!
//! | item | where | unless |
//! |---|---|---|
//! | observation | observed queue | a newer state of the node was accepted or judged |
//! | assessment | assessed queue | as above |
//! | finding | outbox, as a new version | the ledger knows a newer version of it, or this one is waiting or acknowledged |
//! | raw | nowhere: what doesn't decode can't go on | |
//!
//! What loses to a newer state is coalesced. An observation or assessment that goes on takes the
//! node's `seen` row away: the next sweep looks at the node anew, so that an old state can't
//! stand, whatever the ledger knew of a newer one.
//!
//! A finding that goes on as the node's newest version gets a new revision, and an `UpdatedAt`
//! greater than any assigned to it before; the mark of its rejection is taken from `desired`. One
//! that `desired` doesn't speak of (another run's, or the close of an earlier identity) is sent
//! again as it is.

use std::collections::HashMap;

use super::{
    QueueError, Queues, accounting as account, details,
    ledger::{self, Desired, Seen},
    outbox::{Place, Waiting},
    pages::{self, Accepted},
    reopening,
    transition::Transition,
};
use crate::{
    record::{
        Assessment, Attempts, Finding, FindingId, Lane, Observation, PatchDetail, ReadNumber,
        Revision, Severity, Source, UnixMillis, dead_letter::DeadItem, observation::PatchList,
    },
    store::{Commit, CounterId, StoreError, codec, keys::Table},
};

/// An item from outside the store, with what belongs to it.
#[derive(Clone, Debug)]
pub struct Readmission {
    pub lane: Lane,
    pub item: DeadItem,
    /// Its patches, as many as there are; the item's list is made to agree with them.
    pub patches: Vec<PatchDetail>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Readmitted {
    Observed,
    Assessed,
    Outbox,
    /// A newer state of the node was known.
    Coalesced,
    /// Bytes that don't decode: nothing was done.
    Undecodable,
}

impl Queues {
    /// Accepts items from outside the store, such as those of a quarantined one: each counts as
    /// accepted, and as queued or coalesced, but for those that don't decode, which count as
    /// nothing. All of them or none; on disk when this returns. The answers are in the order of
    /// `items`.
    pub async fn readmit(&self, items: Vec<Readmission>) -> Result<Vec<Readmitted>, QueueError> {
        self.transition(Commit::durable(items.len()), move |step| {
            let mut batch = Batch::default();
            let mut ended = Vec::with_capacity(items.len());
            for Readmission { lane, mut item, patches } in items {
                let chunks = details::chunks(&patches);
                let node = node_of(&item).to_string();
                if let Some(list) = patches_mut(&mut item) {
                    list.kept = u32::try_from(patches.len()).unwrap_or(u32::MAX);
                    list.chunks = u16::try_from(chunks.len()).unwrap_or(u16::MAX);
                    details::insert(step.tx, &lane, &node, list, chunks)?;
                }
                let became = batch.readmit(step, &lane, item)?;
                if became != Readmitted::Undecodable {
                    step.add(account::ACCEPTED, 1);
                }
                ended.push(became);
            }
            batch.finish(step)?;
            Ok(ended)
        })
        .await
    }
}

/// The items that one commit readmits: those of a queue of pages share pages.
#[derive(Default)]
pub(super) struct Batch {
    observed: HashMap<Lane, Vec<Accepted>>,
    assessed: HashMap<Lane, Vec<Assessment>>,
}

impl Batch {
    /// Has an item go on that nothing counts any more: the caller has taken it from where it was.
    pub fn readmit(
        &mut self,
        step: &mut Transition<'_, '_>,
        lane: &Lane,
        item: DeadItem,
    ) -> Result<Readmitted, StoreError> {
        match item {
            DeadItem::Observation { accepted_at: at, observation } => {
                let state = State::of_observation(&observation);
                if !state.goes_on(step, lane)? {
                    return Ok(Readmitted::Coalesced);
                }
                let observation = *observation;
                self.observed.entry(lane.clone()).or_default().push(Accepted { at, observation });
                Ok(Readmitted::Observed)
            }
            DeadItem::Assessment(assessment) => {
                if !State::of_assessment(&assessment).goes_on(step, lane)? {
                    return Ok(Readmitted::Coalesced);
                }
                self.assessed.entry(lane.clone()).or_default().push(*assessment);
                Ok(Readmitted::Assessed)
            }
            DeadItem::Finding(finding) => readmit_finding(step, lane, *finding),
            DeadItem::Raw { .. } => Ok(Readmitted::Undecodable),
        }
    }

    /// Writes the pages.
    pub fn finish(self, step: &mut Transition<'_, '_>) -> Result<(), StoreError> {
        for (lane, items) in self.observed {
            put_pages(step, Table::Observed, account::OBSERVED, &lane, pages::paginate(&items))?;
            step.effects.observed = true;
        }
        for (lane, items) in self.assessed {
            put_pages(step, Table::Assessed, account::ASSESSED, &lane, pages::paginate(&items))?;
            step.effects.assessed = true;
        }
        Ok(())
    }
}

fn put_pages(
    step: &mut Transition<'_, '_>,
    table: Table,
    counter: CounterId,
    lane: &Lane,
    pages: Vec<(Vec<u8>, i64)>,
) -> Result<(), StoreError> {
    for (page, count) in pages {
        let key = pages::fifo_key(table, step.tx.next_sequence(), lane);
        step.tx.insert_new(&key, page)?;
        step.add(counter, count);
    }
    Ok(())
}

/// A node's state as an observation or an assessment tells it.
struct State<'a> {
    node: &'a str,
    read: ReadNumber,
    read_at: UnixMillis,
    patches: Option<&'a PatchList>,
}

impl<'a> State<'a> {
    fn of_observation(observation: &'a Observation) -> Self {
        Self {
            node: observation.node.as_str(),
            read: observation.read,
            read_at: observation.read_at,
            patches: observation.patches.as_ref(),
        }
    }

    fn of_assessment(assessment: &'a Assessment) -> Self {
        Self {
            node: assessment.node.as_str(),
            read: assessment.read,
            read_at: assessment.read_at,
            patches: assessment.facts.patches.as_ref(),
        }
    }

    /// Whether it goes on; else it is coalesced here.
    fn goes_on(&self, step: &mut Transition<'_, '_>, lane: &Lane) -> Result<bool, StoreError> {
        let judged = step.desired(lane, self.node)?.is_some_and(|row| row.outranks(self.read));
        // A compliant node without a finding has no `desired` row, but a `seen` one.
        let seen_key = ledger::seen_key(lane, self.node);
        let seen: Option<Seen> = step.tx.get(&seen_key)?.and_then(|bytes| {
            let decoded = codec::decode(&bytes).ok()?;
            Some(decoded.1)
        });
        if judged || seen.is_some_and(|seen| seen.accepted_at > self.read_at) {
            step.superseded(lane, self.node, self.patches)?;
            return Ok(false);
        }
        step.tx.remove(&seen_key)?;
        Ok(true)
    }
}

/// What the ledger makes of a finding that comes back.
enum Standing {
    /// A newer version of it is known, or this one waits or was acknowledged.
    Lost,
    /// The node's newest version.
    Newest,
    /// The ledger speaks of another finding of the node's, which this one doesn't touch.
    Apart,
}

fn readmit_finding(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    finding: Finding,
) -> Result<Readmitted, StoreError> {
    let desired = step.desired(lane, finding.node.as_str())?;
    match standing(step, lane, desired.as_ref(), &finding)? {
        Standing::Lost => {
            let patches = finding.facts.patches.clone();
            step.superseded(lane, finding.node.as_str(), patches.as_ref())?;
            return Ok(Readmitted::Coalesced);
        }
        Standing::Newest => send_newest(step, lane, desired.as_ref(), finding)?,
        Standing::Apart => {
            let severity = finding.severity;
            put(step, lane, finding, severity)?;
        }
    }
    Ok(Readmitted::Outbox)
}

fn standing(
    step: &Transition<'_, '_>,
    lane: &Lane,
    desired: Option<&Desired>,
    finding: &Finding,
) -> Result<Standing, StoreError> {
    let Some(desired) = desired else { return Ok(Standing::Newest) };
    if !desired.finding.has_name_of(finding, lane) {
        let runs = |id: &FindingId| matches!(id, FindingId::Operation { .. });
        let apart =
            finding.source == Source::Derived || (runs(&desired.finding.id) && runs(&finding.id));
        return Ok(if apart { Standing::Apart } else { Standing::Lost });
    }
    if reopening::may_close(finding) {
        // What was to follow it isn't here: the node is told anew instead.
        return Ok(Standing::Lost);
    }
    let newer = desired.finding.updated_at > finding.updated_at
        || desired.outdates(ReadNumber(0), finding.last_observed_at, finding.source);
    let same = desired.finding.updated_at == finding.updated_at;
    if newer || (same && is_under_way(step, lane, desired)?) {
        return Ok(Standing::Lost);
    }
    Ok(Standing::Newest)
}

/// Whether the newest version of a node's finding waits or was acknowledged.
fn is_under_way(
    step: &Transition<'_, '_>,
    lane: &Lane,
    desired: &Desired,
) -> Result<bool, StoreError> {
    let node = desired.finding.node.as_str();
    let acked = step.acked(lane, node)?.filter(|_| !desired.is_adopted());
    if acked.is_some_and(|acked| acked.receipt.revision >= desired.revision) {
        return Ok(true);
    }
    Ok(step.newest_waiting(lane, desired)?.is_some())
}

/// Sends `finding` anew as the newest version.
fn send_newest(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    old: Option<&Desired>,
    mut finding: Finding,
) -> Result<(), StoreError> {
    let mut severity = finding.severity;
    if let Some(old) = old {
        let above = UnixMillis(old.finding.updated_at.0 + 1);
        finding.updated_at = finding.updated_at.max(above);
        finding.created_at = old.finding.created_at;
        severity = severity.max(old.finding.severity);
    } else if step.lane_row(lane)?.read_back.is_denied() {
        finding.updated_at = finding.updated_at.max(step.now());
    }
    let (revision, place) = put(step, lane, finding.clone(), severity)?;
    let new = Desired {
        read: old.map_or(ReadNumber(0), |old| old.read),
        revision,
        digest: old.map_or(0, |old| old.digest),
        finding,
        place: Some(place),
        rejected: false,
        decided_at: step.now(),
    };
    step.put_desired(lane, old, &new)
}

/// Puts a finding at the end of its severity's line.
fn put(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    finding: Finding,
    severity: Severity,
) -> Result<(Revision, Place), StoreError> {
    let revision = Revision(step.tx.next_sequence());
    let place = Place::new(severity, revision.0);
    let waiting = Waiting {
        revision,
        place,
        since: step.now(),
        attempts: 0,
        first_sent_at: None,
        failures: Attempts::default(),
        finding,
    };
    step.put_waiting(lane, &waiting)?;
    Ok((revision, place))
}

pub(super) fn node_of(item: &DeadItem) -> &str {
    match item {
        DeadItem::Observation { observation, .. } => observation.node.as_str(),
        DeadItem::Assessment(assessment) => assessment.node.as_str(),
        DeadItem::Finding(finding) => finding.node.as_str(),
        DeadItem::Raw { .. } => "",
    }
}

pub(super) fn patches_mut(item: &mut DeadItem) -> Option<&mut PatchList> {
    match item {
        DeadItem::Observation { observation, .. } => observation.patches.as_mut(),
        DeadItem::Assessment(assessment) => assessment.facts.patches.as_mut(),
        DeadItem::Finding(finding) => finding.facts.patches.as_mut(),
        DeadItem::Raw { .. } => None,
    }
}
