//! Opening a store: lock, choose, check, quarantine only what is corrupt, prove durability.
//!
//! Guarantees: a newer store is refused before its files are touched; lock, permission, space
//! and I/O errors leave everything as it is; only corruption or a panic of the engine sets a
//! store aside, loudly, and begins a new one. What comes out isn't migrated yet: see
//! [`Current`](super::Current).

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{
    StoreError,
    directory::{DirectoryError, StateDirectory},
    durability,
    engine::{self, Engine, Writes},
    space,
    version::{self, FORMAT_VERSION, FormatVersion},
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
}

/// How to open.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub state_dir: PathBuf,
}

/// An open store whose format has not been looked at by migrations yet.
pub struct Opened {
    pub(super) engine: Engine,
    pub(super) directory: StateDirectory,
    number: u64,
    version: FormatVersion,
    quarantined: Option<PathBuf>,
    entries: u64,
}

impl Opened {
    pub fn version(&self) -> FormatVersion {
        self.version
    }

    /// Where a corrupt predecessor was set aside by this opening.
    pub fn quarantined(&self) -> Option<&Path> {
        self.quarantined.as_deref()
    }

    /// Entries found when it was opened.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Carries out one migration step: its writes and the new version, in one durable batch.
    pub fn migrate(&mut self, writes: Writes, to: FormatVersion) -> Result<(), OpenError> {
        let mut writes = writes;
        let (key, value) = version::record(to);
        writes.insert(key.as_bytes().to_vec(), Some(value));
        self.engine.apply(writes)?;
        self.engine.flush()?;
        self.version = to;
        self.directory.set_current(self.number, to)?;
        Ok(())
    }
}

/// Opens the live store of a state directory, or makes the first one.
pub fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    let directory = StateDirectory::lock(&options.state_dir)?;
    let Some((number, format)) = directory.current()? else {
        let number = directory.next_number()?;
        return begin_new(directory, number, None);
    };
    refuse_newer(&directory.store_path(number), format)?;
    let opened = match open_and_scan(&directory, number)? {
        Ok(opened) => with_version(opened)?,
        Err(corruption) => Err(corruption),
    };
    match opened {
        Ok(scanned) => finish(directory, scanned, number, None),
        Err(corruption) => replace_corrupt(directory, number, &corruption),
    }
}

/// A store that `CURRENT` names has a format record, since it was written first. sled opens a
/// file that was cut or overwritten as an empty store without a word: this is what tells.
fn with_version((engine, entries): (Engine, u64)) -> Result<Result<Scanned, String>, OpenError> {
    match version::read(&engine) {
        Ok(Some(version)) => Ok(Ok(Scanned { engine, entries, version })),
        Ok(None) => Ok(Err(format!("its format record is gone, {entries} entries are left"))),
        Err(OpenError::Store(StoreError::Corrupt { detail, .. })) => Ok(Err(detail)),
        Err(other) => Err(other),
    }
}

fn refuse_newer(path: &Path, found: FormatVersion) -> Result<(), OpenError> {
    if found <= FORMAT_VERSION {
        return Ok(());
    }
    Err(OpenError::Newer { path: path.into(), found: found.0, known: FORMAT_VERSION.0 })
}

/// Makes a store and only then names it, so that a store that is named has once been complete.
fn begin_new(
    directory: StateDirectory,
    number: u64,
    quarantined: Option<PathBuf>,
) -> Result<Opened, OpenError> {
    let path = directory.create_store(number)?;
    failpoint::reach(FailPoint::StoreCreated);
    let (engine, entries) = open_and_scan(&directory, number)?
        .map_err(|detail| OpenError::Store(StoreError::Corrupt { path, detail }))?;
    let (key, value) = version::record(FORMAT_VERSION);
    engine.apply(Writes::from([(key.as_bytes().to_vec(), Some(value))]))?;
    engine.flush()?;
    failpoint::reach(FailPoint::FormatRecordWritten);
    directory.set_current(number, FORMAT_VERSION)?;
    let scanned = Scanned { engine, entries, version: FORMAT_VERSION };
    finish(directory, scanned, number, quarantined)
}

fn replace_corrupt(
    directory: StateDirectory,
    number: u64,
    corruption: &str,
) -> Result<Opened, OpenError> {
    let missing = !directory.store_path(number).exists();
    let set_aside =
        if missing { directory.store_path(number) } else { directory.quarantine(number)? };
    tracing::error!(
        quarantine = %set_aside.display(),
        corruption,
        "the store is corrupt and was set aside; findings that were waiting in it may be lost. \
         SSM is read again and the hub is read back; keep the directory"
    );
    failpoint::reach(FailPoint::QuarantineRenamed);
    // Of a store whose directory is gone, only `CURRENT` remembers the number.
    let next = directory.next_number()?.max(number + 1);
    begin_new(directory, next, Some(set_aside))
}

fn finish(
    directory: StateDirectory,
    scanned: Scanned,
    number: u64,
    quarantined: Option<PathBuf>,
) -> Result<Opened, OpenError> {
    let Scanned { engine, entries, version } = scanned;
    refuse_newer(engine.path(), version)?;
    prove_durability(&engine)?;
    if let Ok(free_bytes) = space::free_bytes(directory.path()) {
        directory.keep_reserve(free_bytes);
    }
    Ok(Opened { engine, directory, number, version, quarantined, entries })
}

/// A flush that has something to write must pass through our `sync_file_range`.
fn prove_durability(engine: &Engine) -> Result<(), OpenError> {
    let before = durability::calls();
    let key = super::keys::Key::new(super::keys::Table::Meta).text("opened");
    let value = super::codec::encode(0, &before);
    engine.apply(Writes::from([(key.as_bytes().to_vec(), Some(value))]))?;
    engine.flush()?;
    if durability::calls() > before { Ok(()) } else { Err(OpenError::NotDurable) }
}

/// A store that opened, every entry of it readable.
struct Scanned {
    engine: Engine,
    entries: u64,
    version: FormatVersion,
}

/// The inner result's error is corruption, in words.
type Attempted = Result<(Engine, u64), String>;

fn open_and_scan(directory: &StateDirectory, number: u64) -> Result<Attempted, OpenError> {
    let path = directory.store_path(number);
    if !path.exists() {
        return Ok(Err(format!("{} is missing", path.display())));
    }
    directory.remove_leftovers(&path)?;
    match attempt(&path) {
        Err(StoreError::Io { source, .. }) if is_full(&source) && directory.release_reserve() => {
            tracing::warn!("the disk is full: the reserve was released to open the store");
            sort_out(attempt(&path))
        }
        result => sort_out(result),
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

fn sort_out(result: Result<(Engine, u64), StoreError>) -> Result<Attempted, OpenError> {
    match result {
        Ok(opened) => Ok(Ok(opened)),
        Err(StoreError::Corrupt { detail, .. }) => Ok(Err(detail)),
        Err(other) => Err(other.into()),
    }
}

/// Opens and reads every entry once; a panic of the engine counts as corruption.
fn attempt(path: &Path) -> Result<(Engine, u64), StoreError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let engine = Engine::open(path).map_err(|error| engine::translate(path, error))?;
        let mut entries = 0_u64;
        engine.scan(&[], None, |_, _| {
            entries += 1;
            true
        })?;
        Ok((engine, entries))
    }));
    outcome.unwrap_or_else(|panic| {
        Err(StoreError::Corrupt { path: path.into(), detail: panic_message(panic.as_ref()) })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    format!("the engine panicked: {}", super::panic_text(panic))
}
