//! What is held in memory of each lane: wake-ups and gauges. Rebuilt by one scan at the start,
//! moved by the effects of commits, never an authority.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::pause::{self, Pause, PauseWhat, Pauses};
use crate::{
    record::{Lane, Reason, Severity, Stage},
    store::keys::Key,
};

/// A lane's wake-ups and gauges.
pub struct LaneState {
    lane: Lane,
    pauses: watch::Receiver<Pauses>,
    /// Something for deliver to look at: an entry, the end of a read-back, a pause or its end.
    pub deliver: Notify,
    /// A finding that somebody has resolved is due to be opened again.
    pub reopening_is_due: Notify,
    /// What is known of the lane's nodes may be old: they are to be observed soon.
    pub observe: Notify,
    /// A read-back has found nodes that are to be observed anew.
    pub(super) stale: AtomicBool,
    /// The lowest outbox key that was written since deliver last looked.
    rewind: Mutex<Option<Key>>,
    outbox: AtomicI64,
    delayed: AtomicI64,
    open: [AtomicI64; 5],
    stubborn: AtomicU64,
    pub(super) reads: Mutex<ReadNumbers>,
}

/// Read numbers that are reserved in the store and not given yet.
#[derive(Default)]
pub(super) struct ReadNumbers {
    pub next: u64,
    pub end: u64,
}

impl LaneState {
    fn new(lane: Lane, pauses: watch::Receiver<Pauses>) -> Self {
        Self {
            lane,
            pauses,
            deliver: Notify::new(),
            reopening_is_due: Notify::new(),
            observe: Notify::new(),
            stale: AtomicBool::default(),
            rewind: Mutex::default(),
            outbox: AtomicI64::default(),
            delayed: AtomicI64::default(),
            open: Default::default(),
            stubborn: AtomicU64::default(),
            reads: Mutex::default(),
        }
    }

    /// By an operator: nothing goes out in the lane. `deliver` tells of the end.
    pub fn delivery_paused(&self) -> Option<Pause> {
        self.pauses.borrow().of(PauseWhat::Delivery, &self.lane).cloned()
    }

    /// By an operator: nothing is taken in for the lane.
    pub fn ingest_paused(&self) -> Option<Pause> {
        self.pauses.borrow().of(PauseWhat::Ingest, &self.lane).cloned()
    }

    /// Waits until ingest of the lane isn't paused.
    pub async fn ingest_resumed(&self) {
        let mut pauses = self.pauses.clone();
        let resumed = |pauses: &Pauses| pauses.of(PauseWhat::Ingest, &self.lane).is_none();
        // The sender lives as long as the queues do; without them there is nothing to wait for.
        let _ = pauses.wait_for(resumed).await;
    }

    /// The lowest outbox key written since the last call.
    pub fn take_rewind(&self) -> Option<Key> {
        self.rewind.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The last read number that was given; `None` if this process has given none.
    pub(super) fn last_read(&self) -> Option<u64> {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.next.checked_sub(1)
    }

    pub fn outbox_findings(&self) -> i64 {
        self.outbox.load(Ordering::Acquire)
    }

    pub fn delayed_findings(&self) -> i64 {
        self.delayed.load(Ordering::Acquire)
    }

    pub fn open_findings(&self, severity: Severity) -> i64 {
        self.open[severity as usize].load(Ordering::Acquire)
    }

    /// Findings that have failed so often that somebody should look.
    pub fn stubborn_findings(&self) -> u64 {
        self.stubborn.load(Ordering::Acquire)
    }

    pub fn set_stubborn_findings(&self, findings: u64) {
        self.stubborn.store(findings, Ordering::Release);
    }

    fn apply(&self, effect: LaneEffect) {
        if effect.reopening_is_due {
            self.reopening_is_due.notify_one();
        }
        self.outbox.fetch_add(effect.outbox, Ordering::AcqRel);
        self.delayed.fetch_add(effect.delayed, Ordering::AcqRel);
        for (gauge, delta) in self.open.iter().zip(effect.open) {
            gauge.fetch_add(delta, Ordering::AcqRel);
        }
        if effect.stale {
            self.stale.store(true, Ordering::Release);
        }
        if effect.observe {
            self.observe.notify_one();
        }
        let Some(written) = effect.written else { return };
        let mut rewind = self.rewind.lock().unwrap_or_else(PoisonError::into_inner);
        if rewind.as_ref().is_none_or(|lowest| written < *lowest) {
            *rewind = Some(written);
        }
        drop(rewind);
        self.deliver.notify_one();
    }
}

/// What a commit has changed in one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneEffect {
    pub outbox: i64,
    pub delayed: i64,
    pub open: [i64; 5],
    pub reopening_is_due: bool,
    /// A read-back has found a node that is to be observed anew.
    pub stale: bool,
    /// Nodes are to be observed soon.
    pub observe: bool,
    /// The lowest outbox key that was written.
    pub written: Option<Key>,
}

/// What a commit has changed: applied to memory once it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub lanes: HashMap<Lane, LaneEffect>,
    pub dead: HashMap<(Stage, Reason), i64>,
    pub observed: bool,
    pub assessed: bool,
    pub pauses: Vec<(pause::Place, Option<Pause>)>,
    /// Lanes of which nothing is left in the store.
    pub forgotten: Vec<Lane>,
}

impl Effects {
    pub fn lane(&mut self, lane: &Lane) -> &mut LaneEffect {
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.clone(), LaneEffect::default());
        }
        self.lanes.get_mut(lane).expect("it was inserted above")
    }

    pub fn written(&mut self, lane: &Lane, key: &Key) {
        let effect = self.lane(lane);
        if effect.written.as_ref().is_none_or(|lowest| key < lowest) {
            effect.written = Some(key.clone());
        }
    }
}

/// All lanes that have anything in the store or are served.
#[derive(Default)]
pub(super) struct Lanes {
    states: RwLock<HashMap<Lane, Arc<LaneState>>>,
    dead: Mutex<HashMap<(Stage, Reason), i64>>,
    pauses: watch::Sender<Pauses>,
}

impl Lanes {
    pub fn get(&self, lane: &Lane) -> Arc<LaneState> {
        if let Some(state) = self.states.read().unwrap_or_else(PoisonError::into_inner).get(lane) {
            return Arc::clone(state);
        }
        let mut lanes = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(LaneState::new(lane.clone(), self.pauses.subscribe()));
        Arc::clone(lanes.entry(lane.clone()).or_insert_with(new))
    }

    pub fn all(&self) -> Vec<Lane> {
        let lanes = self.states.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Lane> = lanes.keys().cloned().collect();
        all.sort();
        all
    }

    pub fn pauses(&self) -> Pauses {
        self.pauses.borrow().clone()
    }

    /// Waits until the pause of all lanes is taken back.
    pub async fn whole_resumed(&self, what: PauseWhat) {
        let mut pauses = self.pauses.subscribe();
        // The sender is ours.
        let _ = pauses.wait_for(|pauses| pauses.whole(what).is_none()).await;
    }

    /// Changes what is paused, and tells every lane.
    pub fn change_pauses(&self, change: impl FnOnce(&mut Pauses)) {
        self.pauses.send_modify(change);
        for state in self.states.read().unwrap_or_else(PoisonError::into_inner).values() {
            state.deliver.notify_one();
        }
    }

    pub fn dead(&self) -> HashMap<(Stage, Reason), i64> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn apply(&self, effects: Effects) {
        for (lane, effect) in effects.lanes {
            self.get(&lane).apply(effect);
        }
        if !effects.forgotten.is_empty() {
            let mut lanes = self.states.write().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|lane, _| !effects.forgotten.contains(lane));
        }
        if !effects.pauses.is_empty() {
            self.change_pauses(|pauses| {
                effects.pauses.into_iter().for_each(|(place, pause)| pauses.set(place, pause));
            });
        }
        if effects.dead.is_empty() {
            return;
        }
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, delta) in effects.dead {
            *dead.entry(place).or_default() += delta;
        }
    }
}
