//! What a lane has claimed and not settled: in flight, waiting for a request of its own, or
//! condemned. In memory alone; all of it is still in the outbox and is claimed again after a
//! restart.
//!
//! Guarantees: a finding is claimed once at a time, and never two versions of one; whatever is
//! released is found again by a later claim.

use std::collections::{HashMap, HashSet, VecDeque};

use super::batch::{Prepared, select};
use crate::{
    aws::security_hub::IMPORT_FINDINGS_MAX,
    queue::{LaneState, QueueError, Queues},
    record::{Attempts, Lane, Revision, Text},
    store::keys::Key,
};

/// Findings that may wait for a request of their own before fresh batches wait for them.
const FOLLOW_UPS_PREFERRED: usize = 200;

/// Findings put back whose failed attempts are remembered: what a lane that doesn't flow probes
/// with, several times over.
const FAILURES_REMEMBERED_MAX: usize = 500;

/// A claimed finding's place in the outbox and its Id.
pub type Held = (Key, String);

/// See the module.
#[derive(Default)]
pub struct Flight {
    keys: HashSet<Key>,
    ids: HashSet<String>,
    /// Where the next claim goes on; `None`: at the outbox's beginning.
    cursor: Option<Key>,
    /// A finding was passed over: look again from the beginning once something has landed.
    rescan: bool,
    follow_ups: VecDeque<Vec<Prepared>>,
    followed_up_last: bool,
    condemned: Vec<(Prepared, Text<1024>)>,
    /// Failed attempts of findings that were put back, for the receipt that ends them.
    failures: HashMap<Key, (Revision, Attempts)>,
}

impl Flight {
    /// The next request's findings: follow-ups and fresh ones take turns, until too many
    /// follow-ups wait. `None` if there is nothing to send.
    pub async fn next_batch(
        &mut self,
        lane: &Lane,
        queues: &Queues,
        state: &LaneState,
        findings_max: usize,
    ) -> Result<Option<Vec<Prepared>>, QueueError> {
        let waiting: usize = self.follow_ups.iter().map(Vec::len).sum();
        let follow_up_first = !self.followed_up_last || waiting > FOLLOW_UPS_PREFERRED;
        if follow_up_first && let Some(batch) = self.follow_ups.pop_front() {
            self.followed_up_last = true;
            return Ok(Some(batch));
        }
        if let Some(batch) = self.claim(lane, queues, state, findings_max).await? {
            self.followed_up_last = false;
            return Ok(Some(batch));
        }
        Ok(self.follow_ups.pop_front())
    }

    async fn claim(
        &mut self,
        lane: &Lane,
        queues: &Queues,
        state: &LaneState,
        findings_max: usize,
    ) -> Result<Option<Vec<Prepared>>, QueueError> {
        if let Some(written) = state.take_rewind()
            && self.cursor.as_ref().is_some_and(|cursor| written < *cursor)
        {
            self.cursor = None;
        }
        loop {
            let mut claim = queues
                .claim_outbox(lane, self.cursor.clone(), IMPORT_FINDINGS_MAX, self.keys.clone())
                .await?;
            if !claim.undecodable.is_empty() {
                let undecodable = std::mem::take(&mut claim.undecodable);
                queues.bury_undecodable(lane, undecodable).await?;
                continue;
            }
            let from_start = self.cursor.is_none();
            let mut selection = select(lane, claim, &self.ids, findings_max);
            self.rescan |= selection.passed_over;
            self.cursor = selection.next.or(self.cursor.take());
            if !selection.batch.is_empty() {
                for prepared in &mut selection.batch {
                    self.recall_failures(prepared);
                    self.keys.insert(prepared.claimed.key.clone());
                    self.ids.insert(prepared.id.clone());
                }
                return Ok(Some(selection.batch));
            }
            if from_start {
                return Ok(None);
            }
            self.cursor = None;
        }
    }

    /// The next claim begins at the outbox's beginning.
    pub fn rewind(&mut self) {
        self.cursor = None;
    }

    /// These have landed: settled, or back in the outbox.
    pub fn release(&mut self, held: &[Held]) {
        for (key, id) in held {
            self.keys.remove(key);
            self.ids.remove(id);
        }
        if std::mem::take(&mut self.rescan) {
            self.cursor = None;
        }
    }

    /// These go back to where they were claimed from, and are found again by a later claim.
    pub fn put_back(&mut self, findings: Vec<Prepared>) {
        for prepared in &findings {
            let waiting = &prepared.claimed.waiting;
            if !waiting.failures.is_empty() && self.failures.len() < FAILURES_REMEMBERED_MAX {
                let known = (waiting.revision, waiting.failures.clone());
                self.failures.insert(prepared.claimed.key.clone(), known);
            }
        }
        let held: Vec<Held> = findings.into_iter().map(held).collect();
        self.release(&held);
    }

    fn recall_failures(&mut self, prepared: &mut Prepared) {
        let Some((revision, failures)) = self.failures.remove(&prepared.claimed.key) else {
            return;
        };
        if revision == prepared.claimed.waiting.revision {
            prepared.claimed.waiting.failures = failures;
        }
    }

    /// Sends a finding alone, soon.
    pub fn isolate(&mut self, prepared: Prepared) {
        self.follow_ups.push_back(vec![prepared]);
    }

    /// Sends findings again in two halves, soon.
    pub fn halve(&mut self, mut findings: Vec<Prepared>) {
        let second = findings.split_off(findings.len() / 2);
        for half in [findings, second] {
            if !half.is_empty() {
                self.follow_ups.push_back(half);
            }
        }
    }

    pub fn has_follow_ups(&self) -> bool {
        !self.follow_ups.is_empty()
    }

    /// Called invalid, sent alone; waits for proof that not everything is.
    pub fn condemn(&mut self, prepared: Prepared, message: Text<1024>) {
        self.condemned.push((prepared, message));
    }

    /// Rejections since something was last acknowledged or buried.
    pub fn condemned(&self) -> usize {
        self.condemned.len()
    }

    pub fn take_condemned(&mut self) -> Vec<(Prepared, Text<1024>)> {
        std::mem::take(&mut self.condemned)
    }

    /// Gives everything back that isn't in a request.
    pub fn give_back(&mut self) {
        let condemned = self.take_condemned().into_iter().map(|(prepared, _)| prepared);
        let follow_ups = std::mem::take(&mut self.follow_ups).into_iter().flatten();
        self.put_back(condemned.chain(follow_ups).collect());
        self.cursor = None;
    }
}

/// A finding's place and Id, to release it by.
fn held(prepared: Prepared) -> Held {
    (prepared.claimed.key, prepared.id)
}
