//! A person's word that a mass of nodes is gone.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::record::UnixMillis;

/// The word holds so long.
const ACCEPTANCE_LIFE: Duration = Duration::from_secs(86_400);

/// See the module. Shared between a lane's task and whoever may speak for it; in memory alone, so
/// that a restart takes the word back.
#[derive(Default)]
pub struct GoneGate {
    /// Unix milliseconds; 0: not given.
    accepted_at: AtomicI64,
}

impl GoneGate {
    /// Lets the next complete sweep resolve whatever is proven gone, once.
    pub fn accept(&self, now: UnixMillis) {
        self.accepted_at.store(now.0, Ordering::Release);
    }

    pub(super) fn is_open(&self, now: UnixMillis) -> bool {
        let at = self.accepted_at.load(Ordering::Acquire);
        at != 0 && now.since(UnixMillis(at)) <= ACCEPTANCE_LIFE
    }

    pub(super) fn close(&self) {
        self.accepted_at.store(0, Ordering::Release);
    }
}
