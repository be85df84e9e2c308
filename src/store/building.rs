//! A store that isn't complete yet: how every store comes to be, empty or as a copy.
//!
//! Guarantees: until [`Building::complete`] has returned, the store's directory says that it is
//! unfinished, and the next opening removes it; its own records, the format last, are one batch
//! after everything else is on disk. Whoever builds names it in `CURRENT` afterwards.

use super::{
    StoreError, codec,
    directory::{StateDirectory, io_error, sync_directory},
    engine::{Engine, Writes},
    keys::Table,
    meta::{self, Identity, Meta},
    open::{Contents, OpenError, open_and_scan},
    tx::{Counters, LIVE_BYTES},
    version::FormatVersion,
};
use crate::failpoint::{self, FailPoint};

/// Entries and bytes that are held back to be written at once.
const CHUNK_ENTRIES_MAX: usize = 1_000;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes written between two flushes, so that a copy of gigabytes needs no memory for it.
const FLUSH_BYTES: u64 = 64 << 20;

/// What a new store is to know of itself.
pub struct Founding {
    pub format: FormatVersion,
    pub identity: Identity,
    /// The live bytes among them are put right.
    pub counters: Counters,
    /// It holds what may be older than the world outside.
    pub read_back: bool,
}

/// See the module.
pub struct Building {
    engine: Engine,
    chunk: Writes,
    chunk_bytes: usize,
    unflushed_bytes: u64,
    contents: Contents,
    live_bytes: u64,
}

impl Building {
    pub fn begin(directory: &StateDirectory, number: u64) -> Result<Self, OpenError> {
        let path = directory.create_store(number)?;
        failpoint::reach(FailPoint::StoreCreated);
        let (engine, contents) = open_and_scan(directory, number)?
            .map_err(|detail| StoreError::Corrupt { path, detail })?;
        Ok(Self {
            engine,
            chunk: Writes::new(),
            chunk_bytes: 0,
            unflushed_bytes: 0,
            contents,
            live_bytes: 0,
        })
    }

    /// Adds an entry. The store's own records aren't taken: they are made anew.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if meta::is_remade(&key) {
            return Ok(());
        }
        let bytes = key.len() + value.len();
        if Table::of(&key) != Some(Table::Meta) {
            self.live_bytes += bytes as u64;
        }
        self.contents.add(&key, &value);
        self.chunk_bytes += bytes;
        self.chunk.insert(key, Some(value));
        if self.chunk.len() >= CHUNK_ENTRIES_MAX || self.chunk_bytes >= CHUNK_BYTES_MAX {
            self.write_chunk()?;
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> Result<(), StoreError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.engine.apply(std::mem::take(&mut self.chunk))?;
        self.unflushed_bytes += self.chunk_bytes as u64;
        self.chunk_bytes = 0;
        if self.unflushed_bytes >= FLUSH_BYTES {
            self.engine.flush()?;
            self.unflushed_bytes = 0;
        }
        Ok(())
    }

    /// Puts everything on disk and writes the store's own records last.
    pub fn complete(
        mut self,
        directory: &StateDirectory,
        founding: &Founding,
    ) -> Result<(Engine, Meta, Contents), OpenError> {
        self.write_chunk()?;
        self.engine.flush()?;
        let &Founding { format, identity, mut counters, read_back } = founding;
        if read_back {
            let key = meta::read_back_key();
            let value = codec::encode(0, &true);
            self.live_bytes += (key.as_bytes().len() + value.len()) as u64;
            self.own(&key, value)?;
        }
        counters[LIVE_BYTES] = i64::try_from(self.live_bytes).unwrap_or(i64::MAX);
        let records = [
            (meta::counters_key(), codec::encode(0, &counters.as_slice())),
            (meta::identity_key(), codec::encode(0, &identity)),
            (meta::format_key(), codec::encode(0, &format)),
        ];
        let mut writes = Writes::new();
        for (key, value) in records {
            self.contents.add(key.as_bytes(), &value);
            writes.insert(key.as_bytes().to_vec(), Some(value));
        }
        self.engine.apply(writes)?;
        self.engine.flush()?;
        let path = self.engine.path();
        sync_directory(path).map_err(io_error("fsync", path))?;
        directory.sync().map_err(io_error("fsync", directory.path()))?;
        let meta = Meta { format, counters, identity: Some(identity), read_back };
        Ok((self.engine, meta, self.contents))
    }

    fn own(&mut self, key: &super::keys::Key, value: Vec<u8>) -> Result<(), StoreError> {
        self.contents.add(key.as_bytes(), &value);
        self.engine.apply(Writes::from([(key.as_bytes().to_vec(), Some(value))]))
    }
}
