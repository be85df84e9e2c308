//! Whether the committer gets on: what a watchdog looks at.
//!
//! Deliberately separate from everything that holds the engine, so that whoever watches keeps
//! nothing open.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// See the module.
pub struct Pulse {
    started: Instant,
    /// Milliseconds since `started` at which the committer last got on with its present group,
    /// plus 1; 0 when it is idle.
    busy_since_ms: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), busy_since_ms: AtomicU64::new(0) }
    }

    /// How long the committer has been at its present step; zero when it is idle.
    pub fn busy_for(&self) -> Duration {
        match self.busy_since_ms.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => self.started.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// The committer begins something, or gets on with what takes long.
    pub(super) fn beat(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.busy_since_ms.store(since, Ordering::Release);
    }

    pub(super) fn rest(&self) {
        self.busy_since_ms.store(0, Ordering::Release);
    }
}
