//! The durable store: ordered keys, opaque values, one writer.
//!
//! Constraints before mechanism:
//! - What [`Store::commit`] was asked to make durable is on disk, really fsynced, when it
//!   returns ([`durability`]).
//! - A commit is atomic: all of its writes survive a crash, or none ([`committer`]). Commits are
//!   evaluated one after the other; each sees all earlier ones.
//! - Keys are a table byte and then whatever gives the order ([`keys`]); values carry a version
//!   byte and a CRC ([`codec`]) and are at most [`VALUE_BYTES_MAX`] long: sled puts longer ones
//!   in files that it never syncs.
//! - Reads run on blocking threads and return owned copies; no caller holds an iterator.
//! - An error of the engine is final: the committer answers every caller with it and stops, and
//!   the process must exit with code 75 so that its supervisor starts it again.
//!
//! On disk, below the state directory: see [`directory`]; what a kill leaves there is mended at the
//! next opening ([`leftovers`]). A store is opened ([`open`]), made
//! ([`building`]), copied ([`rebuild`]: migration, compaction, restore), backed up ([`backup`]) and,
//! when it was found corrupt, read as far as it goes ([`salvage`]).
//!
//! This module and what is below it are the only code that knows sled. It doesn't know what the
//! values mean.

mod backup;
mod building;
pub mod codec;
mod committer;
mod directory;
mod durability;
mod engine;
mod handle;
pub mod keys;
mod leftovers;
mod mark;
mod meta;
mod open;
mod pointer;
mod pulse;
mod rebuild;
mod reserve;
mod salvage;
mod space;
mod tx;
mod version;

use std::{io, path::PathBuf, sync::Arc};

pub use backup::{Backup, BackupError, BackupHeader, BackupSummary};
pub use committer::Held;
pub use directory::{DirectoryError, FormatOnDisk, format_on_disk, owner_uid, quarantines};
pub use engine::{Entry, Reader};
pub use handle::{Admission, Commit, Store};
pub use meta::Identity;
pub use open::{Alarms, Contents, OpenError, OpenOptions, Opened, RolledBack, open};
pub use pulse::Pulse;
pub use rebuild::{Purpose, RawEntry, Restored, Rewrite, Vacant};
pub use salvage::{Inspected, Wreck, inspect};
pub use space::{Pause, SpaceLimits, SpaceStatus, free_bytes};
pub use tx::{COUNTERS_MAX, CounterId, Counters, Tx};
pub use version::{Current, FORMAT_VERSION, FormatVersion};

/// The longest value: a quarter of a segment would go to `blobs/`, which sled never syncs; 32 KiB
/// keeps far away from that (measured: 55 of 55 power cuts clean).
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

/// What can go wrong with an open store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the store takes no new observations: {0}")]
    Full(Pause),
    #[error(
        "the store has stopped after an earlier error; restart patchferry, it recovers by itself"
    )]
    Poisoned,
    #[error("a value of {bytes} bytes is over the store's limit of {VALUE_BYTES_MAX}: a defect")]
    ValueTooLarge { bytes: usize },
    #[error("the store in {path} is corrupt: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    #[error("the store in {path} can't be read or written; check the disk and its free space")]
    Io {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the engine of the store in {path} reports a defect: {detail}")]
    Engine { path: PathBuf, detail: String },
}

impl StoreError {
    /// Whether the process must stop: everything but a refusal of the one commit.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Full(_) | Self::ValueTooLarge { .. })
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
