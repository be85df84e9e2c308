//! Looking at a store without taking it into service: the live one, to verify it, and a
//! quarantined one, to read what is still readable.
//!
//! Guarantees: nothing here sets a store aside, migrates it, or writes an entry. A quarantined
//! store isn't touched at all: what is opened is a copy, which is removed afterwards. A panic of
//! the engine is an answer like any other.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{
    directory::{PARTIAL, StateDirectory, io_error, remove_directory_if_there},
    engine::{self, Engine},
    keys::{Key, Table},
    leftovers::remove_engine_leftovers,
    mark,
    meta::{self, Meta},
    open::{Contents, OpenError, RolledBack, choose, open_and_scan, panic_message, refuse_newer},
    space,
    tx::{COMMITS, Counters, LIVE_BYTES},
    version::FormatVersion,
};

/// Room that a salvage leaves on the file system.
const SPARE_BYTES: u64 = 64 << 20;

/// What was found of the live store.
pub enum Inspected {
    /// There is none.
    Nothing,
    /// It can't be read; opening it for service would set it aside.
    Corrupt {
        path: PathBuf,
        detail: String,
    },
    Readable(Box<Readable>),
}

/// A store that can be read, and is used for nothing else.
pub struct Readable {
    engine: Engine,
    directory: StateDirectory,
    meta: Meta,
    contents: Contents,
}

/// Opens the live store only to look at it.
///
/// # Errors
/// If somebody holds it, it is newer than this patchferry, or the disk fails.
pub fn inspect(state_dir: &Path) -> Result<Inspected, OpenError> {
    let directory = StateDirectory::lock(state_dir)?;
    let Some(choice) = choose(&directory)? else { return Ok(Inspected::Nothing) };
    let pointer = choice.pointer;
    let path = directory.store_path(pointer.number);
    refuse_newer(&path, pointer.format)?;
    let (engine, contents) = match open_and_scan(&directory, pointer.number)? {
        Ok(opened) => opened,
        Err(detail) => return Ok(Inspected::Corrupt { path, detail }),
    };
    match meta::read(&engine)? {
        Ok(meta) => {
            refuse_newer(&path, meta.format)?;
            Ok(Inspected::Readable(Box::new(Readable { engine, directory, meta, contents })))
        }
        Err(detail) => Ok(Inspected::Corrupt { path, detail }),
    }
}

impl Readable {
    pub fn path(&self) -> &Path {
        self.engine.path()
    }

    pub fn format(&self) -> FormatVersion {
        self.meta.format
    }

    pub fn contents(&self) -> Contents {
        self.contents
    }

    pub fn counters(&self) -> &Counters {
        &self.meta.counters
    }

    /// What the counter of live bytes says.
    pub fn live_bytes_counted(&self) -> i64 {
        self.meta.counters[LIVE_BYTES]
    }

    /// Whether it is older than it was known to be.
    pub fn rolled_back(&self) -> Option<RolledBack> {
        let marked = mark::read(&self.directory.mark_path())?;
        let commit = u64::try_from(self.meta.counters[COMMITS]).unwrap_or(0);
        (Some(marked.identity) == self.meta.identity && commit < marked.commit)
            .then_some(RolledBack { commit, marked_commit: marked.commit })
    }

    /// Files that the engine never syncs; there must be none.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("blobs"));
        entries.map(|it| it.flatten().map(|blob| blob.path()).collect()).unwrap_or_default()
    }

    /// Visits every entry in the order of the keys.
    pub fn visit(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), OpenError> {
        self.engine.scan(&[], None, |key, value| {
            visit(key, value);
            true
        })?;
        Ok(())
    }
}

/// A copy of a quarantined store. Dropping it removes the copy.
pub struct Wreck {
    engine: Option<Engine>,
    copy: PathBuf,
    format: FormatVersion,
}

impl Wreck {
    /// Copies `quarantine` into the state directory and opens the copy. The caller holds the
    /// state directory's store open, so nobody else is here.
    ///
    /// # Errors
    /// In words, what keeps it from being read.
    pub fn open(state_dir: &Path, quarantine: &Path) -> Result<Self, OpenError> {
        let copy = state_dir.join(format!("salvage.{PARTIAL}"));
        remove_directory_if_there(&copy).map_err(io_error("remove", &copy))?;
        require_room(state_dir, quarantine)?;
        let mut wreck = Self { engine: None, copy, format: FormatVersion(0) };
        copy_directory(quarantine, &wreck.copy).map_err(io_error("copy", quarantine))?;
        remove_engine_leftovers(&wreck.copy)?;
        let opened = catch_unwind(AssertUnwindSafe(|| Engine::open(&wreck.copy)));
        let corrupt = |detail| super::StoreError::Corrupt { path: quarantine.into(), detail };
        let engine = opened
            .map_err(|panic| corrupt(panic_message(panic.as_ref())))?
            .map_err(|error| engine::translate(quarantine, error))?;
        let found = catch_unwind(AssertUnwindSafe(|| meta::read(&engine)));
        // Without its own record it is taken for one of the present format: an entry of another
        // form doesn't decode, and is counted as such.
        wreck.format = match found {
            Ok(Ok(Ok(meta))) => meta.format,
            _ => super::FORMAT_VERSION,
        };
        wreck.engine = Some(engine);
        refuse_newer(quarantine, wreck.format)?;
        Ok(wreck)
    }

    pub fn format(&self) -> FormatVersion {
        self.format
    }

    /// One entry, if it is there and can be read.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let engine = self.engine.as_ref()?;
        catch_unwind(AssertUnwindSafe(|| engine.get(key.as_bytes()))).ok()?.ok()?
    }

    /// Visits what can be read of a table, from both ends; whether all of it could be.
    pub fn visit(&self, table: Table, mut visit: impl FnMut(&[u8], &[u8])) -> bool {
        let Some(engine) = &self.engine else { return false };
        let prefix = Key::new(table);
        let end = prefix.end_of_prefix();
        let end = end.as_ref().map(Key::as_bytes);
        let mut last: Option<Vec<u8>> = None;
        let forward = attempt(|| {
            engine.scan(prefix.as_bytes(), end, |key, value| {
                visit(key, value);
                last = Some(key.to_vec());
                true
            })
        });
        if forward {
            return true;
        }
        attempt(|| {
            engine.scan_back(prefix.as_bytes(), end, |key, value| {
                let is_new = last.as_deref().is_none_or(|last| key > last);
                if is_new {
                    visit(key, value);
                }
                is_new
            })
        });
        false
    }
}

/// Whether a scan got to its end.
fn attempt(scan: impl FnOnce() -> Result<(), super::StoreError>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(scan)), Ok(Ok(())))
}

impl Drop for Wreck {
    fn drop(&mut self) {
        let engine = self.engine.take();
        // A damaged engine may panic as it closes, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        if let Err(error) = remove_directory_if_there(&self.copy) {
            tracing::warn!(%error, copy = %self.copy.display(), "the copy could not be removed");
        }
    }
}

fn require_room(state_dir: &Path, quarantine: &Path) -> Result<(), OpenError> {
    let entries = fs::read_dir(quarantine).map_err(io_error("list", quarantine))?;
    let sizes = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
    let needed_bytes = sizes.sum::<u64>().saturating_add(SPARE_BYTES);
    match space::free_bytes(state_dir) {
        Ok(free_bytes) if free_bytes < needed_bytes => Err(OpenError::NoRoom {
            operation: "copy and salvage",
            path: state_dir.into(),
            needed_bytes,
            free_bytes,
        }),
        _ => Ok(()),
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
