//! How much room the store has, and when ingest must wait for more.
//!
//! Two limits: live bytes (what the queues and the ledger hold; the file never shrinks, freed
//! space is reused) and free space of the file system. At either, ingest pauses, since its
//! source keeps the rest; delivery goes on, since it makes room.

use std::{
    fmt, io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

/// Limits from the configuration, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct SpaceLimits {
    pub live_bytes_max: u64,
    pub free_bytes_min: u64,
}

/// Why ingest is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The store holds as much as `store.max_bytes` allows.
    LiveBytes,
    /// The file system has less room than `store.min_free_bytes`.
    FreeSpace,
}

impl Pause {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LiveBytes => "live_bytes",
            Self::FreeSpace => "free_space",
        }
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LiveBytes => {
                "it holds as much as store.max_bytes allows; delivery makes room, or raise the limit"
            }
            Self::FreeSpace => {
                "its disk has less free space than store.min_free_bytes; free some, ingest resumes by itself"
            }
        })
    }
}

/// A reading of the space, for status and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceStatus {
    pub live_bytes: u64,
    pub live_bytes_max: u64,
    pub file_bytes: u64,
    pub free_bytes: u64,
    pub pause: Option<Pause>,
    /// The file grows without its content growing: the engine doesn't collect its garbage.
    pub bloated: bool,
}

/// Resume only with this share of a limit to spare, so that ingest doesn't flutter: 1/16.
const HYSTERESIS_SHIFT: u32 = 4;

/// The file may grow by this much more than its content accounts for...
const GROWTH_BYTES_ALLOWED: u64 = 512 * 1024 * 1024;
/// ...and by this many times the most that it held: sled keeps old versions until it collects them
/// (2 to 5 times, measured).
const FILE_BYTES_PER_LIVE_BYTE_MAX: u64 = 8;

/// The gate that the committer keeps and everybody reads.
pub struct Gate {
    limits: SpaceLimits,
    state: AtomicU8,
    free_bytes: AtomicU64,
    live_bytes: AtomicU64,
    /// The most live bytes since the store was opened.
    live_bytes_peak: AtomicU64,
    /// Of the file, when the store was opened.
    file_bytes_at_open: u64,
    bloated: AtomicBool,
}

impl Gate {
    pub fn new(limits: SpaceLimits, file_bytes_at_open: u64) -> Self {
        Self {
            limits,
            state: AtomicU8::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            live_bytes: AtomicU64::new(0),
            live_bytes_peak: AtomicU64::new(0),
            file_bytes_at_open,
            bloated: AtomicBool::new(false),
        }
    }

    pub fn pause(&self) -> Option<Pause> {
        match self.state.load(Ordering::Acquire) {
            1 => Some(Pause::LiveBytes),
            2 => Some(Pause::FreeSpace),
            _ => None,
        }
    }

    /// Takes a new reading.
    pub fn update(&self, live_bytes: u64, free_bytes: u64) {
        self.live_bytes.store(live_bytes, Ordering::Release);
        self.live_bytes_peak.fetch_max(live_bytes, Ordering::AcqRel);
        self.free_bytes.store(free_bytes, Ordering::Release);
        let pause = decide(self.limits, self.pause(), live_bytes, free_bytes);
        let state = match pause {
            None => 0,
            Some(Pause::LiveBytes) => 1,
            Some(Pause::FreeSpace) => 2,
        };
        self.state.store(state, Ordering::Release);
    }

    /// Notices, once, that the file grows without what it holds: the thread that collects the
    /// engine's garbage has died, which shows in nothing else.
    pub fn watch_growth(&self, file_bytes: u64) {
        let peak = self.live_bytes_peak.load(Ordering::Acquire);
        if !grows_idly(self.file_bytes_at_open, file_bytes, peak)
            || self.bloated.swap(true, Ordering::AcqRel)
        {
            return;
        }
        tracing::warn!(
            file_bytes,
            live_bytes_peak = peak,
            "the store's file grows although what it holds doesn't: the engine no longer collects \
             its garbage. Restart patchferry; `patchferry store compact` gives the space back"
        );
    }

    pub fn status(&self, file_bytes: u64) -> SpaceStatus {
        SpaceStatus {
            live_bytes: self.live_bytes.load(Ordering::Acquire),
            live_bytes_max: self.limits.live_bytes_max,
            file_bytes,
            free_bytes: self.free_bytes.load(Ordering::Acquire),
            pause: self.pause(),
            bloated: self.bloated.load(Ordering::Acquire),
        }
    }
}

fn grows_idly(file_bytes_at_open: u64, file_bytes: u64, live_bytes_peak: u64) -> bool {
    let allowed = live_bytes_peak.saturating_mul(FILE_BYTES_PER_LIVE_BYTE_MAX);
    file_bytes > file_bytes_at_open.saturating_add(allowed).saturating_add(GROWTH_BYTES_ALLOWED)
}

fn decide(
    limits: SpaceLimits,
    now: Option<Pause>,
    live_bytes: u64,
    free_bytes: u64,
) -> Option<Pause> {
    let slack = |limit: u64, paused: bool| if paused { limit >> HYSTERESIS_SHIFT } else { 0 };
    let free_slack = slack(limits.free_bytes_min, now == Some(Pause::FreeSpace));
    if free_bytes < limits.free_bytes_min.saturating_add(free_slack) {
        return Some(Pause::FreeSpace);
    }
    let live_slack = slack(limits.live_bytes_max, now == Some(Pause::LiveBytes));
    if live_bytes >= limits.live_bytes_max - live_slack {
        return Some(Pause::LiveBytes);
    }
    None
}

/// Bytes that an unprivileged process can still write to `path`'s file system.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SpaceLimits = SpaceLimits { live_bytes_max: 1600, free_bytes_min: 1600 };

    #[test]
    fn a_file_that_grows_without_its_content_is_noticed() {
        const MIB: u64 = 1 << 20;
        assert!(!grows_idly(16 * MIB, 500 * MIB, 0));
        assert!(grows_idly(16 * MIB, 600 * MIB, 0));
        assert!(!grows_idly(16 * MIB, 600 * MIB, 100 * MIB));
        assert!(!grows_idly(8_000 * MIB, 8_400 * MIB, MIB), "a file that was large is no sign");
    }

    #[test]
    fn ingest_pauses_at_a_limit_and_resumes_with_room_to_spare() {
        assert_eq!(decide(LIMITS, None, 1599, 1600), None);
        assert_eq!(decide(LIMITS, None, 1600, 9999), Some(Pause::LiveBytes));
        assert_eq!(decide(LIMITS, Some(Pause::LiveBytes), 1550, 9999), Some(Pause::LiveBytes));
        assert_eq!(decide(LIMITS, Some(Pause::LiveBytes), 1499, 9999), None);
        assert_eq!(decide(LIMITS, None, 0, 1599), Some(Pause::FreeSpace));
        assert_eq!(decide(LIMITS, Some(Pause::FreeSpace), 0, 1650), Some(Pause::FreeSpace));
        assert_eq!(decide(LIMITS, Some(Pause::FreeSpace), 0, 1700), None);
    }
}
