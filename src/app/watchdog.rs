//! Ends a process whose commits hang, so that its supervisor starts another: a disk that never
//! answers would have it stand still for ever, looking alive.
//!
//! In this order: after [`commit_time_max`] `/healthz` says so and systemd's watchdog isn't fed any
//! more; after twice that the process aborts. Nothing that was acknowledged is lost by that. A
//! thread of its own, since the runtime may be stuck, too.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    failpoint::{self, FailPoint},
    store::Pulse,
};

/// A commit takes milliseconds; one that takes longer than this hangs.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);
/// The same, where a test has it hang.
const COMMIT_TIME_MAX_IN_TESTS: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a commit may take.
pub(super) fn commit_time_max() -> Duration {
    if failpoint::is_armed(FailPoint::CommitterHangs) {
        COMMIT_TIME_MAX_IN_TESTS
    } else {
        COMMIT_TIME_MAX
    }
}

/// Watches a committer for as long as its store is open.
pub(super) fn watch(pulse: &Arc<Pulse>) {
    let pulse = Arc::downgrade(pulse);
    let spawned =
        std::thread::Builder::new().name("watchdog".into()).spawn(move || look_again(&pulse));
    if let Err(error) = spawned {
        tracing::warn!(%error, "there is no watchdog: a commit that hangs only shows in /healthz");
    }
}

fn look_again(pulse: &Weak<Pulse>) {
    loop {
        std::thread::park_timeout(LOOK_INTERVAL);
        let Some(pulse) = pulse.upgrade() else { return };
        let busy = pulse.busy_for();
        if busy > commit_time_max() * 2 {
            tracing::error!(
                seconds = busy.as_secs(),
                "a commit hangs: aborting, so that the supervisor starts again; nothing \
                 acknowledged is lost. Look at the disk"
            );
            std::process::abort();
        }
    }
}
