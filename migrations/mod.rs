//! The ladder of format versions: each step turns content of version n into content of n + 1.
//!
//! A step is frozen once released: it has its own copy of the shapes it reads and writes, and
//! never uses those of `record`, which go on changing. It is pure: an entry becomes entries.
//!
//! Guarantees: a backup is written before anything else. The content is copied, in one pass
//! through all steps that it needs, into a new store whose format record is the last write; then
//! `CURRENT` is swapped and the old store removed. A kill at any point leaves the old store or the
//! new one, and the next opening goes on from there. A value that doesn't decode is copied as it
//! is: what finds it afterwards deals with it as with any damaged value.
//!
//! Only [`migrate`] turns an opened store into one that opens queues.

mod v1_to_v2;
mod v2_to_v3;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    failpoint::{self, FailPoint},
    store::{
        Backup, BackupSummary, Counters, Current, FORMAT_VERSION, FormatVersion, OpenError, Opened,
        Purpose, RawEntry, Restored, Rewrite, Vacant,
    },
};

/// From one version to the next.
struct Step {
    from: FormatVersion,
    entry: fn(RawEntry) -> Vec<RawEntry>,
    counters: fn(&mut Counters),
}

/// All steps, lowest first. `LADDER[i]` goes from version `i + 1` to `i + 2`.
const LADDER: &[Step] = &[v1_to_v2::STEP, v2_to_v3::STEP];

/// What a migration has done.
#[derive(Clone, Debug)]
pub struct Migrated {
    pub from: FormatVersion,
    pub to: FormatVersion,
    /// The old content.
    pub backup: BackupSummary,
}

/// What a migration would do.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub from: FormatVersion,
    pub to: FormatVersion,
    pub entries: u64,
    pub bytes: u64,
}

/// What [`migrate`] would do with a store; `None` if it has the current format.
///
/// # Errors
/// If there is no room for it.
pub fn plan(opened: &Opened) -> Result<Option<Planned>, OpenError> {
    let from = opened.version();
    if from >= FORMAT_VERSION {
        return Ok(None);
    }
    let contents = opened.contents();
    // The backup stands beside the copy.
    opened.require_room(Purpose::Migrate, contents.bytes.saturating_mul(2))?;
    let (entries, bytes) = (contents.entries, contents.bytes);
    Ok(Some(Planned { from, to: FORMAT_VERSION, entries, bytes }))
}

/// Brings a store to the current format; what was done, if anything was.
pub fn migrate(opened: Opened) -> Result<(Current, Option<Migrated>), OpenError> {
    let Some(Planned { from, to, entries, bytes }) = plan(&opened)? else {
        return Ok((Current::certify(opened)?, None));
    };
    let path = backup_path(&opened, to)?;
    tracing::info!(
        from = from.0, to = to.0, entries, bytes, backup = %path.display(),
        "migrating the store to a new format; a backup is written first"
    );
    let backup = opened.backup(&path, now_unix_ms())?;
    failpoint::reach(FailPoint::MigrationBackedUp);
    let steps = steps_from(from);
    let rewrite = Rewrite {
        to,
        entry: &|entry| rewrite(steps, entry),
        counters: &|counters| steps.iter().for_each(|step| (step.counters)(counters)),
    };
    let opened = opened.rebuilt(Purpose::Migrate, &rewrite).inspect_err(|_| {
        // Of a store that is as it was nobody needs a backup, and the next attempt makes another.
        let _ = std::fs::remove_file(&path);
    })?;
    failpoint::reach(FailPoint::MigrationCleaned);
    tracing::info!(to = to.0, backup = %path.display(), "the store has its new format");
    Ok((Current::certify(opened)?, Some(Migrated { from, to, backup })))
}

/// Has a backup take the place of a state directory's store, migrated if it is an old one.
pub fn restore(vacant: Vacant, backup: &Backup) -> Result<Restored, OpenError> {
    let steps = steps_from(backup.header().format);
    vacant.restore(
        backup,
        &Rewrite {
            to: FORMAT_VERSION,
            entry: &|entry| rewrite(steps, entry),
            counters: &|counters| steps.iter().for_each(|step| (step.counters)(counters)),
        },
    )
}

/// What an entry of an older store is in the current format.
pub fn entry_of(from: FormatVersion, entry: RawEntry) -> Vec<RawEntry> {
    rewrite(steps_from(from), entry)
}

fn steps_from(from: FormatVersion) -> &'static [Step] {
    let done = LADDER.iter().take_while(|step| step.from < from).count();
    &LADDER[done..]
}

fn rewrite(steps: &[Step], entry: RawEntry) -> Vec<RawEntry> {
    let mut entries = vec![entry];
    for step in steps {
        entries = entries.into_iter().flat_map(step.entry).collect();
    }
    entries
}

/// A name that no backup has yet.
fn backup_path(opened: &Opened, to: FormatVersion) -> Result<PathBuf, OpenError> {
    let directory = opened.make_backups()?;
    let name = |number: u32| {
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        directory.join(format!("before-format-{}-{}{again}.pfb", to.0, now_unix_ms() / 1_000))
    };
    let is_free = |path: &PathBuf| !Path::exists(path);
    Ok((0..1_000).map(name).find(is_free).unwrap_or_else(|| name(1_000)))
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_reaches_the_current_format_without_a_gap() {
        for (index, step) in LADDER.iter().enumerate() {
            assert_eq!(step.from.0 as usize, index + 1);
        }
        assert_eq!(LADDER.len() + 1, FORMAT_VERSION.0 as usize);
        assert_eq!(steps_from(FormatVersion(1)).len(), LADDER.len());
        assert!(steps_from(FORMAT_VERSION).is_empty());
    }
}
