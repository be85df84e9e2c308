//! One atomic step of an item on its way: typed writes over a store transaction.
//!
//! A [`Transition`] runs inside the committer. Every method keeps the accounting identity by
//! itself: what it takes from one place it puts in exactly one other, counters included. What
//! the step changes in memory (gauges, wake-ups) is collected as effects and applied only when
//! the commit stands.

use super::{
    accounting as account,
    dead::{self, Death},
    details,
    lanes::Effects,
    ledger::{self, Desired, LaneRow},
    outbox::{self, Place, Waiting},
};
use crate::{
    record::{
        Attempts, DeadLetter, Finding, Lane, ReadNumber, Reason, Revision, Stage, UnixMillis,
        observation::PatchList,
    },
    store::{CounterId, StoreError, Tx, codec, keys::Key},
};

/// See the module.
pub struct Transition<'a, 'b> {
    pub(super) tx: &'a mut Tx<'b>,
    pub(super) now: UnixMillis,
    pub(super) effects: Effects,
}

/// Where a version waits.
pub(super) enum Waits {
    InLine(Key),
    Delayed(Key),
}

/// A version of a finding that transform has decided to send.
#[derive(Clone, Debug)]
pub struct Decided {
    pub finding: Finding,
    pub read: ReadNumber,
    pub digest: u64,
    /// Whether it takes the place of an older version that still waits.
    pub coalesces: bool,
}

impl<'a, 'b> Transition<'a, 'b> {
    pub(super) fn new(tx: &'a mut Tx<'b>, now: UnixMillis) -> Self {
        Self { tx, now, effects: Effects::default() }
    }

    pub fn now(&self) -> UnixMillis {
        self.now
    }

    pub(super) fn add(&mut self, counter: CounterId, delta: i64) {
        self.tx.add(counter, delta);
    }

    /// A ledger row; a damaged one counts as absent, loudly.
    pub(super) fn row<T: serde::de::DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.tx.get(key)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok((_, row)) => Ok(Some(row)),
            Err(error) => {
                tracing::error!(?key, %error, "a ledger row is damaged and is made anew");
                Ok(None)
            }
        }
    }

    pub fn lane_row(&self, lane: &Lane) -> Result<LaneRow, StoreError> {
        Ok(self.row(&ledger::lane_row_key(lane))?.unwrap_or_default())
    }

    pub(super) fn put_lane_row(&mut self, lane: &Lane, row: &LaneRow) -> Result<(), StoreError> {
        self.tx.put(&ledger::lane_row_key(lane), codec::encode(0, row))
    }

    pub fn desired(&self, lane: &Lane, node: &str) -> Result<Option<Desired>, StoreError> {
        self.row(&ledger::desired_key(lane, node))
    }

    pub fn acked(&self, lane: &Lane, node: &str) -> Result<Option<ledger::Acked>, StoreError> {
        self.row(&ledger::acked_key(lane, node))
    }

    pub(super) fn waiting_at(&self, key: &Key) -> Result<Option<Waiting>, StoreError> {
        self.row(key)
    }

    pub(super) fn put_desired(
        &mut self,
        lane: &Lane,
        old: Option<&Desired>,
        new: &Desired,
    ) -> Result<(), StoreError> {
        let open = &mut self.effects.lane(lane).open;
        if let Some(severity) = old.and_then(|row| ledger::open_severity(row.tag())) {
            open[severity as usize] -= 1;
        }
        if let Some(severity) = ledger::open_severity(new.tag()) {
            open[severity as usize] += 1;
        }
        let key = ledger::desired_key(lane, new.finding.node.as_str());
        self.tx.put(&key, codec::encode(new.tag(), new))
    }

    /// The item tells nothing new; its read number is noted so that older ones are known as such.
    pub fn unchanged(
        &mut self,
        lane: &Lane,
        node: &str,
        read: ReadNumber,
        patches: Option<&PatchList>,
    ) -> Result<(), StoreError> {
        if let Some(mut desired) = self.desired(lane, node)?
            && desired.read < read
        {
            let old = desired.clone();
            desired.read = read;
            if desired.is_adopted() {
                // Judged here from now on, so that read numbers give the order again.
                desired.revision = Revision(self.tx.next_sequence());
            }
            self.put_desired(lane, Some(&old), &desired)?;
        }
        details::remove(self.tx, lane, node, patches)?;
        self.add(account::UNCHANGED, 1);
        Ok(())
    }

    /// What the hub holds of the node may be newer than this item: the item is coalesced, and the
    /// node observed anew.
    pub fn outdated(
        &mut self,
        lane: &Lane,
        node: &str,
        patches: Option<&PatchList>,
    ) -> Result<(), StoreError> {
        self.tx.remove(&ledger::seen_key(lane, node))?;
        self.effects.lane(lane).observe = true;
        self.superseded(lane, node, patches)
    }

    /// A newer state of the node was judged before this one.
    pub fn superseded(
        &mut self,
        lane: &Lane,
        node: &str,
        patches: Option<&PatchList>,
    ) -> Result<(), StoreError> {
        details::remove(self.tx, lane, node, patches)?;
        self.add(account::COALESCED, 1);
        Ok(())
    }

    /// Puts a version of a finding in the outbox and notes it as desired.
    pub fn send(
        &mut self,
        lane: &Lane,
        old: Option<&Desired>,
        decided: Decided,
    ) -> Result<(), StoreError> {
        let Decided { finding, read, digest, coalesces } = decided;
        let revision = Revision(self.tx.next_sequence());
        let earlier = if coalesces { self.take_waiting(lane, old)? } else { None };
        let severity = old.map_or(finding.severity, |row| row.finding.severity);
        let fresh = Place::new(finding.severity.max(severity), revision.0);
        let (place, since) = match &earlier {
            Some(earlier) => (earlier.place.raised_to(finding.severity), earlier.since),
            None => (fresh, finding.accepted_at),
        };
        let waiting = Waiting {
            revision,
            place,
            since,
            attempts: 0,
            first_sent_at: None,
            failures: Attempts::default(),
            finding: finding.clone(),
        };
        self.put_waiting(lane, &waiting)?;
        let desired = Desired {
            read,
            revision,
            finding,
            digest,
            place: Some(place),
            rejected: false,
            decided_at: self.now,
        };
        self.put_desired(lane, old, &desired)
    }

    /// Like [`Transition::send`], for a finding that no observation asked for, such as the close
    /// of one whose identity has changed: it is accepted here.
    pub fn send_derived(&mut self, lane: &Lane, finding: Finding) -> Result<(), StoreError> {
        self.add(account::ACCEPTED, 1);
        let revision = Revision(self.tx.next_sequence());
        let waiting = Waiting {
            revision,
            place: Place::new(finding.severity, revision.0),
            since: self.now,
            attempts: 0,
            first_sent_at: None,
            failures: Attempts::default(),
            finding,
        };
        self.put_waiting(lane, &waiting)
    }

    pub(super) fn put_waiting(&mut self, lane: &Lane, waiting: &Waiting) -> Result<(), StoreError> {
        let key = outbox::outbox_key(lane, waiting.place);
        self.tx.put(&key, waiting.encode())?;
        self.add(account::OUTBOX, 1);
        self.effects.lane(lane).outbox += 1;
        self.effects.written(lane, &key);
        Ok(())
    }

    /// The version that `desired` tells of, if it still waits, and where.
    pub(super) fn newest_waiting(
        &self,
        lane: &Lane,
        desired: &Desired,
    ) -> Result<Option<(Waits, Waiting)>, StoreError> {
        let Some(place) = desired.place else { return Ok(None) };
        let is_it = |waiting: &Waiting| waiting.revision == desired.revision;
        let key = outbox::outbox_key(lane, place);
        if let Some(waiting) = self.waiting_at(&key)?.filter(is_it) {
            return Ok(Some((Waits::InLine(key), waiting)));
        }
        let index = outbox::delayed_index_key(lane, desired.finding.node.as_str(), place);
        let Some(due) = self.row::<UnixMillis>(&index)? else { return Ok(None) };
        let key = outbox::delayed_key(lane, due, place);
        Ok(self.waiting_at(&key)?.filter(is_it).map(|waiting| (Waits::Delayed(key), waiting)))
    }

    /// Writes another version where one waits.
    pub(super) fn rewrite_waiting(
        &mut self,
        lane: &Lane,
        waits: &Waits,
        waiting: &Waiting,
    ) -> Result<(), StoreError> {
        match waits {
            Waits::InLine(key) => {
                self.effects.written(lane, key);
                self.tx.put(key, waiting.encode())
            }
            Waits::Delayed(key) => self.tx.put(key, waiting.encode()),
        }
    }

    /// Takes the version that still waits out of the line: it is coalesced.
    pub(super) fn take_waiting(
        &mut self,
        lane: &Lane,
        old: Option<&Desired>,
    ) -> Result<Option<Waiting>, StoreError> {
        let Some((old, place)) = old.and_then(|old| Some((old, old.place?))) else {
            return Ok(None);
        };
        let node = old.finding.node.as_str();
        let key = outbox::outbox_key(lane, place);
        let waiting = match self.waiting_at(&key)? {
            Some(waiting) if waiting.revision == old.revision => {
                self.remove_waiting(lane, &key)?;
                waiting
            }
            _ => match self.take_delayed(lane, node, place)? {
                Some(waiting) => waiting,
                None => return Ok(None),
            },
        };
        let patches = waiting.finding.facts.patches.as_ref();
        details::remove(self.tx, lane, node, patches)?;
        self.add(account::COALESCED, 1);
        Ok(Some(waiting))
    }

    /// Removes an outbox entry; the caller says where it went.
    pub(super) fn remove_waiting(&mut self, lane: &Lane, key: &Key) -> Result<(), StoreError> {
        self.tx.remove(key)?;
        self.add(account::OUTBOX, -1);
        self.effects.lane(lane).outbox -= 1;
        Ok(())
    }

    /// Removes a node's delayed entry; the caller says where it went.
    pub(super) fn take_delayed(
        &mut self,
        lane: &Lane,
        node: &str,
        place: Place,
    ) -> Result<Option<Waiting>, StoreError> {
        let index = outbox::delayed_index_key(lane, node, place);
        let Some(due) = self.row::<UnixMillis>(&index)? else { return Ok(None) };
        self.tx.remove(&index)?;
        let key = outbox::delayed_key(lane, due, place);
        // A damaged one stays, to be buried when it is due.
        let Some(waiting) = self.waiting_at(&key)? else { return Ok(None) };
        self.tx.remove(&key)?;
        self.add(account::DELAYED, -1);
        self.effects.lane(lane).delayed -= 1;
        Ok(Some(waiting))
    }

    pub(super) fn put_delayed(
        &mut self,
        lane: &Lane,
        waiting: &Waiting,
        due: UnixMillis,
    ) -> Result<(), StoreError> {
        let node = waiting.finding.node.as_str();
        let index = outbox::delayed_index_key(lane, node, waiting.place);
        self.tx.put(&index, codec::encode(0, &due))?;
        self.tx.put(&outbox::delayed_key(lane, due, waiting.place), waiting.encode())?;
        self.add(account::DELAYED, 1);
        let effect = self.effects.lane(lane);
        effect.delayed += 1;
        Ok(())
    }

    /// Removes a patch list whose item ends without it.
    pub fn drop_patches(
        &mut self,
        lane: &Lane,
        node: &str,
        patches: Option<&PatchList>,
    ) -> Result<(), StoreError> {
        details::remove(self.tx, lane, node, patches)
    }

    /// Takes a dead letter away; how many items it counted. The caller says where they went, and
    /// what becomes of its patches.
    pub(super) fn take_letter(
        &mut self,
        key: &Key,
        letter: &DeadLetter,
    ) -> Result<u64, StoreError> {
        let value = self.tx.get(key)?.unwrap_or_default();
        self.remove_letter(key, &value, letter.stage, letter.reason)
    }

    /// As [`Transition::take_letter`], of a letter that is known by its bytes.
    pub(super) fn remove_letter(
        &mut self,
        key: &Key,
        value: &[u8],
        stage: Stage,
        reason: Reason,
    ) -> Result<u64, StoreError> {
        // What doesn't even have a tag was never counted.
        let items = codec::tag(value).unwrap_or(0);
        let count = i64::try_from(items).unwrap_or(i64::MAX);
        self.tx.remove(key)?;
        self.add(account::DEAD, -count);
        *self.effects.dead.entry((stage, reason)).or_default() -= count;
        Ok(items)
    }

    /// Keeps an item that can't go on as a dead letter.
    pub fn bury(&mut self, lane: &Lane, death: Death) -> Result<(), StoreError> {
        let count = i64::try_from(death.count).unwrap_or(i64::MAX);
        self.add(account::DEAD, count);
        *self.effects.dead.entry((death.stage, death.reason)).or_default() += count;
        report_death(lane, &death);
        dead::bury(self.tx, lane, death, self.now)
    }
}

fn report_death(lane: &Lane, death: &Death) {
    let reason = death.reason;
    let level_is_error = matches!(death.stage, Stage::Transform);
    if level_is_error {
        tracing::error!(%lane, node = %death.node, %reason, said = %death.message, "an item is a dead letter now");
    } else {
        tracing::warn!(%lane, node = %death.node, %reason, said = %death.message, "an item is a dead letter now: see `patchferry dead list`");
    }
}
