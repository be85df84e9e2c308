//! The format version, and the proof that a store has the current one.
//!
//! The version's authority is a record in the store itself, the last that is written when a store
//! is made. A copy stands in `CURRENT`, so that a newer store can be refused before the engine
//! touches a file of it.

use serde::{Deserialize, Serialize};

use super::open::{OpenError, Opened};

/// The format that this patchferry reads and writes.
pub const FORMAT_VERSION: FormatVersion = FormatVersion(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub u32);

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
