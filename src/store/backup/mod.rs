//! A backup: everything that a store holds, in one checksummed file.
//!
//! | part | bytes |
//! |---|---|
//! | magic | 8: `PFBACKUP` |
//! | version of the file's own form | u32, [`FILE_VERSION`] |
//! | length of the header | u32 |
//! | header | JSON, [`BackupHeader`] |
//! | entries | each: length of the key, length of the value (u32), key, value |
//! | end | u32 of all ones, u64 number of entries |
//! | checksum | 32: SHA-256 of everything before it |
//!
//! Numbers are little endian. Guarantees: a file has its name only when it is whole and on disk;
//! nothing is overwritten; a file is checked from end to end before anything of it is used; one
//! whose bytes were changed or cut is refused.
//!
//! Deliberately doesn't know: what the entries mean, and what time it is.

mod read;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use read::Backup;

use super::{
    StoreError,
    committer::Held,
    directory::{PARTIAL, sync_directory},
    engine::Engine,
    handle::Store,
    meta::Identity,
    open::Opened,
    space,
    tx::COMMITS,
    version::{FORMAT_VERSION, FormatVersion},
};
use crate::failpoint::{self, FailPoint};

const MAGIC: [u8; 8] = *b"PFBACKUP";
pub const FILE_VERSION: u32 = 1;
const END: u32 = u32::MAX;
/// Room that a backup leaves on its file system.
const SPARE_BYTES: u64 = 16 << 20;
/// Entries between two signs of life to the watchdog.
const BEAT_ENTRIES: u64 = 1_000;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    pub format: FormatVersion,
    /// Of the store that it is of; absent in format 1.
    pub identity: Option<Identity>,
    /// The number of the last commit that is in it.
    pub commit: u64,
    pub created_at_unix_ms: i64,
    /// The patchferry that wrote it.
    pub version: String,
}

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    pub path: PathBuf,
    pub header: BackupHeader,
    pub entries: u64,
    /// Of the file.
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("can't {operation} the backup {path}; {advice}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        advice: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path} is there already: name another file, a backup is never overwritten")]
    Exists { path: PathBuf },
    #[error(
        "there is no room for a backup in {path}: about {needed_bytes} bytes are needed, {free_bytes} are free; name a file elsewhere, or free some space"
    )]
    NoRoom { path: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error("{path} is no backup of patchferry: {why}")]
    NotABackup { path: PathBuf, why: &'static str },
    #[error("the backup {path} is damaged: {why}; use another one")]
    Damaged { path: PathBuf, why: String },
    #[error(
        "the backup {path} has format {found}, this patchferry knows formats up to {known}: use the patchferry that wrote it, {version}"
    )]
    Newer { path: PathBuf, found: u32, known: u32, version: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_path_buf();
    move |source| {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => "there is no such file or directory",
            io::ErrorKind::PermissionDenied => "its owner may",
            io::ErrorKind::StorageFull => "its file system is full: free some space",
            _ => "check the file system",
        };
        BackupError::Io { operation, path, advice, source }
    }
}

impl Store {
    /// Writes a backup to `path`, which must not be there yet. Nothing is committed while it is
    /// written, so that it is one moment of the store; the fsync follows after that.
    pub async fn backup(
        &self,
        path: PathBuf,
        created_at_unix_ms: i64,
    ) -> Result<BackupSummary, BackupError> {
        let live_bytes = self.space().live_bytes;
        let written = self.hold(move |held: &Held<'_>| {
            let header = BackupHeader {
                format: FORMAT_VERSION,
                identity: Some(held.identity()),
                commit: held.commit(),
                created_at_unix_ms,
                version: env!("CARGO_PKG_VERSION").into(),
            };
            write(&path, header, live_bytes, held.reader().0, || held.gets_on())
        });
        let unsynced = written.await??;
        let named = tokio::task::spawn_blocking(move || unsynced.name());
        named.await.map_err(|_| StoreError::Poisoned)?
    }
}

impl Opened {
    /// As [`Store::backup`], of a store that nobody uses.
    pub fn backup(
        &self,
        path: &Path,
        created_at_unix_ms: i64,
    ) -> Result<BackupSummary, BackupError> {
        let header = BackupHeader {
            format: self.meta.format,
            identity: self.meta.identity,
            commit: u64::try_from(self.meta.counters[COMMITS]).unwrap_or(0),
            created_at_unix_ms,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        write(path, header, self.contents.bytes, &self.engine, || {})?.name()
    }
}

/// A backup that isn't on disk for certain, and doesn't have its name yet.
struct Unsynced {
    file: BufWriter<File>,
    temporary: PathBuf,
    summary: BackupSummary,
}

impl Unsynced {
    fn name(self) -> Result<BackupSummary, BackupError> {
        let Self { file, temporary, mut summary } = self;
        let path = &summary.path;
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let named = || -> io::Result<u64> {
            let file = file.into_inner()?;
            file.sync_all()?;
            failpoint::reach(FailPoint::BackupWritten);
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(&temporary, path)?;
            sync_directory(directory.unwrap_or(Path::new(".")))?;
            failpoint::reach(FailPoint::BackupRenamed);
            Ok(file.metadata()?.len())
        };
        let bytes = named().map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            match error.kind() {
                io::ErrorKind::AlreadyExists => BackupError::Exists { path: path.clone() },
                _ => io_error("write", path)(error),
            }
        })?;
        summary.bytes = bytes;
        Ok(summary)
    }
}

fn write(
    path: &Path,
    header: BackupHeader,
    content_bytes: u64,
    engine: &Engine,
    beat: impl Fn(),
) -> Result<Unsynced, BackupError> {
    if path.exists() {
        return Err(BackupError::Exists { path: path.into() });
    }
    require_room(path, content_bytes)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{PARTIAL}", std::process::id()));
    let temporary = path.with_file_name(name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io_error("create", path))?;
    let written = write_to(file, &header, engine, beat).map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        match error {
            WriteError::Io(error) => io_error("write", path)(error),
            WriteError::Store(error) => error.into(),
        }
    });
    let (file, entries) = written?;
    let summary = BackupSummary { path: path.into(), header, entries, bytes: 0 };
    Ok(Unsynced { file, temporary, summary })
}

fn require_room(path: &Path, content_bytes: u64) -> Result<(), BackupError> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_path_buf();
    let free_bytes = space::free_bytes(&directory).map_err(io_error("create", path))?;
    // Eight more bytes an entry, and few entries are shorter than thirty.
    let needed_bytes = content_bytes / 4 * 5 + SPARE_BYTES;
    if free_bytes < needed_bytes {
        return Err(BackupError::NoRoom { path: directory, needed_bytes, free_bytes });
    }
    Ok(())
}

enum WriteError {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes and digests.
struct Digesting<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Digesting<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.inner.write_all(bytes)
    }
}

fn write_to(
    file: File,
    header: &BackupHeader,
    engine: &Engine,
    beat: impl Fn(),
) -> Result<(BufWriter<File>, u64), WriteError> {
    let inner = BufWriter::with_capacity(1 << 20, file);
    let mut out = Digesting { inner, digest: Sha256::new() };
    let header = serde_json::to_vec(header).map_err(io::Error::other)?;
    out.put(&MAGIC)?;
    out.put(&FILE_VERSION.to_le_bytes())?;
    out.put(&length(&header)?)?;
    out.put(&header)?;
    let mut entries = 0_u64;
    let mut outcome = Ok(());
    let scanned = engine.scan(&[], None, |key, value| {
        entries += 1;
        if entries.is_multiple_of(BEAT_ENTRIES) {
            beat();
        }
        outcome = put_entry(&mut out, key, value);
        outcome.is_ok()
    });
    outcome?;
    scanned.map_err(WriteError::Store)?;
    out.put(&END.to_le_bytes())?;
    out.put(&entries.to_le_bytes())?;
    let checksum = out.digest.finalize();
    out.inner.write_all(&checksum)?;
    Ok((out.inner, entries))
}

fn put_entry(out: &mut Digesting<impl Write>, key: &[u8], value: &[u8]) -> io::Result<()> {
    out.put(&length(key)?)?;
    out.put(&length(value)?)?;
    out.put(key)?;
    out.put(value)
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    u32::try_from(bytes.len()).map(u32::to_le_bytes).map_err(io::Error::other)
}
