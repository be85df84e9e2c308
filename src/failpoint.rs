//! Places where a test has the process die, or hang, on purpose.
//!
//! `PATCHFERRY_FAIL_POINT=<name>[:<nth>]` has a debug build abort (SIGABRT: no unwinding, no
//! flush, no destructor) the nth time it reaches the named point; the first time by default.
//! [`FailPoint::blocks`] tells the few that hang instead. The process says which point it was on
//! standard error.
//!
//! Guarantees: a release build has none of this, and refuses the variable like any other that it
//! doesn't know. At most one point is armed.
//!
//! Deliberately doesn't know what happens at a point: whoever reaches it says so by its place.

/// The variable that arms a point.
pub const VARIABLE: &str = "PATCHFERRY_FAIL_POINT";

macro_rules! fail_points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// Where the process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FailPoint {
            $($(#[doc = $doc])+ $point,)+
        }

        impl FailPoint {
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

fail_points! {
    /// A page of SSM was read, nothing of it is accepted.
    SweepPageRead = "sweep_page_read",
    /// Observations are accepted, the sweep goes on.
    ObservationsCommitted = "observations_committed",
    /// A line of `ingest` is accepted, its answer isn't sent.
    IngestLineCommitted = "ingest_line_committed",
    /// Observations were judged, the judgement isn't settled.
    ValidateBeforeSettle = "validate_before_settle",
    /// Assessments were claimed, what they come to isn't settled.
    TransformBeforeSettle = "transform_before_settle",
    /// Findings were claimed from an outbox, their request isn't sent.
    BatchClaimed = "batch_claimed",
    /// The hub's reply is there, nothing of it is settled.
    DeliverySent = "delivery_sent",
    /// What a reply said is settled, the lane hasn't gone on.
    DeliverySettled = "delivery_settled",
    /// A page of the hub's findings is adopted.
    ReadBackAdopted = "read_back_adopted",
    /// All of the hub's findings are adopted; the lane isn't marked as read back.
    ReadBackReconciled = "read_back_reconciled",
    /// The lane is marked as read back; what is parked is still parked.
    Unparking = "unparking",
    /// Findings are to be closed, and to be opened again after that; none of it is sent.
    ReopeningClosed = "reopening_closed",
    /// A group is applied to the engine, not flushed.
    CommitApplied = "commit_applied",
    /// A group is flushed, nobody is answered.
    CommitFlushed = "commit_flushed",
    /// The committer hangs for ever before a group.
    CommitterHangs = "committer_hangs",
    /// A new store's directory is there, not under its name, and nothing in it.
    StoreDirectoryMade = "store_directory_made",
    /// A store that isn't needed any more has lost its name, and nothing else.
    StoreScrapped = "store_scrapped",
    /// A new store's directory has its name, and nothing in it but that it is unfinished.
    StoreCreated = "store_created",
    /// A new store has its format record; `CURRENT` doesn't name it.
    FormatRecordWritten = "format_record_written",
    /// `CURRENT.new` is written, not renamed.
    CurrentWritten = "current_written",
    /// A corrupt store is set aside, its successor isn't made.
    QuarantineRenamed = "quarantine_renamed",
    /// A backup is written under its temporary name.
    BackupWritten = "backup_written",
    /// A backup has its name; nobody is answered.
    BackupRenamed = "backup_renamed",
    /// The backup before a migration is there.
    MigrationBackedUp = "migration_backed_up",
    /// The migrated copy is complete; `CURRENT` names the old store.
    MigrationCopied = "migration_copied",
    /// `CURRENT` names the migrated store; the old one is still there.
    MigrationSwapped = "migration_swapped",
    /// The old store is removed; the migrated one isn't open.
    MigrationCleaned = "migration_cleaned",
    /// The restored store is complete; `CURRENT` names the old one.
    RestoreCopied = "restore_copied",
    /// `CURRENT` names the restored store.
    RestoreSwapped = "restore_swapped",
    /// The compacted copy is complete; `CURRENT` names the old store.
    CompactCopied = "compact_copied",
    /// `CURRENT` names the compacted store; the old one is still there.
    CompactSwapped = "compact_swapped",
    /// Dead letters that are to be dropped are in their file, and still in the store.
    DeadDropFileWritten = "dead_drop_file_written",
    /// Dead letters are dropped; nobody is answered.
    DeadDropped = "dead_dropped",
    /// What waits in a lane that is retired is in its file, and still in the store.
    RetireFileWritten = "retire_file_written",
    /// Findings of a lane that is retired are told to be closed, none is delivered.
    RetireClosing = "retire_closing",
    /// Nothing waits in a lane that is retired; what is known of it is still there.
    RetireExported = "retire_exported",
    /// A lane is retired; nobody is answered.
    RetireForgotten = "retire_forgotten",
    /// Shutdown: everything in flight has ended, the store is still open.
    ShutdownDrained = "shutdown_drained",
}

impl FailPoint {
    /// Whether the process hangs here instead of dying.
    pub const fn blocks(self) -> bool {
        matches!(self, Self::CommitterHangs)
    }

    /// The point of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }
}

/// Dies or hangs here if this is the point that is armed, and this the time that was meant.
#[inline]
pub fn reach(point: FailPoint) {
    #[cfg(debug_assertions)]
    armed::reach(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// Whether this is the point that is armed: never, in a release build.
pub fn is_armed(point: FailPoint) -> bool {
    #[cfg(debug_assertions)]
    return armed::is_armed(point);
    #[cfg(not(debug_assertions))]
    {
        let _ = point;
        false
    }
}

/// Whether a variable of the environment is for this module: never, in a release build.
pub fn owns_variable(name: &str) -> bool {
    cfg!(debug_assertions) && name == VARIABLE
}

#[cfg(debug_assertions)]
mod armed {
    //! The one point that is armed, read from the environment once.

    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    use super::{FailPoint, VARIABLE};

    pub(super) struct Armed {
        point: FailPoint,
        nth: u64,
        reached: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn reach(point: FailPoint) {
        let Some(armed) = ARMED.get_or_init(from_environment) else { return };
        if !armed.is_due(point) {
            return;
        }
        eprintln!("fail point {} reached", point.name());
        if point.blocks() {
            loop {
                std::thread::park();
            }
        }
        std::process::abort();
    }

    pub(super) fn is_armed(point: FailPoint) -> bool {
        let armed = ARMED.get_or_init(from_environment);
        armed.as_ref().is_some_and(|armed| armed.point == point)
    }

    /// A point that doesn't exist must not let a test pass.
    fn from_environment() -> Option<Armed> {
        let value = std::env::var_os(VARIABLE)?;
        let armed = value.to_str().and_then(parse);
        if armed.is_none() {
            eprintln!("{VARIABLE}={} names no fail point", value.display());
            std::process::abort();
        }
        armed
    }

    pub(super) fn parse(text: &str) -> Option<Armed> {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok().filter(|nth| *nth > 0)?),
            None => (text, 1),
        };
        Some(Armed { point: FailPoint::named(name)?, nth, reached: AtomicU64::new(0) })
    }

    impl Armed {
        pub(super) fn is_due(&self, point: FailPoint) -> bool {
            point == self.point && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own_by_which_it_is_found() {
        let names: HashSet<&str> = FailPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FailPoint::ALL.len());
        for point in FailPoint::ALL {
            assert_eq!(FailPoint::named(point.name()), Some(*point));
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_point_is_due_the_nth_time_it_is_reached_and_no_other_is() {
        let armed = armed::parse("commit_applied:3").unwrap();
        let due: Vec<bool> = (0..4).map(|_| armed.is_due(FailPoint::CommitApplied)).collect();
        assert_eq!(due, [false, false, true, false]);
        assert!(!armed.is_due(FailPoint::CommitFlushed));
        for wrong in ["", "no_such_point", "commit_applied:0", "commit_applied:x"] {
            assert!(armed::parse(wrong).is_none(), "{wrong}");
        }
    }
}
