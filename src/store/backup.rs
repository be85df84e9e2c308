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

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    StoreError, VALUE_BYTES_MAX, codec,
    committer::Held,
    directory::{PARTIAL, sync_directory},
    engine::Engine,
    handle::Store,
    meta::{self, Identity},
    open::{Contents, Opened},
    space,
    tx::{COMMITS, COUNTERS_MAX, Counters, LIVE_BYTES},
    version::{FORMAT_VERSION, FormatVersion},
};
use crate::failpoint::{self, FailPoint};

const MAGIC: [u8; 8] = *b"PFBACKUP";
pub const FILE_VERSION: u32 = 1;
const HEADER_BYTES_MAX: u32 = 4 * 1024;
/// Node names are up to 128 characters, lanes shorter.
const KEY_BYTES_MAX: u32 = 4 * 1024;
const END: u32 = u32::MAX;
const CHECKSUM_BYTES: usize = 32;
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

/// What is called with the key and the value of each entry.
type Visit<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

/// A backup that was checked from end to end.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    header: BackupHeader,
    contents: Contents,
    counters: Counters,
}

impl Backup {
    /// Reads the whole file.
    ///
    /// # Errors
    /// If it is damaged, newer than this patchferry, or no backup.
    pub fn check(path: &Path) -> Result<Self, BackupError> {
        let mut counters = None;
        let mut contents = Contents::default();
        let header = read(path, &mut |key, value| -> Result<(), BackupError> {
            contents.add(key, value);
            if key == meta::counters_key().as_bytes() {
                counters = codec::decode::<Vec<i64>>(value).ok().map(|(_, stored)| stored);
            }
            Ok(())
        })?;
        let mut widened = [0; COUNTERS_MAX];
        match counters {
            Some(stored) if stored.len() <= COUNTERS_MAX => {
                widened[..stored.len()].copy_from_slice(&stored);
            }
            // A store of format 1 that never held anything.
            None if contents.entries <= 2 => {}
            _ => {
                let why = "the store that it is of had no counters".into();
                return Err(BackupError::Damaged { path: path.into(), why });
            }
        }
        Ok(Self { path: path.into(), header, contents, counters: widened })
    }

    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// Of the store that it is of.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What its counter of live bytes says.
    pub fn live_bytes_counted(&self) -> i64 {
        self.counters[LIVE_BYTES]
    }

    /// Reads the file again, entry by entry, in the order of the keys.
    pub fn visit<E: From<BackupError>>(&self, visit: &mut Visit<'_, E>) -> Result<(), E> {
        read(&self.path, visit).map(drop)
    }
}

/// Reads and digests.
struct Source<'a> {
    path: &'a Path,
    inner: BufReader<File>,
    digest: Sha256,
}

impl Source<'_> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.raw(bytes)?;
        self.digest.update(&*bytes);
        Ok(())
    }

    fn raw(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => io_error("read", self.path)(error),
        })
    }

    fn u32(&mut self) -> Result<u32, BackupError> {
        let mut bytes = [0; 4];
        self.take(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn damaged(&self, why: &str) -> BackupError {
        BackupError::Damaged { path: self.path.into(), why: why.into() }
    }
}

fn read<E: From<BackupError>>(path: &Path, visit: &mut Visit<'_, E>) -> Result<BackupHeader, E> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let inner = BufReader::with_capacity(1 << 20, file);
    let mut source = Source { path, inner, digest: Sha256::new() };
    let header = read_header(&mut source)?;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut entries = 0_u64;
    loop {
        let key_bytes = source.u32()?;
        if key_bytes == END {
            break;
        }
        let value_bytes = source.u32()?;
        if key_bytes > KEY_BYTES_MAX || value_bytes as usize > VALUE_BYTES_MAX {
            return Err(source.damaged("an entry is longer than any can be").into());
        }
        key.resize(key_bytes as usize, 0);
        value.resize(value_bytes as usize, 0);
        source.take(&mut key)?;
        source.take(&mut value)?;
        entries += 1;
        visit(&key, &value)?;
    }
    let mut told = [0; 8];
    source.take(&mut told)?;
    let mut checksum = [0; CHECKSUM_BYTES];
    source.raw(&mut checksum)?;
    let digest = std::mem::take(&mut source.digest).finalize();
    if digest[..] != checksum[..] {
        return Err(source.damaged("its checksum doesn't match its content").into());
    }
    if u64::from_le_bytes(told) != entries {
        return Err(source.damaged("entries are missing").into());
    }
    let after = source.inner.read(&mut [0]).map_err(io_error("read", path))?;
    if after > 0 {
        return Err(source.damaged("something follows its end").into());
    }
    Ok(header)
}

fn read_header(source: &mut Source<'_>) -> Result<BackupHeader, BackupError> {
    let path = source.path.to_path_buf();
    let mut magic = [0; 8];
    let begun = source.take(&mut magic);
    if begun.is_err() || magic != MAGIC {
        return Err(BackupError::NotABackup { path, why: "it doesn't begin like one" });
    }
    let file_version = source.u32()?;
    let header_bytes = source.u32()?;
    if header_bytes > HEADER_BYTES_MAX {
        return Err(source.damaged("its header is longer than any can be"));
    }
    let mut bytes = vec![0; header_bytes as usize];
    source.take(&mut bytes)?;
    let header: BackupHeader = serde_json::from_slice(&bytes)
        .map_err(|error| source.damaged(&format!("its header makes no sense: {error}")))?;
    if header.format > FORMAT_VERSION || file_version > FILE_VERSION {
        return Err(BackupError::Newer {
            path,
            found: header.format.0.max(file_version),
            known: FORMAT_VERSION.0,
            version: header.version,
        });
    }
    Ok(header)
}
