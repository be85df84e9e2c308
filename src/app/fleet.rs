//! The lanes that are served now.
//!
//! Deliberately doesn't know: why they are served, and what their tasks do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc, watch};

use crate::{
    pipeline::{
        deliver::LaneView,
        ingest::{GoneGate, SweepStatus, event::Hint},
        reconcile::{ReconcileHandle, ReconcileStatus},
    },
    record::{Clock, Lane},
};

/// A lane that is served, and how to look at it.
pub struct ServedLane {
    pub lane: Lane,
    /// The role that is assumed for it, if any.
    pub role_arn: Option<String>,
    /// Has it swept at once.
    pub trigger: Arc<Notify>,
    pub sweeps: watch::Receiver<SweepStatus>,
    pub view: watch::Receiver<LaneView>,
    /// Has its hub compared with the ledger.
    pub reconcile: ReconcileHandle,
    pub reconciled: watch::Receiver<ReconcileStatus>,
    pub(super) gone: Arc<GoneGate>,
    pub(super) clock: Clock,
    /// Hears what events tell of its nodes, where any can come.
    pub(super) hints: Option<mpsc::Sender<Hint>>,
}

impl ServedLane {
    /// A person says that what is withheld as gone is gone: the next complete sweep, which begins
    /// now, resolves it, however much it is.
    pub fn accept_gone(&self) {
        self.gone.accept(self.clock.now());
        self.trigger.notify_one();
    }
}

/// See the module. A lane is served or being retired, never both.
#[derive(Default)]
pub struct Fleet(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    served: BTreeMap<Lane, Arc<ServedLane>>,
    retiring: BTreeSet<Lane>,
}

/// While it lives, its lane isn't taken into service.
pub struct Retiring {
    fleet: Arc<Fleet>,
    lane: Lane,
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.fleet.lock().retiring.remove(&self.lane);
    }
}

impl Fleet {
    pub fn all(&self) -> Vec<Arc<ServedLane>> {
        self.lock().served.values().cloned().collect()
    }

    pub fn lanes(&self) -> Vec<Lane> {
        self.lock().served.keys().cloned().collect()
    }

    pub fn get(&self, lane: &Lane) -> Option<Arc<ServedLane>> {
        self.lock().served.get(lane).cloned()
    }

    pub fn count(&self) -> usize {
        self.lock().served.len()
    }

    pub fn serves(&self, lane: &Lane) -> bool {
        self.lock().served.contains_key(lane)
    }

    /// Whether the lane may be taken into service now.
    pub(super) fn is_free(&self, lane: &Lane) -> bool {
        let inner = self.lock();
        !inner.served.contains_key(lane) && !inner.retiring.contains(lane)
    }

    /// Takes a lane out of service, and keeps it out until what is given is dropped; `None` if it
    /// wasn't served.
    pub(super) fn give_up(self: &Arc<Self>, lane: &Lane) -> Option<Retiring> {
        let mut inner = self.lock();
        inner.served.remove(lane)?;
        inner.retiring.insert(lane.clone());
        Some(Retiring { fleet: Arc::clone(self), lane: lane.clone() })
    }

    pub(super) fn insert(&self, served: ServedLane) {
        self.lock().served.insert(served.lane.clone(), Arc::new(served));
    }

    /// Keeps a lane out of service; `None` if it is served, or being retired already.
    pub(super) fn retire(self: &Arc<Self>, lane: &Lane) -> Option<Retiring> {
        let mut inner = self.lock();
        if inner.served.contains_key(lane) || !inner.retiring.insert(lane.clone()) {
            return None;
        }
        Some(Retiring { fleet: Arc::clone(self), lane: lane.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
