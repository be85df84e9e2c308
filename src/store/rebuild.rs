//! Making one store out of another: a migration, a compaction, a restored backup.
//!
//! The content is copied, entry by entry, into a new directory, and then `CURRENT` is swapped. A
//! kill at any point leaves the old store or the new one; what is left over is removed at the
//! next opening. Nothing of the old store changes but that it is gone in the end, or set aside.

use std::path::PathBuf;

use super::{
    backup::Backup,
    building::{Building, Founding},
    directory::{Named, StateDirectory},
    engine::Engine,
    meta::{self, Identity},
    open::{Contents, OpenError, Opened, refuse_newer},
    pointer::{Pointer, Previous},
    space,
    tx::Counters,
    version::{FORMAT_VERSION, FormatVersion},
};
use crate::failpoint::{self, FailPoint};

/// Room that a copy needs beyond its content: segments, and the engine's own files.
const COPY_BYTES_FIXED: u64 = 32 << 20;
/// Room for a byte of content: the engine's pages are split and written again as they grow.
const COPY_BYTES_PER_BYTE: u64 = 3;

/// How content of one format becomes content of another.
pub struct Rewrite<'a> {
    pub to: FormatVersion,
    /// Gives the entries that take one entry's place: key and value.
    pub entry: EntryRewrite<'a>,
    /// Puts right what the counters count.
    pub counters: &'a dyn Fn(&mut Counters),
}

/// See [`Rewrite`].
pub type EntryRewrite<'a> = &'a dyn Fn(RawEntry) -> Vec<RawEntry>;

/// A key and its value as they are stored.
pub type RawEntry = (Vec<u8>, Vec<u8>);

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Migrate,
    Compact,
}

impl Purpose {
    fn operation(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Compact => "compact",
        }
    }

    fn copied(self) {
        failpoint::reach(match self {
            Self::Migrate => FailPoint::MigrationCopied,
            Self::Compact => FailPoint::CompactCopied,
        });
    }

    fn swapped(self) {
        failpoint::reach(match self {
            Self::Migrate => FailPoint::MigrationSwapped,
            Self::Compact => FailPoint::CompactSwapped,
        });
    }
}

/// Bytes that must be free for a copy of that content.
pub fn copy_bytes(contents: Contents) -> u64 {
    contents.bytes.saturating_mul(COPY_BYTES_PER_BYTE).saturating_add(COPY_BYTES_FIXED)
}

impl Opened {
    /// # Errors
    /// [`OpenError::NoRoom`] if fewer bytes are free than a copy and `beside` need.
    pub fn require_room(&self, purpose: Purpose, beside_bytes: u64) -> Result<(), OpenError> {
        let needed_bytes = copy_bytes(self.contents).saturating_add(beside_bytes);
        require(&self.directory, purpose.operation(), needed_bytes)
    }

    /// Copies the store, rewritten, and has the copy take its place.
    pub fn rebuilt(self, purpose: Purpose, rewrite: &Rewrite<'_>) -> Result<Self, OpenError> {
        self.require_room(purpose, 0)?;
        let Self { engine: old, directory, number: old_number, mut meta, alarms, .. } = self;
        let number = directory.next_number()?;
        (rewrite.counters)(&mut meta.counters);
        let founding = Founding {
            format: rewrite.to,
            identity: meta.identity.unwrap_or_else(Identity::random),
            counters: meta.counters,
            read_back: meta.read_back,
        };
        let copied = copy(&directory, number, &founding, rewrite.entry, |put| {
            let mut outcome = Ok(());
            old.scan(&[], None, |key, value| {
                outcome = put(key, value);
                outcome.is_ok()
            })?;
            outcome
        });
        let (engine, meta, contents) = discard_on_error(&directory, number, copied)?;
        purpose.copied();
        let pointer =
            Pointer { number, format: rewrite.to, previous: Previous::Discard(old_number) };
        directory.set_current(pointer)?;
        purpose.swapped();
        drop(old);
        directory.settle_previous(&pointer)?;
        directory.mark_complete(number)?;
        Ok(Self { engine, directory, number, meta, alarms, contents })
    }
}

/// A state directory whose store isn't open and isn't going to be.
pub struct Vacant(StateDirectory);

/// What a restore has done.
#[derive(Clone, Debug)]
pub struct Restored {
    pub store: PathBuf,
    /// Where the store is now that was live before.
    pub replaced: Option<PathBuf>,
    pub contents: Contents,
}

impl Vacant {
    /// Locks the state directory, made if it isn't there.
    ///
    /// # Errors
    /// If somebody holds it, or its store is newer than this patchferry.
    pub fn lock(state_dir: &std::path::Path) -> Result<Self, OpenError> {
        let directory = StateDirectory::lock(state_dir)?;
        if let Named::Store(pointer) = directory.named()? {
            refuse_newer(&directory.store_path(pointer.number), pointer.format)?;
        }
        Ok(Self(directory))
    }

    /// Makes a store of a checked backup and has it take the place of the live one, which is set
    /// aside as it is. The new one knows that it may be older than the world outside.
    pub fn restore(self, backup: &Backup, rewrite: &Rewrite<'_>) -> Result<Restored, OpenError> {
        let Self(directory) = self;
        let next = directory.next_number()?;
        let live = super::open::choose(&directory)?.map(|choice| choice.pointer);
        directory.tidy(live.as_ref())?;
        require(&directory, "restore", copy_bytes(backup.contents()))?;
        let mut counters = backup.counters();
        (rewrite.counters)(&mut counters);
        let founding = Founding {
            format: rewrite.to,
            // It may go another way than the store that the backup is of.
            identity: Identity::random(),
            counters,
            read_back: true,
        };
        let copied = copy(&directory, next, &founding, rewrite.entry, |put| backup.visit(put));
        let (engine, _, contents) = discard_on_error(&directory, next, copied)?;
        drop(engine);
        failpoint::reach(FailPoint::RestoreCopied);
        let previous = live.map_or(Previous::None, |live| Previous::SetAside(live.number));
        let pointer = Pointer { number: next, format: rewrite.to, previous };
        directory.set_current(pointer)?;
        failpoint::reach(FailPoint::RestoreSwapped);
        let replaced = directory.settle_previous(&pointer)?;
        directory.mark_complete(next)?;
        Ok(Restored { store: directory.store_path(next), replaced, contents })
    }
}

impl Rewrite<'static> {
    /// Content that stays as it is.
    #[must_use]
    pub fn nothing() -> Self {
        Self { to: FORMAT_VERSION, entry: &|entry| vec![entry], counters: &|_| {} }
    }
}

fn require(
    directory: &StateDirectory,
    operation: &'static str,
    needed_bytes: u64,
) -> Result<(), OpenError> {
    let path = directory.path().to_path_buf();
    match space::free_bytes(&path) {
        Ok(free_bytes) if free_bytes < needed_bytes => {
            Err(OpenError::NoRoom { operation, path, needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

/// What a copy's source calls with each entry.
type Put<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), OpenError> + 'a;

fn copy(
    directory: &StateDirectory,
    number: u64,
    founding: &Founding,
    rewrite: EntryRewrite<'_>,
    source: impl FnOnce(&mut Put<'_>) -> Result<(), OpenError>,
) -> Result<(Engine, meta::Meta, Contents), OpenError> {
    let mut building = Building::begin(directory, number)?;
    let mut put_count = 0_u64;
    source(&mut |key, value| {
        if meta::is_remade(key) {
            return Ok(());
        }
        for (key, value) in rewrite((key.to_vec(), value.to_vec())) {
            put_count += 1;
            building.put(key, value)?;
        }
        Ok(())
    })?;
    let (engine, meta, contents) = building.complete(directory, founding)?;
    let mut written = 0_u64;
    engine.scan(&[], None, |key, _| {
        written += u64::from(!meta::is_remade(key));
        true
    })?;
    if written != put_count {
        let path = engine.path().to_path_buf();
        return Err(OpenError::Incomplete { path, read: put_count, written });
    }
    Ok((engine, meta, contents))
}

fn discard_on_error<T>(
    directory: &StateDirectory,
    number: u64,
    copied: Result<T, OpenError>,
) -> Result<T, OpenError> {
    copied.inspect_err(|_| {
        // The next opening removes it, too.
        let _ = directory.remove_store(number);
    })
}
