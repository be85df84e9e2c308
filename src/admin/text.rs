//! A status for a terminal: aligned, at most [`COLUMNS_MAX`] columns, the verdict first.

use std::fmt::Write as _;

use super::{
    attention::count,
    status::{LaneStatus, Status},
};
use crate::record::UnixMillis;

pub(super) const COLUMNS_MAX: usize = 100;

pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    verdict(status, &mut text);
    lanes(status, &mut text);
    totals(status, &mut text);
    let cut = |line: &str| line.chars().take(COLUMNS_MAX).collect::<String>();
    text.lines().map(|line| cut(line).trim_end().to_string() + "\n").collect()
}

fn verdict(status: &Status, text: &mut String) {
    let attention = status.attention();
    let up = age(status.at_unix_ms.since(status.started_at_unix_ms).as_secs());
    let dry = if status.dry_run { ", dry run: nothing is sent" } else { "" };
    let shard = status.shard.as_ref().map(|it| format!(", shard {it}")).unwrap_or_default();
    match attention.len() {
        0 => {
            let lanes = count(status.lanes.len() as u64, "lane");
            let _ = writeln!(text, "OK: {lanes}, up {up}, version {}{shard}{dry}", status.version);
        }
        number => {
            let matters = count(number as u64, "matter");
            let _ = writeln!(
                text,
                "ATTENTION: {matters}, up {up}, version {}{shard}{dry}",
                status.version
            );
        }
    }
    for sentence in attention {
        for line in wrapped(&sentence, COLUMNS_MAX - 4).iter().enumerate() {
            let _ = writeln!(text, "  {} {}", if line.0 == 0 { "!" } else { " " }, line.1);
        }
    }
}

pub(super) fn wrapped(sentence: &str, columns_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let line = lines.last_mut().expect("there is always a last line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns_max {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn lanes(status: &Status, text: &mut String) {
    let _ = writeln!(
        text,
        "\n{:<29} {:<13} {:>8} {:>7} {:>5} {:>5} {:>5} {:>5} {:>5}  {:>8}",
        "LANE", "STATE", "OUTBOX", "OLDEST", "CRIT", "HIGH", "MED", "LOW", "INFO", "SWEPT"
    );
    for lane in &status.lanes {
        let open = &lane.open_findings;
        let _ = writeln!(
            text,
            "{:<29} {:<13} {:>8} {:>7} {:>5} {:>5} {:>5} {:>5} {:>5}  {:>8}",
            lane.lane.to_string(),
            lane.state.as_str(),
            short(lane.outbox_findings),
            lane.oldest_age_seconds.map_or_else(|| "-".into(), age),
            short(open.critical),
            short(open.high),
            short(open.medium),
            short(open.low),
            short(open.informational),
            swept(lane, status.at_unix_ms),
        );
        if let Some(note) = &lane.note {
            for line in wrapped(note, COLUMNS_MAX - 6) {
                let _ = writeln!(text, "      {line}");
            }
        }
    }
}

pub(super) fn swept(lane: &LaneStatus, now: UnixMillis) -> String {
    match lane.last_complete_sweep_unix_ms {
        Some(at) => age(now.since(at).as_secs()),
        None => "never".into(),
    }
}

fn totals(status: &Status, text: &mut String) {
    let a = &status.accounting;
    let _ = writeln!(
        text,
        "\naccounting  {} accepted = {} delivered + {} coalesced + {} unchanged\n            \
         + {} dead + {} dropped + {} queued   (balance {})",
        a.accepted,
        a.delivered,
        a.coalesced,
        a.unchanged,
        a.dead,
        a.dropped,
        a.queued,
        a.imbalance()
    );
    let queues: Vec<String> = status
        .queues
        .iter()
        .map(|queue| match queue.oldest_age_seconds {
            Some(seconds) => format!("{} {} ({})", queue.queue, short(queue.items), age(seconds)),
            None => format!("{} {}", queue.queue, short(queue.items)),
        })
        .collect();
    let _ = writeln!(text, "queues      {}", queues.join(" · "));
    for queue in &status.event_queues {
        let _ = writeln!(text, "events      {} {}", queue.queue, queue.state);
    }
    let _ = match &status.latency {
        Some(latency) => writeln!(
            text,
            "latency     p50 {} · p95 {} · p99 {}  ({} delivered since the start)",
            seconds(latency.p50_seconds),
            seconds(latency.p95_seconds),
            seconds(latency.p99_seconds),
            latency.count
        ),
        None => writeln!(text, "latency     nothing delivered since the start"),
    };
    let dead: Vec<String> = status
        .dead_letters
        .iter()
        .map(|letters| format!("{} {}/{}", letters.count, letters.stage, letters.reason))
        .collect();
    let dead = if dead.is_empty() { "none".to_string() } else { dead.join(" · ") };
    for (index, line) in wrapped(&dead, COLUMNS_MAX - 12).iter().enumerate() {
        let _ = writeln!(text, "{:<11} {line}", if index == 0 { "dead" } else { "" });
    }
    let store = &status.store;
    let _ = writeln!(
        text,
        "store       {} live of {} · file {} · {} free",
        bytes(store.live_bytes),
        bytes(store.max_bytes),
        bytes(store.file_bytes),
        bytes(store.free_bytes)
    );
}

/// The two largest units: `2d 3h`, `5m`, `12s`.
pub(super) fn age(age_seconds: u64) -> String {
    match age_seconds {
        0..60 => format!("{age_seconds}s"),
        60..3_600 => format!("{}m", age_seconds / 60),
        3_600..86_400 => format!("{}h{:02}m", age_seconds / 3_600, age_seconds / 60 % 60),
        _ => format!("{}d{:02}h", age_seconds / 86_400, age_seconds / 3_600 % 24),
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.0} s") }
}

/// At most five characters: `99999`, `123k`, `12M`.
pub(super) fn short(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1_000),
        _ => format!("{}M", number / 1_000_000),
    }
}

fn bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // two digits are shown
    let count = bytes as f64;
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", count / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count / 1_048_576.0),
        _ => format!("{:.1} GiB", count / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests;
