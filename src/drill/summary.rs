//! What a drill came to: numbers, and a line for each guarantee, with a tick or a cross.

#![expect(
    clippy::format_push_string,
    reason = "a few lines of text; `write!` adds a result to drop"
)]

use std::time::Duration;

use serde::Serialize;

use super::Options;
use crate::demo::{
    Check, LaneSummary,
    checks::{DIFFERENCES_SHOWN_MAX, bounded, independent},
    story::seconds,
    truth::{self, Truth},
    world::World,
};

/// Where the kills landed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kills {
    pub total: u64,
    /// Before the daemon had said that it runs.
    pub amid_start: u64,
    /// While imports were on their way to a hub or back.
    pub with_requests_in_flight: u64,
    /// Starts after a kill that found accepted items in their queues.
    pub found_work: u64,
}

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub median: Duration,
    pub max: Duration,
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let max = *times.last()?;
        Some(Self { count: times.len(), median: times[times.len() / 2], max })
    }
}

/// Where everything that was accepted went, and what the hubs saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub accepted: u64,
    pub delivered: u64,
    pub coalesced: u64,
    pub unchanged: u64,
    pub dead: u64,
    pub dropped: u64,
    pub queued: u64,
    /// Nodes whose state the hub doesn't hold, by comparing hub and fleet.
    pub lost: u64,
    /// Versions that the hubs took in.
    pub versions: u64,
    /// Versions that came again after the hub had them; it ignores them.
    pub resent: u64,
    /// Of those, with other words: must be 0.
    pub rewritten: u64,
    pub dead_letters: u64,
    pub hub_requests: u64,
}

/// What was measured on the way and is judged at the end.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub kills: Kills,
    /// Of each life that followed a kill, if it got so far: from its start until it ran.
    pub ready_after: Vec<Duration>,
    /// And until a hub took in a version.
    pub delivered_after: Vec<Duration>,
    /// By lane.
    pub delivered_in_outage: Vec<u64>,
    pub waiting_max: Vec<u64>,
    pub is_settled: bool,
    pub settled_after: Duration,
    pub stopped_after: Duration,
    /// The exit code; `None`: it did not end by SIGTERM in time.
    pub stopped_with: Option<i32>,
    /// Lines of level ERROR in the logs of all lives.
    pub errors: Vec<String>,
    /// Stores that were set aside, blobs.
    pub leftovers: Vec<String>,
    pub rss_bytes_max: u64,
}

impl Evidence {
    pub fn new(lanes: usize) -> Self {
        Self {
            kills: Kills::default(),
            ready_after: Vec::new(),
            delivered_after: Vec::new(),
            delivered_in_outage: vec![0; lanes],
            waiting_max: vec![0; lanes],
            is_settled: false,
            settled_after: Duration::ZERO,
            stopped_after: Duration::ZERO,
            stopped_with: None,
            errors: Vec::new(),
            leftovers: Vec::new(),
            rss_bytes_max: 0,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub seed: u64,
    pub run: Duration,
    pub outage: Duration,
    pub kills: Kills,
    /// From a start after a kill until the daemon said that it runs.
    pub ready_after: Option<Spread>,
    /// From a start after a kill until a hub took in a version.
    pub delivered_after: Option<Spread>,
    pub settled_after: Duration,
    pub stopped_after: Duration,
    pub rss_bytes_max: u64,
    pub totals: Totals,
    pub lanes: Vec<LaneSummary>,
    pub checks: Vec<Check>,
    /// The first few sentences of what the hubs don't hold as the fleets are.
    pub differences: Vec<String>,
    /// The first few dead letters that nobody poisoned.
    pub unexpected_dead: Vec<String>,
    /// The first few errors of the daemon's logs.
    pub errors: Vec<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    guarantees_held: bool,
    #[serde(flatten)]
    summary: &'a Summary,
}

pub(super) fn judge(
    options: &Options,
    world: &World,
    truth: &Truth,
    evidence: &Evidence,
    run: Duration,
) -> Summary {
    let lanes = lanes(options, world, evidence);
    let first = |texts: &[String]| texts.iter().take(DIFFERENCES_SHOWN_MAX).cloned().collect();
    Summary {
        seed: options.seed,
        run,
        outage: options.outage,
        kills: evidence.kills,
        ready_after: Spread::of(evidence.ready_after.clone()),
        delivered_after: Spread::of(evidence.delivered_after.clone()),
        settled_after: evidence.settled_after,
        stopped_after: evidence.stopped_after,
        rss_bytes_max: evidence.rss_bytes_max,
        totals: totals(truth),
        checks: checks(options, truth, evidence, &lanes),
        lanes,
        differences: first(&truth.differences),
        unexpected_dead: truth
            .unexpected_dead()
            .take(DIFFERENCES_SHOWN_MAX)
            .map(truth::describe)
            .collect(),
        errors: first(&evidence.errors),
    }
}

fn lanes(options: &Options, world: &World, evidence: &Evidence) -> Vec<LaneSummary> {
    let lanes = world.lanes.iter().enumerate();
    lanes
        .map(|(index, lane)| LaneSummary {
            lane: lane.sim.to_string(),
            nodes: lane.nodes as u64,
            delivered: world.control.stats(&lane.sim).accepted,
            delivered_in_outage: evidence.delivered_in_outage[index],
            was_out: world.is_hit_by_outage(index) && !options.outage.is_zero(),
            waiting_max: evidence.waiting_max[index],
        })
        .collect()
}

fn totals(truth: &Truth) -> Totals {
    let now = &truth.recount.accounting;
    Totals {
        accepted: now.accepted.unsigned_abs(),
        delivered: now.delivered.unsigned_abs(),
        coalesced: now.coalesced.unsigned_abs(),
        unchanged: now.unchanged.unsigned_abs(),
        dead: now.dead.unsigned_abs(),
        dropped: now.dropped.unsigned_abs(),
        queued: truth.recount.queued.total().unsigned_abs(),
        lost: truth.differences.len() as u64,
        versions: truth.stats.accepted,
        resent: truth.stats.ignored_updates,
        rewritten: truth.stats.rewritten_history,
        dead_letters: truth.letters.len() as u64,
        hub_requests: truth.stats.import_requests,
    }
}

fn checks(
    options: &Options,
    truth: &Truth,
    evidence: &Evidence,
    lanes: &[LaneSummary],
) -> Vec<Check> {
    let mut checks = vec![
        truth.nothing_lost(evidence.is_settled),
        truth.accounted(),
        truth.receipts(),
        truth.order(),
        truth.poison(),
        truth.quota(),
        bounded(lanes),
        survived(options, evidence),
        stopped(evidence),
        truth.rules(),
    ];
    if !options.outage.is_zero() {
        checks.push(independent(lanes));
    }
    checks
}

/// Every kill was met by a start that ran, and none was taken for anything worse.
fn survived(options: &Options, evidence: &Evidence) -> Check {
    let Kills { total, amid_start, .. } = evidence.kills;
    let ran = evidence.ready_after.len() as u64;
    // A start that is itself killed early isn't expected to run.
    let expected = total.saturating_sub(amid_start);
    let held = total == options.kills as u64
        && ran >= expected
        && evidence.errors.is_empty()
        && evidence.leftovers.is_empty();
    let mut detail = format!(
        "{total} kills, {amid_start} of them amid a start; {ran} starts after them ran, \
         {} errors logged",
        evidence.errors.len()
    );
    if !evidence.leftovers.is_empty() {
        detail += &format!("; LEFT BEHIND: {}", evidence.leftovers.join(", "));
    }
    Check { name: "it comes back after every kill", held, detail }
}

fn stopped(evidence: &Evidence) -> Check {
    let how = match evidence.stopped_with {
        Some(code) => format!("exit code {code}"),
        None => "NO exit code".into(),
    };
    Check {
        name: "SIGTERM ends it in order",
        held: evidence.stopped_with == Some(0),
        detail: format!("{how} after {}", seconds(evidence.stopped_after)),
    }
}

impl Summary {
    /// Whether every guarantee that was checked held.
    #[must_use]
    pub fn guarantees_held(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.held)
    }

    /// One line of JSON. Durations are `{"secs": …, "nanos": …}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let report = Report { guarantees_held: self.guarantees_held(), summary: self };
        serde_json::to_string(&report).expect("a summary has text keys and finite numbers only")
    }

    /// At most 100 columns, unless a check has more to say.
    #[must_use]
    pub fn to_text(&self) -> String {
        let verdict = if self.guarantees_held() {
            format!("All {} guarantees held; lost: 0.", self.checks.len())
        } else {
            let broken = self.checks.iter().filter(|check| !check.held).count();
            format!(
                "{broken} of {} guarantees DID NOT HOLD; lost: {}. --seed {} repeats the plan.",
                self.checks.len(),
                self.totals.lost,
                self.seed
            )
        };
        let sections = [self.totals_text(), self.kills_text(), self.lanes_text()];
        format!("\n{}\n{}\n{verdict}\n", sections.join("\n"), self.checks_text())
    }

    fn totals_text(&self) -> String {
        let t = &self.totals;
        let rows = [
            ("accepted", t.accepted, "new or changed: on disk before anything else"),
            ("  delivered", t.delivered, "acknowledged by Security Hub"),
            ("  coalesced", t.coalesced, "a newer state of the same node took its place"),
            ("  unchanged", t.unchanged, "nothing to tell"),
            ("  dead", t.dead, "can't go on: kept in dead letters"),
            ("  dropped", t.dropped, "by a person"),
            ("  queued", t.queued, "still on the way"),
            ("lost", t.lost, "nodes that the hub holds otherwise than the fleet has them"),
            ("versions", t.versions, "taken in by the hubs"),
            ("resent", t.resent, "sent again with the same words, which the hub ignores"),
            ("rewritten", t.rewritten, "sent again with other words"),
        ];
        let mut text = String::new();
        for (name, number, meaning) in rows {
            text += &format!("  {name:<12}{number:>8}  {meaning}\n");
        }
        text
    }

    fn kills_text(&self) -> String {
        let Kills { total, amid_start, with_requests_in_flight, found_work } = self.kills;
        format!(
            "  kills       {total}: {amid_start} amid a start, {with_requests_in_flight} with \
             requests in flight; {found_work} starts found work\n  \
             recovery    until it ran: {}\n              until a hub took in a version: {}\n  \
             memory      at most {} MiB\n",
            spread(self.ready_after),
            spread(self.delivered_after),
            self.rss_bytes_max >> 20,
        )
    }

    fn lanes_text(&self) -> String {
        let mut text =
            format!("  run         {}, outage {}\n", seconds(self.run), seconds(self.outage));
        for lane in &self.lanes {
            let out = if lane.was_out { "OUT" } else { "" };
            text += &format!(
                "    {:<25} {:>6} delivered, {:>5} during the outage {out:<3}  at most {} waiting\n",
                lane.lane, lane.delivered, lane.delivered_in_outage, lane.waiting_max
            );
        }
        text
    }

    fn checks_text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.held { '✓' } else { '✗' };
            text += &format!("  {mark} {:<38} {}\n", check.name, check.detail);
        }
        for broken in self.differences.iter().chain(&self.unexpected_dead).chain(&self.errors) {
            text += &format!("      {broken}\n");
        }
        text
    }
}

fn spread(spread: Option<Spread>) -> String {
    match spread {
        Some(it) => {
            format!("median {}, at most {} ({})", seconds(it.median), seconds(it.max), it.count)
        }
        None => "never".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_longest() {
        let seconds = |seconds: &[u64]| seconds.iter().map(|it| Duration::from_secs(*it)).collect();
        let spread = Spread::of(seconds(&[9, 1, 2])).unwrap();
        assert_eq!(spread.count, 3);
        assert_eq!((spread.median.as_secs(), spread.max.as_secs()), (2, 9));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
