//! What a piece of work sees of the store while the committer evaluates it, and what it writes.

use super::{
    StoreError, VALUE_BYTES_MAX,
    engine::{Engine, Writes},
    keys::Key,
};

/// Counters that a store has room for.
pub const COUNTERS_MAX: usize = 32;
/// Counters below this are the caller's; the rest are the store's own.
const SEQUENCE: usize = COUNTERS_MAX - 1;
pub(super) const LIVE_BYTES: usize = COUNTERS_MAX - 2;
/// Commit groups that have written anything; since format 2.
pub(super) const COMMITS: usize = COUNTERS_MAX - 3;

/// One of the caller's counters, 0 to 28.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterId(pub u8);

/// All counters of a store, by their ids.
pub type Counters = [i64; COUNTERS_MAX];

/// A piece of work's view of the store: everything committed, everything decided earlier in the
/// group, and its own writes.
pub struct Tx<'a> {
    pub(super) engine: &'a Engine,
    pub(super) group: &'a Writes,
    pub(super) own: Writes,
    pub(super) counters: Counters,
}

impl Tx<'_> {
    pub fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.engine.get(key.as_bytes()),
        }
    }

    /// Inserts or replaces.
    pub fn put(&mut self, key: &Key, value: Vec<u8>) -> Result<(), StoreError> {
        let old = self.value_bytes(key)?;
        self.write(key, value, old)
    }

    /// Inserts at a key that holds nothing, such as one made from [`Tx::next_sequence`].
    pub fn insert_new(&mut self, key: &Key, value: Vec<u8>) -> Result<(), StoreError> {
        self.write(key, value, None)
    }

    /// Removes; whether there was something.
    pub fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        let Some(old) = self.value_bytes(key)? else { return Ok(false) };
        self.counters[LIVE_BYTES] -= entry_bytes(key, old);
        self.own.insert(key.as_bytes().to_vec(), None);
        Ok(true)
    }

    pub fn add(&mut self, counter: CounterId, delta: i64) {
        self.counters[usize::from(counter.0)] += delta;
    }

    /// A number that this store has never given before and never will again; from 1.
    pub fn next_sequence(&mut self) -> u64 {
        self.counters[SEQUENCE] += 1;
        u64::try_from(self.counters[SEQUENCE]).expect("a sequence that began at 0 only grows")
    }

    fn write(&mut self, key: &Key, value: Vec<u8>, old: Option<usize>) -> Result<(), StoreError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::ValueTooLarge { bytes: value.len() });
        }
        self.counters[LIVE_BYTES] += entry_bytes(key, value.len());
        if let Some(old) = old {
            self.counters[LIVE_BYTES] -= entry_bytes(key, old);
        }
        self.own.insert(key.as_bytes().to_vec(), Some(value));
        Ok(())
    }

    fn value_bytes(&self, key: &Key) -> Result<Option<usize>, StoreError> {
        match self.pending(key) {
            Some(pending) => Ok(pending.as_ref().map(Vec::len)),
            None => self.engine.value_bytes(key.as_bytes()),
        }
    }

    fn pending(&self, key: &Key) -> Option<&Option<Vec<u8>>> {
        self.own.get(key.as_bytes()).or_else(|| self.group.get(key.as_bytes()))
    }
}

/// What an entry counts for in the live bytes.
fn entry_bytes(key: &Key, value_bytes: usize) -> i64 {
    i64::try_from(key.as_bytes().len() + value_bytes).unwrap_or(i64::MAX)
}
