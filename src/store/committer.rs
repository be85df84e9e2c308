//! One thread that owns all writes.
//!
//! It groups what callers submit (up to [`GROUP_ITEMS_MAX`] items), evaluates each piece of work
//! in order against what is stored plus what the group has decided so far, applies one batch,
//! flushes once if anyone in the group asked for durability, and then answers everybody. Work
//! that needs no flush is safe all the same: the log keeps the order, so nothing later can
//! survive without it.
//!
//! A caller gives a closure over a [`Tx`]; conditions ("remove this key, if it is still there")
//! are plain code in it, and nobody else writes meanwhile. A closure that fails or panics leaves
//! no trace in its group.
//!
//! Counters, the sequence and the commit number live in memory and are written with every batch;
//! after each flush the commit number goes to the [`mark`](super::mark). Every
//! [`PROBE_INTERVAL`] a probe flushes whatever there is, so that an engine that has failed in the
//! background is noticed also when nobody commits anything durable.

use std::{
    any::Any,
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    StoreError, codec,
    directory::StateDirectory,
    engine::{Engine, Reader, Writes},
    handle::{Admission, Commit},
    mark::Mark,
    meta::{self, Identity},
    pulse::Pulse,
    reserve,
    space::{self, Gate},
    tx::{COMMITS, Counters, LIVE_BYTES, Tx},
};
use crate::failpoint::{self, FailPoint};

/// Items that one batch settles at most: sled takes 10-20 us for each of its writes.
const GROUP_ITEMS_MAX: usize = 1_000;
/// How often the engine's health is looked at.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// A piece of work as the committer sees it.
pub(super) trait Work: Send {
    fn evaluate(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// What can be asked of the committer.
pub(super) enum Submitted {
    Commit {
        commit: Commit,
        work: Box<dyn Work>,
    },
    /// To be run while nothing is committed.
    Hold(Box<dyn FnOnce(&Held<'_>) + Send>),
    Probe,
}

/// The store while nothing is committed.
pub struct Held<'a> {
    shared: &'a Shared,
}

impl Held<'_> {
    /// Everything that was committed, and nothing else.
    pub fn reader(&self) -> Reader<'_> {
        Reader(&self.shared.engine)
    }

    /// Tells the watchdog that it takes long, and gets on.
    pub fn gets_on(&self) {
        self.shared.pulse.beat();
    }

    pub(super) fn identity(&self) -> Identity {
        self.shared.identity
    }

    pub(super) fn commit(&self) -> u64 {
        commit_number(&self.counters())
    }

    /// What the counters say of exactly what [`Held::reader`] reads.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}

/// What the committer thread shares with the handles.
pub(super) struct Shared {
    pub engine: Engine,
    pub state_dir: PathBuf,
    pub identity: Identity,
    pub gate: Gate,
    /// As of the last commit, all of them at once.
    pub counters: Mutex<Counters>,
    pub pulse: Arc<Pulse>,
    pub fatal: watch::Sender<Option<StoreError>>,
    pub commit_seconds: Mutex<Box<dyn Fn(f64) + Send>>,
}

impl Shared {
    pub fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_counters(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Asks the committer for a look at the engine, again and again, for as long as the store is open.
pub(super) fn spawn_probe(work: mpsc::WeakSender<Submitted>) -> io::Result<()> {
    let probe = move || {
        loop {
            std::thread::park_timeout(PROBE_INTERVAL);
            let Some(work) = work.upgrade() else { return };
            match work.try_send(Submitted::Probe) {
                // Who is busy needs no probe.
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    };
    std::thread::Builder::new().name("store-probe".into()).spawn(probe).map(drop)
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Held for its lock, and given up with the thread.
    directory: StateDirectory,
    counters: Counters,
    mark: Mark,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        directory: StateDirectory,
        counters: Counters,
        mark: Mark,
    ) -> Self {
        let committer = Self { shared, directory, counters, mark };
        committer.look_at_space();
        committer
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Submitted>) {
        let mut next = None;
        loop {
            let Some(first) = next.take().or_else(|| queue.blocking_recv()) else { return };
            self.shared.pulse.beat();
            let outcome = match first {
                Submitted::Commit { commit, work } => {
                    let began = Instant::now();
                    let group = gather((commit, work), &mut queue, &mut next);
                    let outcome = self.commit_group(group);
                    self.observe(began);
                    outcome
                }
                Submitted::Hold(look) => {
                    self.hold(look);
                    Ok(())
                }
                Submitted::Probe => self.probe(),
            };
            self.shared.pulse.rest();
            if let Err(error) = outcome {
                drop(next);
                self.stop(&error, queue);
                return;
            }
        }
    }

    fn observe(&self, began: Instant) {
        let observe = self.shared.commit_seconds.lock().unwrap_or_else(PoisonError::into_inner);
        observe(began.elapsed().as_secs_f64());
    }

    /// Runs `look`, which only reads: a panic in it is its caller's trouble.
    fn hold(&self, look: Box<dyn FnOnce(&Held<'_>) + Send>) {
        let held = Held { shared: &self.shared };
        let outcome = catch_unwind(AssertUnwindSafe(|| look(&held)));
        if let Err(panic) = outcome {
            tracing::error!(
                panic = super::panic_text(panic.as_ref()),
                "what held the commits has panicked: a defect; the store goes on"
            );
        }
    }

    /// Has a background failure of the engine show, whether anybody commits or not.
    fn probe(&mut self) -> Result<(), StoreError> {
        self.look_at_space();
        self.shared.gate.watch_growth(self.shared.engine.file_bytes());
        self.flush()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.shared.engine.flush()?;
        self.mark.note(commit_number(&self.counters));
        Ok(())
    }

    /// Evaluates, applies, flushes, answers. An error is fatal.
    fn commit_group(&mut self, group: Vec<Grouped>) -> Result<(), StoreError> {
        failpoint::reach(FailPoint::CommitterHangs);
        self.look_at_space();
        let mut writes = Writes::new();
        let mut counters = self.counters;
        let mut durable = false;
        let mut committed = Vec::with_capacity(group.len());
        for (commit, mut work) in group {
            if let (Admission::Ingest, Some(pause)) = (commit.admission, self.shared.gate.pause()) {
                work.answer(Err(StoreError::Full(pause)));
                continue;
            }
            let tx =
                Tx { engine: &self.shared.engine, group: &writes, own: HashMap::new(), counters };
            match evaluate(&mut *work, tx) {
                Ok((own, after)) => {
                    writes.extend(own);
                    counters = after;
                    durable |= commit.durable;
                    committed.push(work);
                }
                Err(error) if error.is_fatal() => {
                    answer_all(committed, &Err(error.clone()));
                    work.answer(Err(error.clone()));
                    return Err(error);
                }
                Err(error) => work.answer(Err(error)),
            }
        }
        let outcome = self.write(writes, counters, durable);
        answer_all(committed, &outcome);
        outcome
    }

    fn write(
        &mut self,
        mut writes: Writes,
        mut counters: Counters,
        durable: bool,
    ) -> Result<(), StoreError> {
        if counters != self.counters || !writes.is_empty() {
            counters[COMMITS] += 1;
            let value = codec::encode(0, &counters.as_slice());
            writes.insert(meta::counters_key().as_bytes().to_vec(), Some(value));
            self.shared.engine.apply(writes)?;
            failpoint::reach(FailPoint::CommitApplied);
        }
        self.counters = counters;
        if durable {
            self.flush()?;
            failpoint::reach(FailPoint::CommitFlushed);
        }
        self.shared.set_counters(counters);
        Ok(())
    }

    fn look_at_space(&self) {
        let live_bytes = u64::try_from(self.counters[LIVE_BYTES]).unwrap_or(0);
        match space::free_bytes(&self.shared.state_dir) {
            Ok(free_bytes) => {
                let before = self.shared.gate.pause();
                self.shared.gate.update(live_bytes, free_bytes);
                report_pause(before, self.shared.gate.pause(), live_bytes, free_bytes);
            }
            Err(error) => tracing::debug!(%error, "the free space can't be read"),
        }
    }

    /// Answers everybody that the store is gone, until nobody asks any more.
    fn stop(self, error: &StoreError, mut queue: mpsc::Receiver<Submitted>) {
        tracing::error!(
            error = %crate::store::chain(error),
            "the store has failed: stopping, nothing acknowledged is lost; \
             the supervisor's restart recovers it"
        );
        if matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
        {
            reserve::release(self.directory.path());
        }
        queue.close();
        self.shared.fatal.send_replace(Some(error.clone()));
        while let Some(submitted) = queue.blocking_recv() {
            if let Submitted::Commit { work, .. } = submitted {
                work.answer(Err(StoreError::Poisoned));
            }
        }
    }
}

fn report_pause(
    before: Option<space::Pause>,
    after: Option<space::Pause>,
    live_bytes: u64,
    free_bytes: u64,
) {
    match (before, after) {
        (None, Some(pause)) => {
            tracing::error!(live_bytes, free_bytes, "ingest is paused, delivery goes on: {pause}");
        }
        (Some(_), None) => tracing::info!(live_bytes, free_bytes, "ingest resumes: there is room"),
        _ => {}
    }
}

type Grouped = (Commit, Box<dyn Work>);

/// What waits and fits into one group; what doesn't belong into one is left in `next`.
fn gather(
    first: Grouped,
    queue: &mut mpsc::Receiver<Submitted>,
    next: &mut Option<Submitted>,
) -> Vec<Grouped> {
    let mut items = first.0.items;
    let mut group = vec![first];
    while items < GROUP_ITEMS_MAX {
        match queue.try_recv() {
            Ok(Submitted::Commit { commit, work }) => {
                items += commit.items.max(1);
                group.push((commit, work));
            }
            Ok(Submitted::Probe) => {}
            Ok(hold @ Submitted::Hold(_)) => {
                *next = Some(hold);
                break;
            }
            Err(_) => break,
        }
    }
    group
}

fn commit_number(counters: &Counters) -> u64 {
    u64::try_from(counters[COMMITS]).unwrap_or(0)
}

fn evaluate(work: &mut dyn Work, mut tx: Tx<'_>) -> Result<(Writes, Counters), StoreError> {
    let engine_path = tx.engine.path().to_path_buf();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        work.evaluate(&mut tx)?;
        Ok((std::mem::take(&mut tx.own), tx.counters))
    }));
    outcome.unwrap_or_else(|panic: Box<dyn Any + Send>| {
        let text = super::panic_text(panic.as_ref());
        Err(StoreError::Engine { path: engine_path, detail: format!("in a commit: {text}") })
    })
}

fn answer_all(group: Vec<Box<dyn Work>>, outcome: &Result<(), StoreError>) {
    for work in group {
        work.answer(outcome.clone());
    }
}
