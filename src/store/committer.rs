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
//! Counters and the sequence live in memory and are written with every batch that moves them.

use std::{
    any::Any,
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Current, OpenError, StoreError, codec,
    directory::StateDirectory,
    engine::{Engine, Reader, Writes},
    keys::{Key, Table},
    space::{self, Gate, SpaceLimits, SpaceStatus},
    tx::{COUNTERS_MAX, CounterId, Counters, LIVE_BYTES, Tx},
};

/// Items that one batch settles at most: sled takes 10-20 us for each of its writes.
const GROUP_ITEMS_MAX: usize = 1_000;
/// Pieces of work that may wait for the committer; submitting another waits.
const WORK_QUEUED_MAX: usize = 256;
/// Whether the commit brings in something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Refused with [`StoreError::Full`] while ingest is paused for want of space.
    Ingest,
    /// Always admitted: it moves what is already here, and mostly makes room.
    Internal,
}

/// How to commit.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Whether it must be fsynced before the caller is answered.
    pub durable: bool,
    pub admission: Admission,
    /// How many items it settles: bounds a group's size.
    pub items: usize,
}

impl Commit {
    /// Moves things; durable with the next flush.
    pub fn hand_off(items: usize) -> Self {
        Self { durable: false, admission: Admission::Internal, items }
    }

    /// On disk when it returns.
    pub fn durable(items: usize) -> Self {
        Self { durable: true, admission: Admission::Internal, items }
    }

    /// New observations: on disk when it returns, refused while the store is full.
    pub fn ingest(items: usize) -> Self {
        Self { durable: true, admission: Admission::Ingest, items }
    }
}

/// A piece of work as the committer sees it.
trait Work: Send {
    fn evaluate(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Job<F, T, G, U> {
    evaluate: Option<F>,
    result: Option<T>,
    then: G,
    reply: oneshot::Sender<Result<U, StoreError>>,
}

impl<F, T, G, U> Work for Job<F, T, G, U>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send,
    T: Send,
    G: FnOnce(T) -> U + Send,
    U: Send,
{
    fn evaluate(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let evaluate = self.evaluate.take().expect("work is evaluated once");
        self.result = Some(evaluate(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => Ok((self.then)(result)),
            (Ok(()), None) => Err(StoreError::Poisoned),
            (Err(error), _) => Err(error),
        };
        // The caller may have gone away (shutdown); the commit stands all the same.
        let _ = self.reply.send(result);
    }
}

struct Submitted {
    commit: Commit,
    work: Box<dyn Work>,
}

/// What the committer thread shares with the handles.
struct Shared {
    engine: Engine,
    state_dir: PathBuf,
    gate: Gate,
    counters: [AtomicI64; COUNTERS_MAX],
    /// Milliseconds since `started` at which the committer began its present group, plus 1;
    /// 0 when it is idle.
    busy_since_ms: AtomicU64,
    started: Instant,
    fatal: watch::Sender<Option<StoreError>>,
    commit_seconds: Mutex<Box<dyn Fn(f64) + Send>>,
}

/// A handle on an open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    work: mpsc::Sender<Submitted>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Starts the committer of a store that has the current format.
    pub fn start(current: Current, limits: SpaceLimits) -> Result<Self, OpenError> {
        let opened = current.0;
        let counters = read_counters(&opened.engine)?;
        let shared = Arc::new(Shared {
            state_dir: opened.directory.path().to_path_buf(),
            engine: opened.engine,
            gate: Gate::new(limits),
            counters: counters.map(AtomicI64::new),
            busy_since_ms: AtomicU64::new(0),
            started: Instant::now(),
            fatal: watch::Sender::new(None),
            commit_seconds: Mutex::new(Box::new(|_| {})),
        });
        let (work, queue) = mpsc::channel(WORK_QUEUED_MAX);
        let committer =
            Committer { shared: Arc::clone(&shared), directory: opened.directory, counters };
        committer.look_at_space();
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(queue))
            .map_err(|source| StoreError::Io {
                path: shared.state_dir.clone(),
                source: Arc::new(source),
            })?;
        Ok(Self { shared, work, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Runs `evaluate` in the committer and commits what it wrote, all or nothing.
    ///
    /// # Errors
    /// What `evaluate` gave, [`StoreError::Full`] for a refused admission, or the engine's error,
    /// after which every commit is answered [`StoreError::Poisoned`].
    pub async fn commit<T, F>(&self, commit: Commit, evaluate: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.commit_then(commit, evaluate, |result| result).await
    }

    /// Like [`Store::commit`]; `then` runs in the committer once the commit stands, also if the
    /// caller has gone away meanwhile.
    pub async fn commit_then<T, U, F, G>(
        &self,
        commit: Commit,
        evaluate: F,
        then: G,
    ) -> Result<U, StoreError>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(Job { evaluate: Some(evaluate), result: None, then, reply });
        let submitted = Submitted { commit, work };
        self.work.send(submitted).await.map_err(|_| StoreError::Poisoned)?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// Runs `read` on a blocking thread.
    pub async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || read(&Reader(&shared.engine)));
        task.await.map_err(|_| StoreError::Poisoned)?
    }

    /// Runs `read` on this thread: for start-up and tools, never inside the runtime's workers.
    pub fn read_blocking<T>(
        &self,
        read: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        read(&Reader(&self.shared.engine))
    }

    /// A counter as of the last commit.
    pub fn counter(&self, counter: CounterId) -> i64 {
        self.shared.counters[usize::from(counter.0)].load(Ordering::Acquire)
    }

    pub fn space(&self) -> SpaceStatus {
        self.shared.gate.status(self.shared.engine.file_bytes())
    }

    /// Why new observations are refused now, if they are.
    pub fn pause(&self) -> Option<space::Pause> {
        self.shared.gate.pause()
    }

    /// Becomes `Some` when the store has failed and the process must stop.
    pub fn fatal(&self) -> watch::Receiver<Option<StoreError>> {
        self.shared.fatal.subscribe()
    }

    /// How long the committer has been at its present group; zero when it is idle.
    pub fn busy_for(&self) -> Duration {
        match self.shared.busy_since_ms.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => self.shared.started.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Where to report how long each group took, in seconds.
    pub fn observe_commits(&self, observe: impl Fn(f64) + Send + 'static) {
        *self.shared.commit_seconds.lock().unwrap_or_else(PoisonError::into_inner) =
            Box::new(observe);
    }

    /// Waits until everything submitted is committed and flushed, and lets go of the files.
    /// Other handles can't commit afterwards.
    pub async fn close(self) -> Result<(), StoreError> {
        let flushed = self.commit(Commit::durable(0), |_| Ok(())).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fatal = self.shared.fatal.clone();
        drop(self);
        if let Some(thread) = thread {
            // Ends when the last handle is gone; a leaked handle must not hang the shutdown.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(Duration::from_secs(5), joined).await.is_err() {
                tracing::warn!("the store is still in use by a task that did not end");
            }
        }
        match flushed {
            Err(StoreError::Poisoned) => {
                Err(fatal.borrow().clone().unwrap_or(StoreError::Poisoned))
            }
            other => other,
        }
    }
}

fn counters_key() -> Key {
    Key::new(Table::Meta).text("counters")
}

fn read_counters(engine: &Engine) -> Result<Counters, StoreError> {
    let Some(bytes) = engine.get(counters_key().as_bytes())? else {
        return Ok([0; COUNTERS_MAX]);
    };
    let (_, stored) = codec::decode::<Vec<i64>>(&bytes).map_err(|error| StoreError::Corrupt {
        path: engine.path().to_path_buf(),
        detail: format!("its counters can't be read: {error}"),
    })?;
    let mut counters = [0; COUNTERS_MAX];
    for (counter, value) in counters.iter_mut().zip(stored) {
        *counter = value;
    }
    Ok(counters)
}

struct Committer {
    shared: Arc<Shared>,
    /// Held for its lock, and given up with the thread.
    directory: StateDirectory,
    counters: Counters,
}

impl Committer {
    fn run(mut self, mut queue: mpsc::Receiver<Submitted>) {
        while let Some(first) = queue.blocking_recv() {
            let began = Instant::now();
            self.mark_busy(began);
            let group = gather(first, &mut queue);
            let outcome = self.commit_group(group);
            self.shared.busy_since_ms.store(0, Ordering::Release);
            let observe = self.shared.commit_seconds.lock().unwrap_or_else(PoisonError::into_inner);
            observe(began.elapsed().as_secs_f64());
            drop(observe);
            if let Err(error) = outcome {
                self.stop(&error, queue);
                return;
            }
        }
    }

    fn mark_busy(&self, now: Instant) {
        let since = now.duration_since(self.shared.started).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1) + 1;
        self.shared.busy_since_ms.store(since, Ordering::Release);
    }

    /// Evaluates, applies, flushes, answers. An error is fatal.
    fn commit_group(&mut self, group: Vec<Submitted>) -> Result<(), StoreError> {
        self.look_at_space();
        let mut writes = Writes::new();
        let mut counters = self.counters;
        let mut durable = false;
        let mut committed = Vec::with_capacity(group.len());
        for mut submitted in group {
            if let (Admission::Ingest, Some(pause)) =
                (submitted.commit.admission, self.shared.gate.pause())
            {
                submitted.work.answer(Err(StoreError::Full(pause)));
                continue;
            }
            let tx =
                Tx { engine: &self.shared.engine, group: &writes, own: HashMap::new(), counters };
            match evaluate(&mut *submitted.work, tx) {
                Ok((own, after)) => {
                    writes.extend(own);
                    counters = after;
                    durable |= submitted.commit.durable;
                    committed.push(submitted.work);
                }
                Err(error) if error.is_fatal() => {
                    answer_all(committed, &Err(error.clone()));
                    submitted.work.answer(Err(error.clone()));
                    return Err(error);
                }
                Err(error) => submitted.work.answer(Err(error)),
            }
        }
        let outcome = self.write(writes, counters, durable);
        answer_all(committed, &outcome);
        outcome
    }

    fn write(
        &mut self,
        mut writes: Writes,
        counters: Counters,
        durable: bool,
    ) -> Result<(), StoreError> {
        if counters != self.counters {
            let value = codec::encode(0, &counters.as_slice());
            writes.insert(counters_key().as_bytes().to_vec(), Some(value));
        }
        if !writes.is_empty() {
            self.shared.engine.apply(writes)?;
        }
        if durable {
            self.shared.engine.flush()?;
        }
        self.counters = counters;
        for (shared, value) in self.shared.counters.iter().zip(counters) {
            shared.store(value, Ordering::Release);
        }
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
            self.directory.release_reserve();
        }
        queue.close();
        self.shared.fatal.send_replace(Some(error.clone()));
        while let Some(submitted) = queue.blocking_recv() {
            submitted.work.answer(Err(StoreError::Poisoned));
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

fn gather(first: Submitted, queue: &mut mpsc::Receiver<Submitted>) -> Vec<Submitted> {
    let mut items = first.commit.items;
    let mut group = vec![first];
    while items < GROUP_ITEMS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        items += next.commit.items.max(1);
        group.push(next);
    }
    group
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
