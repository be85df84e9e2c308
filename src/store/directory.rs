//! The state directory: who holds it, which store is live, and what was set aside.
//!
//! | name | what |
//! |---|---|
//! | `lock` | held by the one process that may touch the rest |
//! | `CURRENT` | names the live store, see [`pointer`](super::pointer) |
//! | `store-<n>` | a store; one that isn't complete yet has a file `unfinished` in it |
//! | `quarantine-<n>` | a store that was found corrupt; never touched again |
//! | `replaced-<n>` | a store whose place a restored backup took; never touched again |
//! | `mark` | see [`mark`](super::mark) |
//! | `scrap-<n>` | a store that is being removed, or isn't one yet; the next opening removes it |
//! | `backups/` | backup files; `*.partial` are unfinished |
//! | `salvage.partial/` | a copy of a quarantined store, while it is read |
//! | `reserve` | see [`reserve`](super::reserve) |
//!
//! Guarantees: one process at a time (an advisory lock that dies with its holder); a store's
//! directory name is never used twice; files are 0600, directories 0700; names that matter are
//! fsynced before anybody relies on them; what a kill left unfinished is removed at the next
//! opening ([`leftovers`](super::leftovers)). Knows nothing of what is inside a store.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    pointer::{Pointer, Previous},
    version::FormatVersion,
};
use crate::failpoint::{self, FailPoint};

/// In a store's directory for as long as the store isn't complete.
pub(super) const UNFINISHED: &str = "unfinished";
/// How directories begin that hold no store any more, or not yet.
pub(super) const SCRAP: &str = "scrap-";
/// What files and directories are called that somebody is still writing.
pub(super) const PARTIAL: &str = "partial";

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
}

pub(super) fn io_error(
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

/// The format of the store that is live, as far as `CURRENT` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatOnDisk {
    /// There is no store.
    None,
    Known(FormatVersion),
    /// `CURRENT` says nothing that makes sense.
    Damaged,
}

/// Looks at a state directory that may be in use, and locks nothing.
pub fn format_on_disk(state_dir: &Path) -> Result<FormatOnDisk, DirectoryError> {
    Ok(match named(state_dir)? {
        Named::Nothing => FormatOnDisk::None,
        Named::Store(pointer) => FormatOnDisk::Known(pointer.format),
        Named::Damaged(_) => FormatOnDisk::Damaged,
    })
}

fn named(state_dir: &Path) -> Result<Named, DirectoryError> {
    let path = state_dir.join("CURRENT");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Named::Nothing),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(match Pointer::parse(&text) {
        Some(pointer) => Named::Store(pointer),
        None => Named::Damaged(text.chars().take(80).collect()),
    })
}

/// What `CURRENT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Store(Pointer),
    /// There is no such file.
    Nothing,
    /// It says nothing that makes sense: its beginning.
    Damaged(String),
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

    pub fn mark_path(&self) -> PathBuf {
        self.path.join("mark")
    }

    pub fn backups_path(&self) -> PathBuf {
        self.path.join("backups")
    }

    /// The directory of backups, made if it isn't there.
    pub fn make_backups(&self) -> Result<PathBuf, DirectoryError> {
        let path = self.backups_path();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .and_then(|()| self.sync())
            .map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Which store is live.
    pub fn named(&self) -> Result<Named, DirectoryError> {
        named(&self.path)
    }

    /// Makes a store the live one: atomic, and durable when it returns.
    pub fn set_current(&self, pointer: Pointer) -> Result<(), DirectoryError> {
        let path = self.path.join("CURRENT");
        let temporary = self.path.join("CURRENT.new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(pointer.render().as_bytes())?;
            file.sync_all()?;
            failpoint::reach(FailPoint::CurrentWritten);
            fs::rename(&temporary, &path)?;
            self.sync()
        };
        write().map_err(io_error("write", &path))
    }

    /// The lowest number that no store, whatever became of it, has had.
    pub fn next_number(&self) -> Result<u64, DirectoryError> {
        let mut highest = match self.named()? {
            Named::Store(pointer) => pointer.number,
            Named::Nothing | Named::Damaged(_) => 0,
        };
        for name in self.names()? {
            let number = ["store-", "quarantine-", "replaced-", SCRAP]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix)?.parse::<u64>().ok());
            highest = highest.max(number.unwrap_or(0));
        }
        Ok(highest + 1)
    }

    /// Numbers of the stores that were once complete, highest first.
    pub fn complete_stores(&self) -> Result<Vec<u64>, DirectoryError> {
        let names = self.names()?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix("store-")?.parse().ok()).collect();
        numbers.retain(|number| !self.store_path(*number).join(UNFINISHED).exists());
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Creates the directory of a store that isn't complete yet.
    pub fn create_store(&self, number: u64) -> Result<PathBuf, DirectoryError> {
        let (scrap, path) = (self.scrap_path(number), self.store_path(number));
        let create = || -> io::Result<()> {
            DirBuilder::new().mode(0o700).create(&scrap)?;
            failpoint::reach(FailPoint::StoreDirectoryMade);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(scrap.join(UNFINISHED))?
                .sync_all()?;
            sync_directory(&scrap)?;
            // It has the name of a store only once it says that it is unfinished.
            fs::rename(&scrap, &path)?;
            self.sync()
        };
        create().map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Notes that a store is complete. `CURRENT` must name it already.
    pub fn mark_complete(&self, number: u64) -> Result<(), DirectoryError> {
        let path = self.store_path(number).join(UNFINISHED);
        remove_file_if_there(&path).map_err(io_error("remove", &path))
    }

    /// Sets a corrupt store aside as `quarantine-<number>`.
    pub fn quarantine(&self, number: u64) -> Result<PathBuf, DirectoryError> {
        self.rename_store(number, "quarantine")
    }

    fn rename_store(&self, number: u64, prefix: &str) -> Result<PathBuf, DirectoryError> {
        let from = self.store_path(number);
        let to = self.path.join(format!("{prefix}-{number}"));
        fs::rename(&from, &to).and_then(|()| self.sync()).map_err(io_error("set aside", &from))?;
        Ok(to)
    }

    /// Removes a store that isn't live. A kill leaves it whole, or as scrap.
    pub fn remove_store(&self, number: u64) -> Result<(), DirectoryError> {
        let (path, scrap) = (self.store_path(number), self.scrap_path(number));
        let remove = || -> io::Result<()> {
            match fs::rename(&path, &scrap) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            self.sync()?;
            failpoint::reach(FailPoint::StoreScrapped);
            remove_directory_if_there(&scrap)?;
            self.sync()
        };
        remove().map_err(io_error("remove", &path))
    }

    fn scrap_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{SCRAP}{number}"))
    }

    /// Does what `pointer` says of the store before it; where it is now, if it is kept.
    pub fn settle_previous(&self, pointer: &Pointer) -> Result<Option<PathBuf>, DirectoryError> {
        match pointer.previous {
            Previous::Discard(number) if number != pointer.number => {
                self.remove_store(number)?;
                Ok(None)
            }
            Previous::SetAside(number) if number != pointer.number => {
                if self.store_path(number).exists() {
                    return self.rename_store(number, "replaced").map(Some);
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn names(&self) -> Result<Vec<String>, DirectoryError> {
        let entries = fs::read_dir(&self.path).map_err(io_error("list", &self.path))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

/// Directories of stores that were found corrupt, the oldest first.
pub fn quarantines(state_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(state_dir) else { return Vec::new() };
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix("quarantine-")?.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn remove_directory_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
