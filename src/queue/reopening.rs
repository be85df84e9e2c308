//! Reopening: a finding that somebody has set to RESOLVED stays hidden however often it is updated;
//! only a return from archived or passed shows it again. So one whose node a newer scan still calls
//! non-compliant is closed, and once the hub has acknowledged that, opened again.
//!
//! Key: `Reopening`, lane, node. Value: [`Reopening`].
//!
//! | row | written when | ends when |
//! |---|---|---|
//! | `Watched` | the finding was seen to be resolved by somebody | it isn't any more, the node is compliant, or it becomes due |
//! | `Due` | a newer scan was judged non-compliant | it isn't resolved any more, the node is compliant, or it is closed |
//! | `Closing` | in the commit that sends the closing version | in the commit that notes its acknowledgement and sends the next |
//!
//! Guarantees: from the commit that sends the closing version to the one that sends the version
//! after it, the row says what is to follow, so no death in between leaves a finding archived whose
//! node is non-compliant. What is judged of the node meanwhile becomes part of what follows; a node
//! that is compliant meanwhile ends resolved.
//!
//! Deliberately doesn't know: who resolved a finding, and how that was found out.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    QueueError, Queues, accounting as account, details,
    ledger::{self, Desired, lane_key},
    outbox::ClaimedFinding,
    transition::{Decided, Transition},
};
use crate::{
    failpoint::{self, FailPoint},
    record::{
        Change, Finding, Lane, ReadNumber, RecordState, Severity, Source, UnixMillis,
        observation::PatchList,
    },
    store::{
        Commit, StoreError, codec,
        keys::{Key, KeyFields, Table},
    },
};

/// Nodes that one commit looks at.
const STEP_NODES_MAX: usize = 200;

/// How far the reopening of a node's finding has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reopening {
    /// `reported`: the end of the scan that the hub was told of last.
    Watched {
        reported: UnixMillis,
    },
    Due {
        reported: UnixMillis,
    },
    Closing(Closing),
}

/// What follows once the closing version is acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    pub finding: Box<Finding>,
    pub digest: u64,
    pub read: ReadNumber,
}

impl Closing {
    /// `desired` as it is to be: what the node is judged by meanwhile.
    #[must_use]
    pub fn believed(&self, desired: &Desired) -> Desired {
        Desired {
            finding: (*self.finding).clone(),
            digest: self.digest,
            read: self.read.max(desired.read),
            ..desired.clone()
        }
    }
}

/// What came of a look at the findings that somebody has resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Are watched from now on: their nodes are observed anew.
    pub watched: usize,
    /// Are being closed, to be opened again.
    pub closing: usize,
}

pub(super) fn key(lane: &Lane, node: &str) -> Key {
    lane_key(Table::Reopening, lane).text(node)
}

impl Queues {
    /// Takes note of which nodes' findings somebody has resolved: watches those that weren't,
    /// closes those that are due, forgets those that aren't resolved any more.
    pub async fn resolved_by_people(
        &self,
        lane: &Lane,
        resolved: HashSet<String>,
    ) -> Result<LookedAt, QueueError> {
        let known = self.reopening_nodes(lane).await?;
        let over: Vec<String> = known.into_iter().filter(|node| !resolved.contains(node)).collect();
        for nodes in over.chunks(STEP_NODES_MAX) {
            let (lane, nodes) = (lane.clone(), nodes.to_vec());
            self.transition(Commit::durable(nodes.len()), move |step| {
                nodes.iter().try_for_each(|node| step.end_watch(&lane, node))
            })
            .await?;
        }
        let resolved: Vec<String> = resolved.into_iter().collect();
        let mut looked_at = LookedAt::default();
        for nodes in resolved.chunks(STEP_NODES_MAX) {
            let (lane, nodes) = (lane.clone(), nodes.to_vec());
            let found = self
                .transition(Commit::durable(nodes.len()), move |step| {
                    let mut found = LookedAt::default();
                    for node in nodes {
                        look_at(step, &lane, &node, &mut found)?;
                    }
                    Ok(found)
                })
                .await?;
            looked_at.watched += found.watched;
            looked_at.closing += found.closing;
            if found.closing > 0 {
                failpoint::reach(FailPoint::ReopeningClosed);
            }
        }
        Ok(looked_at)
    }

    /// For the start of a lane: tells again of what is due, and opens again what is being closed
    /// although nothing waits that would be acknowledged, such as where the version was damaged;
    /// how many of the latter.
    pub async fn resume_reopenings(&self, lane: &Lane) -> Result<usize, QueueError> {
        let nodes = self.reopening_nodes(lane).await?;
        let mut resumed = 0;
        for nodes in nodes.chunks(STEP_NODES_MAX) {
            let (lane, nodes) = (lane.clone(), nodes.to_vec());
            resumed += self
                .transition(Commit::durable(nodes.len()), move |step| {
                    let mut resumed = 0;
                    for node in nodes {
                        resumed += usize::from(resume(step, &lane, &node)?);
                    }
                    Ok(resumed)
                })
                .await?;
        }
        Ok(resumed)
    }

    /// Nodes of a lane that have a row here.
    async fn reopening_nodes(&self, lane: &Lane) -> Result<Vec<String>, QueueError> {
        let prefix = lane_key(Table::Reopening, lane);
        let nodes = self
            .store
            .read(move |reader| {
                let mut nodes = Vec::new();
                reader.visit(&prefix, &prefix, |key, _| {
                    let mut fields = KeyFields::of(key);
                    nodes.extend(fields.text().and_then(|_lane| fields.text()).map(str::to_string));
                    true
                })?;
                Ok(nodes)
            })
            .await?;
        Ok(nodes)
    }
}

impl Transition<'_, '_> {
    pub fn reopening(&self, lane: &Lane, node: &str) -> Result<Option<Reopening>, StoreError> {
        self.row(&key(lane, node))
    }

    fn put_reopening(
        &mut self,
        lane: &Lane,
        node: &str,
        row: &Reopening,
    ) -> Result<(), StoreError> {
        self.tx.put(&key(lane, node), codec::encode(0, row))
    }

    /// The node is watched, and a scan newer than the reported one finds it non-compliant.
    pub fn reopening_is_due(
        &mut self,
        lane: &Lane,
        node: &str,
        reported: UnixMillis,
    ) -> Result<(), StoreError> {
        self.effects.lane(lane).reopening_is_due = true;
        self.put_reopening(lane, node, &Reopening::Due { reported })
    }

    /// Nothing is to be opened again; with what had been kept for that.
    pub fn end_reopening(&mut self, lane: &Lane, node: &str) -> Result<(), StoreError> {
        if let Some(Reopening::Closing(closing)) = self.reopening(lane, node)? {
            details::remove(self.tx, lane, node, closing.finding.facts.patches.as_ref())?;
        }
        self.tx.remove(&key(lane, node))?;
        Ok(())
    }

    /// As [`Transition::end_reopening`], unless the finding is being closed.
    fn end_watch(&mut self, lane: &Lane, node: &str) -> Result<(), StoreError> {
        match self.reopening(lane, node)? {
            Some(Reopening::Closing(_)) => Ok(()),
            _ => self.end_reopening(lane, node),
        }
    }

    /// A newer state of the node becomes what follows the closing version: the item that told it
    /// takes no place of its own in the line.
    pub fn follow_with(
        &mut self,
        lane: &Lane,
        before: &Closing,
        mut next: Closing,
    ) -> Result<(), StoreError> {
        let node = next.finding.node.clone();
        next.finding.change = Change::Reopened;
        next.finding.source = Source::Derived;
        let patches: Option<&PatchList> = before.finding.facts.patches.as_ref();
        if patches != next.finding.facts.patches.as_ref() {
            details::remove(self.tx, lane, node.as_str(), patches)?;
        }
        self.add(account::COALESCED, 1);
        self.put_reopening(lane, node.as_str(), &Reopening::Closing(next))
    }

    /// The node's `seen` row is taken away: the next sweep looks at it anew.
    pub(super) fn forget_seen(&mut self, lane: &Lane, node: &str) -> Result<(), StoreError> {
        self.tx.remove(&ledger::seen_key(lane, node)).map(drop)
    }
}

/// A finding that somebody has resolved.
fn look_at(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    node: &str,
    found: &mut LookedAt,
) -> Result<(), StoreError> {
    let Some(desired) = step.desired(lane, node)? else { return Ok(()) };
    let is_open = desired.finding.state.is_open() && !desired.rejected;
    if !is_open || step.newest_waiting(lane, &desired)?.is_some() {
        return Ok(());
    }
    match step.reopening(lane, node)? {
        None => {
            let reported = reported_by(&desired.finding);
            step.put_reopening(lane, node, &Reopening::Watched { reported })?;
            step.forget_seen(lane, node)?;
            found.watched += 1;
        }
        Some(Reopening::Due { .. }) => {
            close(step, lane, &desired)?;
            found.closing += 1;
        }
        Some(Reopening::Watched { .. } | Reopening::Closing(_)) => {}
    }
    Ok(())
}

/// The end of the scan that a finding tells of.
fn reported_by(finding: &Finding) -> UnixMillis {
    let facts = &finding.facts;
    facts
        .operation_end
        .or_else(|| facts.compliance.as_ref()?.execution_time)
        .unwrap_or(finding.last_observed_at)
}

/// Sends the closing version, and notes what follows.
fn close(step: &mut Transition<'_, '_>, lane: &Lane, desired: &Desired) -> Result<(), StoreError> {
    let node = desired.finding.node.as_str();
    let now = step.now();
    let had_patches = desired.finding.facts.patches.is_some();
    let mut closing = derived(&desired.finding, now);
    closing.change = Change::Resolved;
    closing.state = RecordState::Resolved;
    closing.severity = Severity::Informational;
    let mut finding = derived(&desired.finding, now);
    finding.change = Change::Reopened;
    finding.updated_at = UnixMillis(closing.updated_at.0 + 1);
    if had_patches {
        // The list went with the version that was delivered: it is read again.
        step.forget_seen(lane, node)?;
    }
    let digest = if had_patches { 0 } else { desired.digest };
    let next = Closing { finding: Box::new(finding), digest, read: desired.read };
    step.put_reopening(lane, node, &Reopening::Closing(next))?;
    step.add(account::ACCEPTED, 1);
    let decided = Decided { finding: closing, read: desired.read, digest: 0, coalesces: true };
    step.send(lane, Some(desired), decided)
}

/// A newer version of a finding that no observation asked for.
pub(super) fn derived(finding: &Finding, now: UnixMillis) -> Finding {
    let mut derived = finding.clone();
    derived.updated_at = now.max(UnixMillis(finding.updated_at.0 + 1));
    derived.accepted_at = now;
    derived.source = Source::Derived;
    // The patch list went with the version that was delivered.
    derived.facts.patches = None;
    derived
}

/// Whether this may be a closing version: what follows it must be on disk before it is sent.
pub(super) fn may_close(finding: &Finding) -> bool {
    finding.source == Source::Derived && finding.state == RecordState::Resolved
}

/// A finding was acknowledged as the newest version: if that closes it for a reopening, the next
/// version is sent.
pub(super) fn acknowledged(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
) -> Result<(), StoreError> {
    let finding = &claimed.waiting.finding;
    if !may_close(finding) {
        return Ok(());
    }
    let node = finding.node.as_str();
    let Some(Reopening::Closing(closing)) = step.reopening(lane, node)? else { return Ok(()) };
    match step.desired(lane, node)? {
        Some(desired) if desired.revision == claimed.waiting.revision => {
            open_again(step, lane, &desired, closing)
        }
        _ => Ok(()),
    }
}

/// The hub calls the closing version invalid: it holds the finding as it was.
pub(super) fn rejected(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    claimed: &ClaimedFinding,
) -> Result<(), StoreError> {
    let node = claimed.waiting.finding.node.as_str();
    let Some(Reopening::Closing(closing)) = step.reopening(lane, node)? else { return Ok(()) };
    let Some(desired) = step.desired(lane, node)? else { return Ok(()) };
    if desired.revision != claimed.waiting.revision {
        return Ok(());
    }
    let mut open = closing.believed(&desired);
    open.rejected = true;
    step.end_reopening(lane, node)?;
    open.finding.facts.patches = None;
    step.put_desired(lane, Some(&desired), &open)
}

fn resume(step: &mut Transition<'_, '_>, lane: &Lane, node: &str) -> Result<bool, StoreError> {
    let closing = match step.reopening(lane, node)? {
        Some(Reopening::Closing(closing)) => closing,
        Some(Reopening::Due { .. }) => {
            step.effects.lane(lane).reopening_is_due = true;
            return Ok(false);
        }
        Some(Reopening::Watched { .. }) | None => return Ok(false),
    };
    let Some(desired) = step.desired(lane, node)? else {
        step.end_reopening(lane, node)?;
        return Ok(false);
    };
    if step.newest_waiting(lane, &desired)?.is_some() {
        return Ok(false);
    }
    open_again(step, lane, &desired, closing)?;
    Ok(true)
}

fn open_again(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    desired: &Desired,
    closing: Closing,
) -> Result<(), StoreError> {
    let Closing { finding, digest, read } = closing;
    let mut finding = *finding;
    finding.updated_at = finding.updated_at.max(UnixMillis(desired.finding.updated_at.0 + 1));
    // Its patches, if it has any, are the waiting version's from here on.
    step.tx.remove(&key(lane, finding.node.as_str()))?;
    step.add(account::ACCEPTED, 1);
    let decided = Decided { finding, read: read.max(desired.read), digest, coalesces: true };
    step.send(lane, Some(desired), decided)
}
