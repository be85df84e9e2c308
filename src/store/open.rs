//! Opening a store: lock, choose, check, quarantine only what is corrupt, prove durability.
//!
//! Guarantees: a newer store is refused before its files are touched; lock, permission, space
//! and I/O errors leave everything as it is; only corruption or a panic of the engine sets a
//! store aside, loudly, and begins a new one; a store that is older than its mark is told of,
//! loudly. What comes out isn't migrated yet: see [`Current`](super::Current).

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{
    StoreError,
    backup::BackupError,
    building::{Building, Founding},
    codec,
    directory::{DirectoryError, Named, StateDirectory},
    durability,
    engine::{self, Engine, Writes},
    mark,
    meta::{self, Identity, Meta},
    pointer::{Pointer, Previous},
    reserve, space,
    tx::COMMITS,
    version::{FORMAT_VERSION, FormatVersion},
};
use crate::failpoint::{self, FailPoint};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the store in {path} has format {found}, this patchferry knows formats up to {known}: install the newer patchferry again; the store was not touched"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error(
        "the store has format {found} and wants migrating to {wanted}: a defect, since opening migrates"
    )]
    Unmigrated { found: u32, wanted: u32 },
    #[error(
        "a flush of the store never reached fsync, so nothing would be durable: this binary was linked wrongly, build it from the released sources"
    )]
    NotDurable,
    #[error(
        "there is no room to {operation} the store: {needed_bytes} bytes are needed beside it in {path}, {free_bytes} are free; free some space, nothing was changed"
    )]
    NoRoom { operation: &'static str, path: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error(
        "copying the store to {path} lost entries ({read} read, {written} written): a defect; the old store is untouched"
    )]
    Incomplete { path: PathBuf, read: u64, written: u64 },
    #[error(transparent)]
    Backup(#[from] BackupError),
}

impl OpenError {
    /// Whether another process holds the store.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Directory(DirectoryError::Locked { .. }))
    }
}

/// How to open.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub state_dir: PathBuf,
}

/// What an opening has found that somebody should know.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// Where a corrupt predecessor was set aside.
    pub quarantined: Option<PathBuf>,
    /// The store is older than it was known to be.
    pub rolled_back: Option<RolledBack>,
}

/// A store of which a part is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The number of its last commit.
    pub commit: u64,
    /// The number up to which it was known to be on disk.
    pub marked_commit: u64,
}

/// An open store whose format has not been looked at by migrations yet.
pub struct Opened {
    pub(super) engine: Engine,
    pub(super) directory: StateDirectory,
    pub(super) number: u64,
    pub(super) meta: Meta,
    pub(super) alarms: Alarms,
    pub(super) contents: Contents,
}

/// What a scan has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub entries: u64,
    /// Of keys and values.
    pub bytes: u64,
}

impl Opened {
    pub fn version(&self) -> FormatVersion {
        self.meta.format
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What was in it when it was opened.
    pub fn contents(&self) -> Contents {
        self.contents
    }

    pub fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of backups, made if it isn't there.
    pub fn make_backups(&self) -> Result<PathBuf, OpenError> {
        Ok(self.directory.make_backups()?)
    }

    pub fn file_bytes(&self) -> u64 {
        self.engine.file_bytes()
    }
}

/// Opens the live store of a state directory, or makes the first one.
pub fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    let directory = StateDirectory::lock(&options.state_dir)?;
    // Before anything is removed: no number is given twice.
    let next = directory.next_number()?;
    let Some(Choice { pointer, is_named }) = choose(&directory)? else {
        directory.tidy(None)?;
        return begin_new(directory, next, Alarms::default());
    };
    refuse_newer(&directory.store_path(pointer.number), pointer.format)?;
    directory.tidy(Some(&pointer))?;
    let opened = match open_and_scan(&directory, pointer.number)? {
        Ok((engine, contents)) => meta::read(&engine)?.map(|meta| (engine, contents, meta)),
        Err(corruption) => Err(corruption),
    };
    match opened {
        Ok((engine, contents, meta)) => {
            refuse_newer(engine.path(), meta.format)?;
            if !is_named || pointer.format != meta.format {
                directory.set_current(Pointer { format: meta.format, ..pointer })?;
            }
            let number = pointer.number;
            let alarms = Alarms::default();
            finish(Opened { engine, directory, number, meta, alarms, contents })
        }
        Err(corruption) => replace_corrupt(directory, pointer.number, next, &corruption),
    }
}

/// Which store is live.
pub(super) struct Choice {
    pub pointer: Pointer,
    /// `CURRENT` says so itself.
    pub is_named: bool,
}

/// The store that `CURRENT` names; where that file is lost or damaged, the latest that is there.
pub(super) fn choose(directory: &StateDirectory) -> Result<Option<Choice>, OpenError> {
    let found = match directory.named()? {
        Named::Store(pointer) => return Ok(Some(Choice { pointer, is_named: true })),
        Named::Nothing => None,
        Named::Damaged(text) => Some(text),
    };
    let stores = directory.complete_stores()?;
    let Some(&number) = stores.first() else {
        if let Some(found) = found {
            tracing::error!(
                path = %directory.path().join("CURRENT").display(), found,
                "CURRENT is damaged and there is no store: beginning with an empty one; findings \
                 that were waiting may be lost. SSM is read again and the hub is read back"
            );
        }
        return Ok(None);
    };
    tracing::error!(
        path = %directory.path().join("CURRENT").display(),
        taken = %directory.store_path(number).display(),
        others = stores.len() - 1,
        "the file that names the live store is lost or damaged: the latest store is taken, and \
         nothing of it is lost. If it is the wrong one, stop patchferry and name another there"
    );
    let pointer = Pointer { number, format: FORMAT_VERSION, previous: Previous::None };
    Ok(Some(Choice { pointer, is_named: false }))
}

pub(super) fn refuse_newer(path: &Path, found: FormatVersion) -> Result<(), OpenError> {
    if found <= FORMAT_VERSION {
        return Ok(());
    }
    Err(OpenError::Newer { path: path.into(), found: found.0, known: FORMAT_VERSION.0 })
}

/// Makes a store and only then names it, so that a store that is named has once been complete.
fn begin_new(directory: StateDirectory, number: u64, alarms: Alarms) -> Result<Opened, OpenError> {
    let building = Building::begin(&directory, number)?;
    let founding = Founding {
        format: FORMAT_VERSION,
        identity: Identity::random(),
        counters: [0; super::COUNTERS_MAX],
        read_back: false,
    };
    let (engine, meta, contents) = building.complete(&directory, &founding)?;
    failpoint::reach(FailPoint::FormatRecordWritten);
    let pointer = Pointer { number, format: FORMAT_VERSION, previous: Previous::None };
    directory.set_current(pointer)?;
    directory.mark_complete(number)?;
    finish(Opened { engine, directory, number, meta, alarms, contents })
}

fn replace_corrupt(
    directory: StateDirectory,
    number: u64,
    next: u64,
    corruption: &str,
) -> Result<Opened, OpenError> {
    let set_aside = if directory.store_path(number).exists() {
        directory.quarantine(number)?
    } else {
        // A kill may have come between setting it aside and naming its successor.
        let before = directory.path().join(format!("quarantine-{number}"));
        if before.exists() { before } else { directory.store_path(number) }
    };
    failpoint::reach(FailPoint::QuarantineRenamed);
    tracing::error!(
        quarantine = %set_aside.display(),
        corruption,
        "the store is corrupt and was set aside; findings that were waiting in it may be lost. \
         SSM is read again and the hub is read back; keep the directory: `patchferry store \
         salvage` queues what is still readable in it"
    );
    begin_new(directory, next, Alarms { quarantined: Some(set_aside), ..Alarms::default() })
}

fn finish(mut opened: Opened) -> Result<Opened, OpenError> {
    prove_durability(&opened.engine)?;
    opened.alarms.rolled_back = rolled_back(&opened);
    if let Some(RolledBack { commit, marked_commit }) = opened.alarms.rolled_back {
        tracing::error!(
            store = %opened.engine.path().display(), commit, marked_commit,
            "possible loss: the store is older than it was known to be, as if its files had been \
             cut or replaced by an older copy; what was accepted since is gone from it. Every lane \
             is read back from its hub and all nodes are read again, which finds again all that \
             comes from SSM; what was fed from files since has to be fed again. Look at the disk, and \
             at what restores files on this machine"
        );
    }
    if let Ok(free_bytes) = space::free_bytes(opened.directory.path()) {
        reserve::keep(opened.directory.path(), free_bytes);
    }
    Ok(opened)
}

fn rolled_back(opened: &Opened) -> Option<RolledBack> {
    let marked = mark::read(&opened.directory.mark_path())?;
    let commit = u64::try_from(opened.meta.counters[COMMITS]).unwrap_or(0);
    let is_this = Some(marked.identity) == opened.meta.identity;
    (is_this && commit < marked.commit)
        .then_some(RolledBack { commit, marked_commit: marked.commit })
}

/// A flush that has something to write must pass through our `sync_file_range`.
fn prove_durability(engine: &Engine) -> Result<(), OpenError> {
    let before = durability::calls();
    let value = codec::encode(0, &before);
    engine.apply(Writes::from([(meta::opened_key().as_bytes().to_vec(), Some(value))]))?;
    engine.flush()?;
    if durability::calls() > before { Ok(()) } else { Err(OpenError::NotDurable) }
}

/// The inner result's error is corruption, in words.
type Attempted = Result<(Engine, Contents), String>;

pub(super) fn open_and_scan(
    directory: &StateDirectory,
    number: u64,
) -> Result<Attempted, OpenError> {
    let path = directory.store_path(number);
    if !path.exists() {
        return Ok(Err(format!("{} is missing", path.display())));
    }
    directory.remove_leftovers(&path)?;
    match attempt(&path) {
        Err(StoreError::Io { source, .. })
            if is_full(&source) && reserve::release(directory.path()) =>
        {
            tracing::warn!("the disk is full: the reserve was released to open the store");
            sort_out(attempt(&path))
        }
        result => sort_out(result),
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

fn sort_out(result: Result<(Engine, Contents), StoreError>) -> Result<Attempted, OpenError> {
    match result {
        Ok(opened) => Ok(Ok(opened)),
        // The engine calls some damage a defect of its own.
        Err(StoreError::Corrupt { detail, .. } | StoreError::Engine { detail, .. }) => {
            Ok(Err(detail))
        }
        Err(other) => Err(other.into()),
    }
}

/// Opens and reads every entry once; a panic of the engine counts as corruption.
fn attempt(path: &Path) -> Result<(Engine, Contents), StoreError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let engine = Engine::open(path).map_err(|error| engine::translate(path, error))?;
        let mut contents = Contents::default();
        engine.scan(&[], None, |key, value| {
            contents.add(key, value);
            true
        })?;
        Ok((engine, contents))
    }));
    outcome.unwrap_or_else(|panic| {
        Err(StoreError::Corrupt { path: path.into(), detail: panic_message(panic.as_ref()) })
    })
}

impl Contents {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    format!("the engine panicked: {}", super::panic_text(panic))
}
