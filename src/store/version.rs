//! The format version, and the proof that a store has the current one.
//!
//! The version's authority is a record in the store itself, written in the same batch as a
//! migration's last change. A copy stands in `CURRENT`, so that a newer store can be refused
//! before the engine touches a file of it.

use serde::{Deserialize, Serialize};

use super::{
    codec,
    engine::Engine,
    keys::{Key, Table},
    open::{OpenError, Opened},
};

/// The format that this patchferry reads and writes.
pub const FORMAT_VERSION: FormatVersion = FormatVersion(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub u32);

pub(super) fn key() -> Key {
    Key::new(Table::Meta).text("format")
}

/// `None` in a store that is new.
pub(super) fn read(engine: &Engine) -> Result<Option<FormatVersion>, OpenError> {
    let Some(bytes) = engine.get(key().as_bytes())? else { return Ok(None) };
    let (_, version) = codec::decode(&bytes).map_err(|error| {
        OpenError::Store(super::StoreError::Corrupt {
            path: engine.path().to_path_buf(),
            detail: format!("its format version can't be read: {error}"),
        })
    })?;
    Ok(Some(version))
}

pub(super) fn record(version: FormatVersion) -> (Key, Vec<u8>) {
    (key(), codec::encode(0, &version))
}

/// A store of the current format. Only [`Current::certify`] makes one, and only this opens
/// queues: whoever forgets to migrate can't compile.
pub struct Current(pub(super) Opened);

impl Current {
    /// # Errors
    /// If the store has another format than [`FORMAT_VERSION`].
    pub fn certify(opened: Opened) -> Result<Self, OpenError> {
        let found = opened.version();
        if found == FORMAT_VERSION {
            return Ok(Self(opened));
        }
        Err(OpenError::Unmigrated { found: found.0, wanted: FORMAT_VERSION.0 })
    }
}
