//! What a demo came to: numbers, and a line for each guarantee, with a tick or a cross.
//!
//! Guarantees: no number here is derived from another that it is to confirm.

#![expect(
    clippy::format_push_string,
    reason = "a few lines of text; `write!` adds a result to drop"
)]

use std::{fmt, time::Duration};

use serde::Serialize;

use super::story::seconds;
use crate::metrics::LatencySummary;

/// One guarantee, and whether it was seen to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub held: bool,
    /// The numbers behind it.
    pub detail: String,
}

/// Where everything that was read went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Node states read: accepted ones, and those that sweeps passed over as known.
    pub observed: u64,
    pub accepted: u64,
    pub delivered: u64,
    pub coalesced: u64,
    pub unchanged: u64,
    /// Items that died; further ones of the same node share its dead letter.
    pub dead: u64,
    pub dropped: u64,
    pub queued: u64,
    /// Nodes whose state the hub doesn't hold, by comparing hub and fleet.
    pub lost: u64,
    /// Findings that the hubs hold as resolved.
    pub resolved: u64,
    /// Those of them whose nodes are gone.
    pub gone: u64,
    /// Findings that the hubs hold as open.
    pub open: u64,
    /// `BatchImportFindings` requests that the hubs saw.
    pub hub_requests: u64,
    /// What the quota would have allowed in the same time, all lanes together.
    pub hub_requests_allowed: u64,
    pub sweeps: u64,
}

/// From the observation being on disk to the hub's acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// In the first process, until the outage.
    pub before_outage: Option<LatencySummary>,
    /// In the second process: the outage's backlog is in it.
    pub since_restart: Option<LatencySummary>,
}

/// From an event's emission to the hub's import of what it told of, by the simulator's clock. Of
/// the lanes that were not out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EventLatency {
    pub events: u64,
    pub p50: Duration,
    pub p99: Duration,
}

impl EventLatency {
    /// `None` without any.
    pub(super) fn of(mut taken: Vec<Duration>) -> Option<Self> {
        taken.sort_unstable();
        let last = taken.len().checked_sub(1)?;
        let at = |percent: usize| taken[last * percent / 100];
        Some(Self { events: taken.len() as u64, p50: at(50), p99: at(99) })
    }
}

/// How a lane got rid of what had waited during the outage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drain {
    pub lane: String,
    /// Findings that waited when the hub came back.
    pub backlog: u64,
    /// From the hub's return to the first acknowledgement.
    pub first_after: Option<Duration>,
    /// From the hub's return until nothing waited that had waited then.
    pub drained_after: Option<Duration>,
    pub versions_delivered: u64,
    pub requests: u64,
}

impl Drain {
    pub(super) fn begin(lane: String, backlog: u64) -> Self {
        Self {
            lane,
            backlog,
            first_after: None,
            drained_after: None,
            versions_delivered: 0,
            requests: 0,
        }
    }

    /// Notes where it stands; nothing once it has drained.
    pub(super) fn look(&mut self, after: Duration, drained: bool, versions: u64, requests: u64) {
        if self.drained_after.is_some() {
            return;
        }
        (self.versions_delivered, self.requests) = (versions, requests);
        if versions > 0 {
            self.first_after.get_or_insert(after);
        }
        if drained {
            self.drained_after = Some(after);
        }
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(drained_after) = self.drained_after else {
            return write!(f, "{}: {} findings waited, not drained", self.lane, self.backlog);
        };
        write!(
            f,
            "{}: {} waited; probed after {}, drained after {}, requests: {}",
            self.lane,
            self.backlog,
            seconds(self.first_after.unwrap_or(drained_after)),
            seconds(drained_after),
            self.requests
        )
    }
}

/// One lane at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneSummary {
    pub lane: String,
    pub nodes: u64,
    /// Versions that its hub took in.
    pub delivered: u64,
    pub delivered_in_outage: u64,
    pub was_out: bool,
    /// The most findings that waited at once.
    pub waiting_max: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub run: Duration,
    pub first_sweep: Duration,
    pub outage: Duration,
    pub restart: Duration,
    pub totals: Totals,
    pub latencies: Latencies,
    pub event_latency: Option<EventLatency>,
    pub drains: Vec<Drain>,
    pub lanes: Vec<LaneSummary>,
    pub checks: Vec<Check>,
    /// The first few sentences of what the hubs don't hold as the fleets are.
    pub differences: Vec<String>,
    /// The first few dead letters that nobody poisoned: stage, reason, what was said.
    pub unexpected_dead: Vec<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    guarantees_held: bool,
    #[serde(flatten)]
    summary: &'a Summary,
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
        let sections =
            [self.totals_text(), self.latency_text(), self.lanes_text(), self.checks_text()];
        let verdict = if self.guarantees_held() {
            format!("All {} guarantees held; lost: 0.", self.checks.len())
        } else {
            let broken = self.checks.iter().filter(|check| !check.held).count();
            format!(
                "{broken} of {} guarantees DID NOT HOLD; lost: {}.",
                self.checks.len(),
                self.totals.lost
            )
        };
        format!("\n{}\n{verdict}\n{NEXT}", sections.join("\n"))
    }

    fn totals_text(&self) -> String {
        let t = &self.totals;
        let rows = [
            ("observed", t.observed, "node states read from SSM"),
            ("accepted", t.accepted, "new or changed: on disk before anything else"),
            ("  delivered", t.delivered, "acknowledged by Security Hub"),
            ("  coalesced", t.coalesced, "a newer state of the same node took its place"),
            ("  unchanged", t.unchanged, "nothing to tell"),
            ("  dead", t.dead, "can't go on: kept in a dead letter, see below if unexpected"),
            ("  dropped", t.dropped, "by a person"),
            ("  queued", t.queued, "still on the way"),
            ("lost", t.lost, "nodes that the hub holds otherwise than the fleet has them"),
            ("open", t.open, "findings in the hubs that are ACTIVE"),
            ("resolved", t.resolved, "findings in the hubs that are ARCHIVED"),
            ("  gone", t.gone, "their nodes were terminated or deregistered"),
        ];
        let mut text = String::new();
        for (name, number, meaning) in rows {
            text += &format!("  {name:<12}{number:>8}  {meaning}\n");
        }
        text
    }

    fn latency_text(&self) -> String {
        let share = 100 * self.totals.hub_requests / self.totals.hub_requests_allowed.max(1);
        format!(
            "{}  latency     {} before the outage\n              {} since the restart, the outage's backlog included\n  requests    {} of {} that the quota allowed ({share} %), {} versions in each on average\n",
            self.event_text(),
            quantiles(self.latencies.before_outage),
            quantiles(self.latencies.since_restart),
            self.totals.hub_requests,
            self.totals.hub_requests_allowed,
            self.totals.delivered / self.totals.hub_requests.max(1),
        )
    }

    fn event_text(&self) -> String {
        let Some(it) = self.event_latency else { return String::new() };
        format!(
            "  events      p50 {}, p99 {} from event to hub ({} events, Region without outage)\n",
            seconds(it.p50),
            seconds(it.p99),
            it.events
        )
    }

    fn lanes_text(&self) -> String {
        let mut text = format!("  outage      {}, a restart in its midst\n", seconds(self.outage));
        for lane in &self.lanes {
            let out = if lane.was_out { "OUT" } else { "" };
            text += &format!(
                "    {:<25} {:>6} delivered, {:>5} during the outage {out:<3}  at most {} waiting\n",
                lane.lane, lane.delivered, lane.delivered_in_outage, lane.waiting_max
            );
        }
        for drain in &self.drains {
            text += &format!("    {drain}\n");
        }
        text
    }

    fn checks_text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.held { '✓' } else { '✗' };
            text += &format!("  {mark} {:<38} {}\n", check.name, check.detail);
        }
        for broken in self.differences.iter().chain(&self.unexpected_dead) {
            text += &format!("      {broken}\n");
        }
        text
    }
}

fn quantiles(latency: Option<LatencySummary>) -> String {
    match latency {
        Some(it) => format!(
            "p50 {}, p99 {} ({} deliveries)",
            seconds(Duration::from_secs_f64(it.p50_seconds)),
            seconds(Duration::from_secs_f64(it.p99_seconds)),
            it.count
        ),
        None => "no delivery".into(),
    }
}

const NEXT: &str = "
Next: `patchferry config init` prints a commented configuration, `patchferry config check` says
whether yours is right, `patchferry run` carries findings.
README.md says what each guarantee rests on.
";
