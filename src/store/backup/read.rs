//! Reading a backup: whole and checked, or not at all.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{BackupError, BackupHeader, END, FILE_VERSION, MAGIC, io_error};
use crate::store::{
    VALUE_BYTES_MAX, codec, meta,
    open::Contents,
    tx::{COUNTERS_MAX, Counters, LIVE_BYTES},
    version::FORMAT_VERSION,
};

const HEADER_BYTES_MAX: u32 = 4 * 1024;
/// Node names are up to 128 characters, lanes shorter.
const KEY_BYTES_MAX: u32 = 4 * 1024;
const CHECKSUM_BYTES: usize = 32;

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
