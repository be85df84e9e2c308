//! What is done to a store itself while no daemon runs: verified, compacted, migrated, restored,
//! salvaged from.

use std::path::{Path, PathBuf};

use super::{StartError, open_queues};
use crate::{
    migrations::{self, Migrated, Planned},
    queue::{QueueError, SalvageReport, Verified, Verifier, Wreckage},
    record::Clock,
    store::{
        self, Backup, BackupError, BackupHeader, FORMAT_VERSION, FormatVersion, Inspected,
        OpenError, OpenOptions, Purpose, Restored, Rewrite, RolledBack, SpaceLimits, Vacant, Wreck,
        keys::{Key, Table},
    },
};

/// What a verification has looked at.
#[derive(Clone, Debug)]
pub enum Examined {
    /// There is no store.
    Nothing,
    /// It can't be read, or is no store that ever was complete.
    Corrupt {
        path: PathBuf,
        detail: String,
    },
    /// It has an older format, which isn't looked into.
    Old {
        path: PathBuf,
        format: FormatVersion,
    },
    Store {
        path: PathBuf,
        verified: Box<Verified>,
        /// Files that the engine never syncs.
        blobs: Vec<PathBuf>,
        rolled_back: Option<RolledBack>,
    },
    Backup {
        path: PathBuf,
        header: BackupHeader,
        verified: Box<Verified>,
    },
}

/// Verifies the live store of a state directory, changing nothing.
pub fn verify(state_dir: &Path) -> Result<Examined, OpenError> {
    let readable = match store::inspect(state_dir)? {
        Inspected::Nothing => return Ok(Examined::Nothing),
        Inspected::Corrupt { path, detail } => return Ok(Examined::Corrupt { path, detail }),
        Inspected::Readable(readable) => readable,
    };
    let path = readable.path().to_path_buf();
    if readable.format() != FORMAT_VERSION {
        return Ok(Examined::Old { path, format: readable.format() });
    }
    let mut verifier = Verifier::default();
    readable.visit(|key, value| verifier.entry(key, value))?;
    let verified = verifier.finish(readable.counters(), readable.live_bytes_counted());
    Ok(Examined::Store {
        path,
        verified: Box::new(verified),
        blobs: readable.blobs(),
        rolled_back: readable.rolled_back(),
    })
}

/// Verifies a backup, as it would be once restored here.
pub fn verify_backup(path: &Path) -> Result<Examined, BackupError> {
    let backup = Backup::check(path)?;
    let format = backup.header().format;
    if format != FORMAT_VERSION {
        return Ok(Examined::Old { path: path.into(), format });
    }
    let mut verifier = Verifier::default();
    backup.visit(&mut |key, value| -> Result<(), BackupError> {
        verifier.entry(key, value);
        Ok(())
    })?;
    let verified = Box::new(verifier.finish(&backup.counters(), backup.live_bytes_counted()));
    Ok(Examined::Backup { path: path.into(), header: backup.header().clone(), verified })
}

/// What a migration did, or would do.
#[derive(Clone, Debug)]
pub enum Migration {
    /// The store has the current format.
    Unneeded(FormatVersion),
    Planned(Planned),
    Done(Migrated),
}

/// Migrates the store of a state directory, or tells what that would be.
pub fn migrate(state_dir: &Path, dry_run: bool) -> Result<Migration, OpenError> {
    let opened = store::open(&OpenOptions { state_dir: state_dir.into() })?;
    if dry_run {
        let plan = migrations::plan(&opened)?;
        return Ok(plan.map_or(Migration::Unneeded(opened.version()), Migration::Planned));
    }
    let (_, migrated) = migrations::migrate(opened)?;
    Ok(migrated.map_or(Migration::Unneeded(FORMAT_VERSION), Migration::Done))
}

/// What a compaction has come to.
#[derive(Clone, Copy, Debug)]
pub struct Compacted {
    pub entries: u64,
    /// Of the file.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// Copies a store into a new one without what is free in it.
pub fn compact(state_dir: &Path) -> Result<Compacted, OpenError> {
    let opened = store::open(&OpenOptions { state_dir: state_dir.into() })?;
    let bytes_before = opened.file_bytes();
    if migrations::plan(&opened)?.is_some() {
        // A migration copies, too.
        migrations::migrate(opened)?;
        let opened = store::open(&OpenOptions { state_dir: state_dir.into() })?;
        let (entries, bytes_after) = (opened.contents().entries, opened.file_bytes());
        return Ok(Compacted { entries, bytes_before, bytes_after });
    }
    let opened = opened.rebuilt(Purpose::Compact, &Rewrite::nothing())?;
    let (entries, bytes_after) = (opened.contents().entries, opened.file_bytes());
    Ok(Compacted { entries, bytes_before, bytes_after })
}

/// Has a checked backup take the place of the store.
pub fn restore(state_dir: &Path, backup: &Backup) -> Result<Restored, OpenError> {
    migrations::restore(Vacant::lock(state_dir)?, backup)
}

/// What a salvage has come to.
#[derive(Debug)]
pub struct Salvaged {
    pub format: FormatVersion,
    pub report: SalvageReport,
}

/// Why a salvage failed.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("what was set aside in {path} can't be opened; nothing of it can be salvaged here")]
    Wreck {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Queues what a quarantined store has waiting, in the live one.
pub async fn salvage(
    state_dir: &Path,
    quarantine: &Path,
    limits: SpaceLimits,
) -> Result<Salvaged, SalvageError> {
    let (at, from) = (state_dir.to_path_buf(), quarantine.to_path_buf());
    let opening = tokio::task::spawn_blocking(move || -> Result<_, SalvageError> {
        let queues = open_queues(&at, limits, Clock::system())?;
        let wreck =
            Wreck::open(&at, &from).map_err(|source| SalvageError::Wreck { path: from, source })?;
        Ok((queues, wreck))
    });
    let stopped = QueueError::Store(store::StoreError::Poisoned);
    let (queues, wreck) = opening.await.map_err(|_| stopped)??;
    let format = wreck.format();
    let wreckage = Translated(wreck);
    let salvaged = queues.salvage(&wreckage).await;
    drop(wreckage);
    let closed = queues.close().await;
    let report = salvaged?;
    closed.map_err(QueueError::from)?;
    Ok(Salvaged { format, report })
}

/// A wreck whose entries are read in today's form.
struct Translated(Wreck);

impl Wreckage for Translated {
    fn visit(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let mut complete = true;
        // A migration may have moved entries from one table to another.
        for source in Table::ALL {
            if source != table && self.0.format() == FORMAT_VERSION {
                continue;
            }
            complete &= self.0.visit(source, |key, value| {
                let entry = (key.to_vec(), value.to_vec());
                for (key, value) in migrations::entry_of(self.0.format(), entry) {
                    if Table::of(&key) == Some(table) {
                        visit(&key, &value);
                    }
                }
            });
        }
        complete
    }

    fn get(&self, key: &Key) -> Option<Vec<u8>> {
        // Patch lists, which are asked for so, are the same in all formats.
        self.0.get(key)
    }
}
