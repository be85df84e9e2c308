//! The state directory: who holds it, which store is live, and what was set aside.
//!
//! Guarantees: one process at a time (an advisory lock that dies with its holder); a store's
//! directory name is never used twice; files are 0600, directories 0700; names that matter are
//! fsynced before anybody relies on them. Knows nothing of what is inside a store.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::version::FormatVersion;
use crate::failpoint::{self, FailPoint};

/// Room that is given back to the file system when it is full, so that a store can be reopened.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// The state directory, locked by this process for as long as this lives.
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(
        "the state directory {path} is in use by {holder}; stop it first, or talk to it over its socket"
    )]
    Locked { path: PathBuf, holder: String },
    #[error("can't {operation} {path}; {advice}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        advice: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} doesn't name a store ({found:?}); restore it from a backup, or remove it to begin with an empty store (SSM is read again, waiting findings are lost)"
    )]
    BadCurrent { path: PathBuf, found: String },
}

fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_path_buf();
    move |source| {
        let advice = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                "run patchferry as the directory's owner, or choose another with --state-dir"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "its file system is read-only: remount it writable, or choose another directory with --state-dir"
            }
            io::ErrorKind::StorageFull => "its file system is full: free some space",
            _ => "check the file system",
        };
        DirectoryError::Io { operation, path, advice, source }
    }
}

/// Owner of the state directory, if it is there.
pub fn owner_uid(path: &Path) -> io::Result<u32> {
    fs::metadata(path).map(|metadata| metadata.uid())
}

impl StateDirectory {
    /// Creates the directory if needed and locks it.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("create the state directory", path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open the lock file", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_string(),
                    pid => format!("process {pid}"),
                };
                return Err(DirectoryError::Locked { path: path.into(), holder });
            }
            Err(TryLockError::Error(source)) => {
                return Err(io_error("lock", &lock_path)(source));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(io_error("write to the lock file", &lock_path))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn store_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("store-{number}"))
    }

    /// The live store's number and the format that it had when it was last opened; `None` in a
    /// new state directory.
    pub fn current(&self) -> Result<Option<(u64, FormatVersion)>, DirectoryError> {
        let path = self.path.join("CURRENT");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut lines = text.lines();
        let number = lines.next().and_then(|line| line.strip_prefix("store-")?.parse().ok());
        let format = lines.next().and_then(|line| line.strip_prefix("format ")?.parse().ok());
        match (number, format) {
            (Some(number), Some(format)) => Ok(Some((number, FormatVersion(format)))),
            _ => Err(DirectoryError::BadCurrent { path, found: text.chars().take(80).collect() }),
        }
    }

    /// Makes `store-<number>` the live store: atomic, and durable when it returns.
    pub fn set_current(&self, number: u64, format: FormatVersion) -> Result<(), DirectoryError> {
        let path = self.path.join("CURRENT");
        let temporary = self.path.join("CURRENT.new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            write!(file, "store-{number}\nformat {}\n", format.0)?;
            file.sync_all()?;
            failpoint::reach(FailPoint::CurrentWritten);
            fs::rename(&temporary, &path)?;
            self.sync()
        };
        write().map_err(io_error("write", &path))
    }

    /// The lowest number that no store or quarantine has had.
    pub fn next_number(&self) -> Result<u64, DirectoryError> {
        let entries = fs::read_dir(&self.path).map_err(io_error("list", &self.path))?;
        let highest = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.strip_prefix("store-")
                    .or_else(|| name.strip_prefix("quarantine-"))?
                    .parse::<u64>()
                    .ok()
            })
            .max();
        Ok(highest.unwrap_or(0) + 1)
    }

    /// Creates the directory of a store that doesn't exist yet.
    pub fn create_store(&self, number: u64) -> Result<PathBuf, DirectoryError> {
        let path = self.store_path(number);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .and_then(|()| self.sync())
            .map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Sets a corrupt store aside as `quarantine-<number>`.
    pub fn quarantine(&self, number: u64) -> Result<PathBuf, DirectoryError> {
        let from = self.store_path(number);
        let to = self.path.join(format!("quarantine-{number}"));
        fs::rename(&from, &to).and_then(|()| self.sync()).map_err(io_error("set aside", &from))?;
        Ok(to)
    }

    /// Removes what a kill in the middle of a snapshot leaves behind; sled can't open with it.
    pub fn remove_leftovers(&self, store: &Path) -> Result<(), DirectoryError> {
        let entries = fs::read_dir(store).map_err(io_error("list", store))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                let path = entry.path();
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        File::open(store)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("fsync", store))?;
        self.sync().map_err(io_error("fsync", &self.path))
    }

    /// Sets the reserve aside if there is ample room for it; without it only a full disk is
    /// harder to leave.
    pub fn keep_reserve(&self, free_bytes: u64) {
        let path = self.path.join("reserve");
        let there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == RESERVE_BYTES);
        if there || free_bytes < RESERVE_BYTES * 4 {
            return;
        }
        let reserve = || -> io::Result<()> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            Ok(())
        };
        if let Err(error) = reserve() {
            tracing::debug!(%error, "the disk reserve could not be set aside");
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives the reserve back; whether there was one.
    pub fn release_reserve(&self) -> bool {
        fs::remove_file(self.path.join("reserve")).is_ok()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
