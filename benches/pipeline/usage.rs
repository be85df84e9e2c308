//! What a process has used, as Linux counts it (`proc(5)`).

use std::fs;

/// `USER_HZ`, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time and bytes that went to the disk.
pub struct Usage {
    pub cpu_seconds: f64,
    pub written_bytes: i64,
}

impl Usage {
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").expect("procfs");
        // Fields after the command's name, which may hold spaces: utime and stime are 14 and 15.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks: f64 = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
            .unwrap_or(0);
        Self { cpu_seconds: ticks / TICKS_PER_SECOND, written_bytes: written }
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }

    pub fn rss_mib() -> f64 {
        Self::rss_mib_of(std::process::id())
    }

    pub fn rss_mib_of(process: u32) -> f64 {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0.0);
        kib / 1024.0
    }
}
