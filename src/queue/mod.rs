//! The durable queues between the stages, the ledger and the dead letters, over the store.
//!
//! Guarantees: an item that [`Queues::accept`] has answered for is on disk; every later step
//! takes it out of one place and into exactly one other in the same commit, counters included
//! ([`accounting`]); a claim changes nothing, so what was claimed by a process that died is
//! claimed again. One claimer per queue, per lane for the outbox.
//!
//! In the order of the data: [`accept`] -> [`middle`] (observed, assessed) -> [`outbox`] and
//! [`delivery`]. [`transition`] is one atomic step; [`ledger`] the rows per node; [`adopt`] and
//! [`parked`] the read-back, [`tenure`] when it is needed; [`repair`] what is done about differences
//! from the hub, [`reopening`] about findings that people resolved, [`care`] when a hub was last
//! looked at; [`readmit`] has what had left go on; [`pages`], [`details`], [`dead`] what is stored
//! how; [`absent`] nodes that no list names any more; [`pause`] what an operator has stopped;
//! [`retention`] forgets, and [`retire`] a whole lane; [`inspect`] looks only, and so does
//! [`verify`]; [`salvage`] takes over what a store that was set aside had waiting.
//!
//! Deliberately doesn't know: what an item means (the judgement is the caller's closure), AWS,
//! metrics.

mod absent;
mod accept;
pub mod accounting;
mod adopt;
mod care;
mod dead;
mod delivery;
pub mod details;
mod inspect;
mod lanes;
pub mod ledger;
mod middle;
mod node;
mod outbox;
mod pages;
mod parked;
pub mod pause;
mod readmit;
mod reopening;
mod repair;
mod retention;
mod retire;
mod salvage;
pub mod tenure;
mod transition;
mod verify;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Notify;

pub use absent::{Absence, OpenFindings, Unreported};
pub use accept::AcceptedNode;
pub use accounting::{Accounting, Queued, Recount};
pub use adopt::HubState;
pub use care::LaneCare;
pub use dead::{
    CompleteLetter, DeadCursor, DeadFilter, DeadPage, Death, Dropped, EPISODES_KEPT_MAX, Episode,
    RedrivePreview, Redriven,
};
pub use delivery::{OutboxClaim, Settlement};
pub use inspect::QueueAges;
pub use lanes::LaneState;
pub use ledger::{Acked, Desired, LaneRow, ReadBack, Seen};
pub use middle::Validated;
pub use node::NodeRecord;
pub use outbox::{ClaimedFinding, Place, Undecodable, Waiting};
pub use pages::{Accepted, ClaimedPage, Damaged, PAGE_ITEMS_MAX};
pub use pause::{Pause, PauseWhat, Pauses};
pub use readmit::{Readmission, Readmitted};
pub use reopening::{Closing, LookedAt, Reopening};
pub use repair::{Repair, Repaired, Told, Version};
pub use retention::Retention;
pub use retire::{Left, LeftPage, Which};
pub use salvage::{SalvageCount, SalvageReport, Wreckage};
pub use transition::{Decided, Transition};
pub use verify::{Problem, TableContents, Verified, Verifier};

pub use crate::store::{BackupError, BackupSummary};

use self::lanes::{Effects, Lanes};
use crate::{
    record::{Clock, Lane},
    store::{
        Commit, Store, StoreError, Tx,
        codec::DecodeError,
        keys::{Key, Table},
    },
};

/// What can go wrong with a queue.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a stored record is damaged")]
    Decode(#[from] DecodeError),
}

impl QueueError {
    /// Whether the process must stop.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_fatal())
    }

    /// Whether ingest is paused since there is no room; nothing was accepted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Store(StoreError::Full(_)))
    }
}

/// All queues of one store. Cheap to clone.
#[derive(Clone)]
pub struct Queues {
    store: Store,
    clock: Clock,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    lanes: Lanes,
    observed: Notify,
    assessed: Notify,
}

impl Queues {
    /// Opens the queues of a store and counts what waits in them. Blocks while it reads.
    pub fn open(store: Store, clock: Clock) -> Result<Self, QueueError> {
        let queues = Self { store, clock, inner: Arc::new(Inner::default()) };
        if queues.store.wants_read_back()? {
            queues.want_read_back()?;
        }
        let effects = queues.store.read_blocking(inspect::count_all)?;
        queues.inner.lanes.apply(effects);
        let stored = queues.store.read_blocking(Pauses::read)?;
        queues.inner.lanes.change_pauses(|pauses| *pauses = stored);
        Ok(queues)
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is held in memory of `lane`.
    pub fn lane(&self, lane: &Lane) -> Arc<LaneState> {
        self.inner.lanes.get(lane)
    }

    /// Lanes that are served or have anything in the store.
    pub fn lanes(&self) -> Vec<Lane> {
        self.inner.lanes.all()
    }

    /// Writes a backup of everything, as of one moment, to a file that isn't there yet.
    pub async fn backup(&self, path: PathBuf) -> Result<BackupSummary, BackupError> {
        self.store.backup(path, self.clock.now().0).await
    }

    /// Flushes and lets go of the store.
    pub async fn close(self) -> Result<(), StoreError> {
        let Self { store, .. } = self;
        store.close().await
    }

    /// Fires when there may be something new to validate.
    pub fn observed_signal(&self) -> &Notify {
        &self.inner.observed
    }

    /// Fires when there may be something new to transform.
    pub fn assessed_signal(&self) -> &Notify {
        &self.inner.assessed
    }

    /// Runs `step` in the committer; its effects on memory follow once it stands.
    async fn transition<T, F>(&self, commit: Commit, step: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transition<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    {
        let now = self.clock.now();
        let inner = Arc::clone(&self.inner);
        let evaluate = move |tx: &mut Tx<'_>| {
            let mut transition = Transition::new(tx, now);
            let result = step(&mut transition)?;
            Ok((result, transition.effects))
        };
        // In the committer, lest a caller that is aborted meanwhile leave the gauges behind.
        let then = move |(result, effects)| {
            inner.apply(effects);
            result
        };
        Ok(self.store.commit_then(commit, evaluate, then).await?)
    }
}

impl Inner {
    fn apply(&self, effects: Effects) {
        let (observed, assessed) = (effects.observed, effects.assessed);
        self.lanes.apply(effects);
        if observed {
            self.observed.notify_one();
        }
        if assessed {
            self.assessed.notify_one();
        }
    }
}

fn table_prefix(table: Table) -> Key {
    Key::new(table)
}
