//! sled, behind the four things that the store needs of it: get, scan, apply, flush.
//!
//! Everything is in sled's default tree, so that one `Batch` is one atomic commit. No sled type
//! leaves this file but through [`open`](super::open).

use std::{
    collections::HashMap,
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use super::{StoreError, keys::Key};

/// sled's segment: 8 MiB, so that no value of ours ever becomes a blob.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// sled's default is 1 GB; this bounds our memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Never `None`: sled collects garbage in this thread.
const FLUSH_EVERY_MS: u64 = 500;

/// A store that was closed is let go of within this time.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(5);
const RELEASE_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Writes of one commit group: the last write to a key wins; `None` removes.
pub type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A key and its value, owned.
pub type Entry = (Key, Vec<u8>);

#[derive(Clone)]
pub struct Engine {
    db: sled::Db,
    path: Arc<Path>,
}

/// sled keeps its settings in a file that it neither syncs nor trusts a checksum of: damaged, or
/// cut short by a power cut, it keeps a store from opening that is whole. Ours are the same in
/// every store, so one that says something else is damaged; sled writes it anew.
fn mend_settings(store: &Path) -> std::io::Result<()> {
    let path = store.join("conf");
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found == settings() {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), "the engine's settings are damaged and are written anew");
    fs::remove_file(&path)
}

/// What is in `conf`: sled 0.34.7, `config.rs`, `StorageParameters::serialize` and a CRC-32.
fn settings() -> Vec<u8> {
    let text = format!("segment_size: {SEGMENT_BYTES}\nuse_compression: false\nversion: 0.34\n");
    let mut bytes = text.into_bytes();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// sled's own threads may hold on to a store for a moment after its last handle is gone: whoever
/// closes and opens in one process would be refused. Our own lock is held by whoever opens, so
/// nobody else can mean to use it. What still holds it afterwards is sled's to report.
fn wait_for_release(store: &Path) {
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(store.join("db")) else {
        return;
    };
    let began = Instant::now();
    while began.elapsed() < RELEASE_TIME_MAX {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            // The lock goes with the file handle.
            _ => return,
        }
        // The release of a lock tells nobody.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(RELEASE_POLL_INTERVAL);
    }
}

impl Engine {
    pub fn open(path: &Path) -> Result<Self, sled::Error> {
        mend_settings(path)?;
        wait_for_release(path);
        let db = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .mode(sled::Mode::HighThroughput)
            .open()?;
        fs::File::open(path.join("conf"))?.sync_all()?;
        Ok(Self { db, path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.db.get(key) {
            Ok(value) => Ok(value.map(|bytes| bytes.to_vec())),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Length of the value at `key`, without copying it.
    pub fn value_bytes(&self, key: &[u8]) -> Result<Option<usize>, StoreError> {
        match self.db.get(key) {
            Ok(value) => Ok(value.map(|bytes| bytes.len())),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Calls `visit` with each entry from `from` on, below `to`, until it answers `false`.
    pub fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for entry in self.db.range::<&[u8], _>((Bound::Included(from), end)) {
            let (key, value) = entry.map_err(|error| self.error(error))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    /// As [`Engine::scan`], from the end backwards.
    pub fn scan_back(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for entry in self.db.range::<&[u8], _>((Bound::Included(from), end)).rev() {
            let (key, value) = entry.map_err(|error| self.error(error))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    /// Applies all writes, or none.
    pub fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(|error| self.error(error))
    }

    /// Everything applied so far is on disk when this returns (see `durability`).
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(drop).map_err(|error| self.error(error))
    }

    pub fn file_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn error(&self, error: sled::Error) -> StoreError {
        translate(&self.path, error)
    }
}

/// sled's errors in our words. `CollectionNotFound` and `Unsupported` can't come from the calls
/// made here, so they are defects of the engine like `ReportableBug`.
pub fn translate(path: &Path, error: sled::Error) -> StoreError {
    let path = PathBuf::from(path);
    match error {
        sled::Error::Io(source) => StoreError::Io { path, source: Arc::new(source) },
        sled::Error::Corruption { .. } => StoreError::Corrupt { path, detail: error.to_string() },
        other => StoreError::Engine { path, detail: other.to_string() },
    }
}

/// Read access for one piece of work on a blocking thread.
pub struct Reader<'a>(pub(super) &'a Engine);

impl Reader<'_> {
    pub fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key.as_bytes())
    }

    /// Up to `limit` entries whose keys begin with `prefix`, from `from` on.
    pub fn page(&self, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        self.visit(prefix, from, |key, value| {
            entries.push((Key::from_bytes(key.to_vec()), value.to_vec()));
            entries.len() < limit
        })?;
        Ok(entries)
    }

    /// Visits the entries whose keys begin with `prefix`, from `from` on, until `visit` answers
    /// `false`.
    pub fn visit(
        &self,
        prefix: &Key,
        from: &Key,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let end = prefix.end_of_prefix();
        let from = from.max(prefix);
        self.0.scan(from.as_bytes(), end.as_ref().map(Key::as_bytes), visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_the_engine_writes_and_damaged_ones_are_mended() {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("conf");
        let entry = || Writes::from([(vec![1], Some(vec![2]))]);
        let engine = Engine::open(directory.path()).unwrap();
        engine.apply(entry()).unwrap();
        engine.flush().unwrap();
        drop(engine);
        assert_eq!(fs::read(&conf).unwrap(), settings());

        let other = settings().iter().map(|byte| byte ^ (u8::from(*byte == b'8'))).collect();
        for damaged in [vec![0; settings().len()], vec![0xff; 30], b"segment".to_vec(), other] {
            fs::write(&conf, damaged).unwrap();
            let engine = Engine::open(directory.path()).unwrap();
            assert_eq!(engine.get(&[1]).unwrap(), Some(vec![2]));
            drop(engine);
            assert_eq!(fs::read(&conf).unwrap(), settings());
        }
    }
}
