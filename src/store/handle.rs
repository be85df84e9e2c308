//! The handle on an open store: what callers commit, read and ask.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Current, OpenError, StoreError,
    committer::{self, Committer, Held, Shared, Submitted, Work},
    engine::Reader,
    mark::Mark,
    meta,
    open::Alarms,
    pulse::Pulse,
    space::{self, Gate, SpaceLimits, SpaceStatus},
    tx::{Counters, Tx},
};

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

struct Job<F, T, R> {
    evaluate: Option<F>,
    result: Option<T>,
    reply: R,
}

impl<F, T, R> Work for Job<F, T, R>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send,
    T: Send,
    R: FnOnce(Result<T, StoreError>) + Send,
{
    fn evaluate(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let evaluate = self.evaluate.take().expect("work is evaluated once");
        self.result = Some(evaluate(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => Ok(result),
            (Ok(()), None) => Err(StoreError::Poisoned),
            (Err(error), _) => Err(error),
        };
        (self.reply)(result);
    }
}

/// A handle on an open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    work: mpsc::Sender<Submitted>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    alarms: Arc<Alarms>,
}

impl Store {
    /// Starts the committer of a store that has the current format.
    pub fn start(current: Current, limits: SpaceLimits) -> Result<Self, OpenError> {
        let opened = current.0;
        let meta = opened.meta;
        let identity = meta.identity.ok_or_else(|| StoreError::Corrupt {
            path: opened.engine.path().to_path_buf(),
            detail: "its identity is gone".into(),
        })?;
        let mark = Mark::open(&opened.directory.mark_path(), identity, opened.number);
        let shared = Arc::new(Shared {
            state_dir: opened.directory.path().to_path_buf(),
            gate: Gate::new(limits, opened.engine.file_bytes()),
            engine: opened.engine,
            identity,
            counters: Mutex::new(meta.counters),
            pulse: Arc::new(Pulse::new()),
            fatal: watch::Sender::new(None),
            commit_seconds: Mutex::new(Box::new(|_| {})),
        });
        let (work, queue) = mpsc::channel(WORK_QUEUED_MAX);
        let committer = Committer::new(Arc::clone(&shared), opened.directory, meta.counters, mark);
        let io =
            |source| StoreError::Io { path: shared.state_dir.clone(), source: Arc::new(source) };
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(queue))
            .map_err(io)?;
        committer::spawn_probe(work.downgrade()).map_err(io)?;
        Ok(Self {
            shared,
            work,
            thread: Arc::new(Mutex::new(Some(thread))),
            alarms: Arc::new(opened.alarms),
        })
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
        // The caller may have gone away (shutdown); the commit stands all the same.
        let reply = move |result: Result<T, StoreError>| drop(reply.send(result.map(then)));
        let work = Box::new(Job { evaluate: Some(evaluate), result: None, reply });
        let submitted = Submitted::Commit { commit, work };
        self.work.send(submitted).await.map_err(|_| StoreError::Poisoned)?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// As [`Store::commit`], on this thread, before anybody else uses the store: for start-up.
    pub fn commit_blocking<T, F>(&self, commit: Commit, evaluate: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let reply = move |result| drop(reply.send(result));
        let work = Box::new(Job { evaluate: Some(evaluate), result: None, reply });
        let submitted = Submitted::Commit { commit, work };
        self.work.try_send(submitted).map_err(|_| StoreError::Poisoned)?;
        answer.recv().map_err(|_| StoreError::Poisoned)?
    }

    /// Runs `look` in the committer while nothing is committed.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] if the store has stopped, or `look` panicked.
    pub async fn hold<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Held<'_>) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |held: &Held<'_>| drop(reply.send(look(held))));
        self.work.send(Submitted::Hold(look)).await.map_err(|_| StoreError::Poisoned)?;
        answer.await.map_err(|_| StoreError::Poisoned)
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

    /// All counters as of the last commit: of one instant, so that what balances does so here.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    pub fn space(&self) -> SpaceStatus {
        self.shared.gate.status(self.shared.engine.file_bytes())
    }

    /// Why new observations are refused now, if they are.
    pub fn pause(&self) -> Option<space::Pause> {
        self.shared.gate.pause()
    }

    /// What the opening found that somebody should know.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Directories of stores that were found corrupt and may hold what could still be salvaged.
    pub fn quarantines(&self) -> Vec<std::path::PathBuf> {
        super::directory::quarantines(&self.shared.state_dir)
    }

    pub fn state_dir(&self) -> &std::path::Path {
        &self.shared.state_dir
    }

    /// Whether what is known here of the world outside may be older than it should be: the store
    /// was restored, or has been rolled back. [`Store::noted_read_back`] ends it.
    pub fn wants_read_back(&self) -> Result<bool, StoreError> {
        if self.alarms.rolled_back.is_some() {
            return Ok(true);
        }
        Ok(self.shared.engine.get(meta::read_back_key().as_bytes())?.is_some())
    }

    /// Has a commit end what [`Store::wants_read_back`] tells, for a restored store.
    pub fn noted_read_back(tx: &mut Tx<'_>) -> Result<(), StoreError> {
        tx.remove(&meta::read_back_key()).map(drop)
    }

    /// Becomes `Some` when the store has failed and the process must stop.
    pub fn fatal(&self) -> watch::Receiver<Option<StoreError>> {
        self.shared.fatal.subscribe()
    }

    /// How long the committer has been at its present group; zero when it is idle.
    pub fn busy_for(&self) -> Duration {
        self.shared.pulse.busy_for()
    }

    /// For a watchdog, which must not keep the store open.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.shared.pulse)
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
