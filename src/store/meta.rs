//! The store's own records, all in the table `Meta`.
//!
//! | key | since format | value |
//! |---|---|---|
//! | `format` | 1 | [`FormatVersion`], the authority |
//! | `counters` | 1 | the caller's counters and the store's own, see `tx` |
//! | `opened` | 1 | what proves at each opening that a flush reaches the disk |
//! | `identity` | 2 | [`Identity`] |
//! | `read_back` | 2 | there while the caller has to complete what this store holds from elsewhere: it was restored |
//!
//! A store of format 2 has the first two and its identity from its first batch on, so one that
//! lacks any of them is damaged.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    StoreError, codec,
    engine::Engine,
    keys::{Key, Table},
    tx::{COUNTERS_MAX, Counters},
    version::FormatVersion,
};

/// Tells one store from another, across copies of it: a migration and a compaction keep it, a
/// restored backup is another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub u64);

impl Identity {
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn key(name: &str) -> Key {
    Key::new(Table::Meta).text(name)
}

pub fn format_key() -> Key {
    key("format")
}

pub fn counters_key() -> Key {
    key("counters")
}

pub fn opened_key() -> Key {
    key("opened")
}

pub fn identity_key() -> Key {
    key("identity")
}

pub fn read_back_key() -> Key {
    key("read_back")
}

/// What a store knows of itself.
#[derive(Clone, Debug)]
pub struct Meta {
    pub format: FormatVersion,
    pub counters: Counters,
    /// Absent only in format 1.
    pub identity: Option<Identity>,
    pub read_back: bool,
}

/// Reads and checks the records; the inner error is corruption, in words.
pub fn read(engine: &Engine) -> Result<Result<Meta, String>, StoreError> {
    let format = match record::<FormatVersion>(engine, &format_key())? {
        Ok(Some(format)) => format,
        Ok(None) => return Ok(Err("its format record is gone".into())),
        Err(error) => return Ok(Err(format!("its format record can't be read: {error}"))),
    };
    let since_2 = format >= FormatVersion(2);
    let counters = match record::<Vec<i64>>(engine, &counters_key())? {
        Ok(Some(stored)) if stored.len() <= COUNTERS_MAX => widened(&stored),
        Ok(None) if !since_2 => [0; COUNTERS_MAX],
        Ok(None) => return Ok(Err("its counters are gone".into())),
        Ok(Some(stored)) => return Ok(Err(format!("it has {} counters", stored.len()))),
        Err(error) => return Ok(Err(format!("its counters can't be read: {error}"))),
    };
    let identity = match record::<Identity>(engine, &identity_key())? {
        Ok(None) if since_2 => return Ok(Err("its identity is gone".into())),
        Ok(identity) => identity,
        Err(error) => return Ok(Err(format!("its identity can't be read: {error}"))),
    };
    let read_back = engine.get(read_back_key().as_bytes())?.is_some();
    Ok(Ok(Meta { format, counters, identity, read_back }))
}

fn record<T: DeserializeOwned>(
    engine: &Engine,
    key: &Key,
) -> Result<Result<Option<T>, codec::DecodeError>, StoreError> {
    let Some(bytes) = engine.get(key.as_bytes())? else { return Ok(Ok(None)) };
    Ok(codec::decode(&bytes).map(|(_, value)| Some(value)))
}

fn widened(stored: &[i64]) -> Counters {
    let mut counters = [0; COUNTERS_MAX];
    counters[..stored.len()].copy_from_slice(stored);
    counters
}

/// Whether an entry is the store's own and is made anew for every copy.
pub fn is_remade(key: &[u8]) -> bool {
    [format_key(), counters_key(), opened_key(), identity_key(), read_back_key()]
        .iter()
        .any(|own| own.as_bytes() == key)
}
