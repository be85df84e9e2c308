//! What of a status needs somebody, in words that say what to do; most urgent first.
//!
//! Deliberately doesn't know: how the words are shown.

use std::time::Duration;

use super::status::{LaneStatus, Status};
use crate::metrics::{Label as _, LaneState};

/// A finding that waits longer in a lane that flows is a sign that it doesn't.
const FLOWING_AGE_SECONDS_MAX: u64 = 15 * 60;
/// Sweeps may be late by load or throttling; three in a row aren't.
const SWEEPS_MISSED_MAX: u64 = 3;
/// Part of the store's limit at which to say so before ingest pauses.
const STORE_FULL_PERCENT: u64 = 80;
/// As many pauses are told, the rest is counted.
const PAUSES_NAMED_MAX: usize = 5;
/// As many lanes are named, the rest is counted.
const LANES_NAMED_MAX: usize = 3;

impl Status {
    /// One sentence for each thing that needs somebody; empty if all is well.
    #[must_use]
    pub fn attention(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.defects(&mut found);
        self.store(&mut found);
        self.ingest(&mut found);
        self.pauses(&mut found);
        self.discovery(&mut found);
        self.lanes(&mut found);
        self.event_queues(&mut found);
        self.leftovers(&mut found);
        found
    }

    fn defects(&self, found: &mut Vec<String>) {
        let imbalance = self.accounting.imbalance();
        if imbalance != 0 {
            found.push(format!(
                "the accounting is off by {imbalance}: a defect; keep the state directory and report \
                 it"
            ));
        }
    }

    fn store(&self, found: &mut Vec<String>) {
        let store = &self.store;
        if store.rolled_back {
            found.push(
                "possible loss: the store is older than it was known to be; all is read back, feed \
                 again what came from files, and look at the disk"
                    .into(),
            );
        }
        if store.quarantines > 0 {
            let stores = count(store.quarantines, "corrupt store");
            found.push(format!(
                "{stores} set aside: `patchferry store salvage`, then remove quarantine-<n>"
            ));
        }
        if store.file_grows {
            found.push(
                "the store's file grows without its content: restart, then `patchferry store compact`"
                    .into(),
            );
        }
    }

    fn ingest(&self, found: &mut Vec<String>) {
        for reason in &self.ingest_paused {
            found.push(match reason.as_str() {
                "live_bytes" => "ingest is paused, the store is at its limit: restore delivery or \
                                 raise store.max_bytes"
                    .into(),
                "free_space" => {
                    "ingest is paused, the file system is nearly full: free space".into()
                }
                // Told with the other pauses.
                "operator" => continue,
                other => format!("ingest is paused: {other}"),
            });
        }
        let store = &self.store;
        let full_bytes = store.max_bytes / 100 * STORE_FULL_PERCENT;
        if self.ingest_paused.is_empty() && store.max_bytes > 0 && store.live_bytes > full_bytes {
            found.push(format!("the store is above {STORE_FULL_PERCENT} % of its limit"));
        }
    }

    fn pauses(&self, found: &mut Vec<String>) {
        for pause in self.pauses.iter().take(PAUSES_NAMED_MAX) {
            found.push(format!(
                "paused by an operator, until `patchferry resume`: {}",
                pause.to_sentence()
            ));
        }
        if self.pauses.len() > PAUSES_NAMED_MAX {
            let more = count((self.pauses.len() - PAUSES_NAMED_MAX) as u64, "more pause");
            found.push(format!("{more} by operators in force: `patchferry status --json`"));
        }
    }

    fn discovery(&self, found: &mut Vec<String>) {
        let Some(discovery) = &self.discovery else { return };
        let Some(why) = &discovery.failure else { return };
        let served = match discovery.last_read_unix_ms {
            Some(at) => format!("the {} of {at} are served", count(discovery.accounts, "account")),
            None => "none is served yet".into(),
        };
        found.push(format!("the organization's accounts can't be listed, {served}: {why}"));
    }

    fn lanes(&self, found: &mut Vec<String>) {
        let mut name = |what: &str, concerns: &dyn Fn(&LaneStatus) -> bool| {
            let lanes: Vec<&LaneStatus> = self.lanes.iter().filter(|lane| concerns(lane)).collect();
            if !lanes.is_empty() {
                found.push(format!("{what}: {}", named(&lanes)));
            }
        };
        name("held until somebody acts", &|lane| matches!(lane.state, LaneState::Held(_)));
        name("the hub is unavailable, backing off", &|lane| lane.state == LaneState::BackingOff);
        name("findings wait unusually long", &|lane| {
            lane.state == LaneState::Flowing
                && lane.oldest_age_seconds.is_some_and(|age| age > FLOWING_AGE_SECONDS_MAX)
        });
        name("no complete sweep for long", &|lane| self.sweep_is_overdue(lane));
        name(
            "too many nodes gone at once to be believed, `patchferry reconcile --accept-gone`",
            &|lane| lane.gone_withheld_nodes > 0,
        );
        name("the hub differs from what it was told, `patchferry reconcile --repair`", &|lane| {
            lane.reconcile_unrepaired > 0
        });
        name(
            "no longer configured, what is open or waits there is kept until `patchferry lanes \
             retire`",
            &|lane| {
                let left = lane.outbox_findings.saturating_add(lane.open_findings.total());
                lane.state == LaneState::Orphaned && left > 0
            },
        );
    }

    fn event_queues(&self, found: &mut Vec<String>) {
        for queue in &self.event_queues {
            let what = match queue.state.as_str() {
                "held" => "can't be read until somebody acts",
                "unavailable" => "is out of reach",
                _ => continue,
            };
            let note = queue.note.as_deref().unwrap_or("SQS gave no reason");
            found.push(format!(
                "the queue of events {} {what}, changes are seen at the next sweep: {note}",
                queue.queue
            ));
        }
    }

    fn sweep_is_overdue(&self, lane: &LaneStatus) -> bool {
        let swept = !matches!(
            lane.state,
            LaneState::Dormant | LaneState::Orphaned | LaneState::ReadingBack
        );
        // Before the first sweep the start counts, and after a standstill too.
        let last =
            lane.last_complete_sweep_unix_ms.unwrap_or_default().max(self.started_at_unix_ms);
        // A sweep itself takes time, more than the shortest poll interval.
        let allowed_seconds = lane.poll_interval_seconds.max(60) * SWEEPS_MISSED_MAX;
        self.ingest_paused.is_empty()
            && swept
            && !lane.ingest_paused
            && self.at_unix_ms.since(last) > Duration::from_secs(allowed_seconds)
    }

    fn leftovers(&self, found: &mut Vec<String>) {
        let dead: u64 = self.dead_letters.iter().map(|letters| letters.count).sum();
        if dead > 0 {
            found.push(format!("{} waiting: `patchferry dead list`", count(dead, "dead letter")));
        }
        if self.stubborn_findings > 0 {
            let findings = count(self.stubborn_findings, "finding");
            found.push(format!("{findings} failed 20 times or more, still tried"));
        }
    }
}

fn named(lanes: &[&LaneStatus]) -> String {
    let mut names: Vec<String> = lanes
        .iter()
        .take(LANES_NAMED_MAX)
        .map(|lane| match lane.state.hold_reason() {
            Some(reason) => format!("{} ({})", lane.lane, reason.value()),
            None => lane.lane.to_string(),
        })
        .collect();
    if lanes.len() > LANES_NAMED_MAX {
        names.push(format!("{} more", lanes.len() - LANES_NAMED_MAX));
    }
    names.join(", ")
}

pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
