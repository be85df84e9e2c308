//! The guarantees that a demo can check, each from evidence that the product didn't produce: the
//! simulator's own books, or a recount of what is stored.

use std::time::Duration;

use super::{
    Check, EventLatency, LaneSummary, Summary, Totals,
    meters::Meters,
    story::{Evidence, seconds},
    truth::{self, Truth},
    world::World,
};
use crate::{app::App, queue::QueueError, simulator::Quotas};

/// Sentences shown of what differs.
pub(crate) const DIFFERENCES_SHOWN_MAX: usize = 10;

/// Everything that the checks look at.
struct Facts<'a> {
    truth: Truth,
    evidence: &'a Evidence,
    lanes: Vec<LaneSummary>,
    event_latency: Option<EventLatency>,
}

pub(super) async fn judge(
    app: &App,
    world: &World,
    meters: &Meters,
    evidence: &Evidence,
    run: Duration,
) -> Result<Summary, QueueError> {
    let facts = Facts {
        truth: Truth::gather(app.queues(), world).await?,
        evidence,
        lanes: lanes(world, meters, evidence),
        event_latency: event_latency(world),
    };
    let truth = &facts.truth;
    Ok(Summary {
        run,
        first_sweep: evidence.first_sweep,
        outage: evidence.outage,
        restart: evidence.restart,
        totals: totals(truth, meters, run, world.lanes.len()),
        latencies: evidence.latencies,
        event_latency: facts.event_latency,
        drains: evidence.drains.clone(),
        checks: facts.checks(world),
        differences: truth.differences.iter().take(DIFFERENCES_SHOWN_MAX).cloned().collect(),
        unexpected_dead: truth
            .unexpected_dead()
            .take(DIFFERENCES_SHOWN_MAX)
            .map(truth::describe)
            .collect(),
        lanes: facts.lanes,
    })
}

fn lanes(world: &World, meters: &Meters, evidence: &Evidence) -> Vec<LaneSummary> {
    let lanes = world.lanes.iter().enumerate();
    lanes
        .map(|(index, lane)| LaneSummary {
            lane: lane.sim.to_string(),
            nodes: lane.nodes as u64,
            delivered: world.control.stats(&lane.sim).accepted,
            delivered_in_outage: evidence.delivered_in_outage.get(index).copied().unwrap_or(0),
            was_out: world.is_hit_by_outage(index),
            waiting_max: meters.peaks[index],
        })
        .collect()
}

fn totals(truth: &Truth, meters: &Meters, run: Duration, lanes: usize) -> Totals {
    let now = &truth.recount.accounting;
    Totals {
        observed: meters.passed_over + now.accepted.unsigned_abs(),
        accepted: now.accepted.unsigned_abs(),
        delivered: now.delivered.unsigned_abs(),
        coalesced: now.coalesced.unsigned_abs(),
        unchanged: now.unchanged.unsigned_abs(),
        dead: now.dead.unsigned_abs(),
        dropped: now.dropped.unsigned_abs(),
        queued: truth.recount.queued.total().unsigned_abs(),
        lost: truth.differences.len() as u64,
        resolved: truth.resolved as u64,
        gone: truth.gone as u64,
        open: (truth.findings - truth.resolved) as u64,
        hub_requests: truth.stats.import_requests,
        hub_requests_allowed: allowed_requests(run) * lanes as u64,
        sweeps: meters.sweeps_total,
    }
}

/// What one lane's quota lets through in that time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an hour at most")]
fn allowed_requests(time: Duration) -> u64 {
    let Some(quota) = Quotas::default().import else { return u64::MAX };
    (quota.burst + quota.per_second * time.as_secs_f64()) as u64
}

impl Facts<'_> {
    fn checks(&self, world: &World) -> Vec<Check> {
        vec![
            self.truth.nothing_lost(self.evidence.is_settled),
            self.truth.accounted(),
            self.truth.receipts(),
            self.truth.order(),
            self.truth.poison(),
            independent(&self.lanes),
            self.truth.quota(),
            bounded(&self.lanes),
            self.restart(),
            self.recovered(),
            self.events(),
            gone(world),
            self.truth.rules(),
        ]
    }

    fn restart(&self) -> Check {
        let (before, after) = self.evidence.waiting_over_restart;
        Check {
            name: "what waits survives a restart",
            held: before > 0 && after >= before,
            detail: format!(
                "{before} waited before, {after} after; back in {}",
                seconds(self.evidence.restart)
            ),
        }
    }

    fn events(&self) -> Check {
        let interval = seconds(self.evidence.poll_interval);
        Check {
            name: "an event is told without a sweep",
            held: self.event_latency.is_some_and(|it| it.p50 < self.evidence.poll_interval),
            detail: match self.event_latency {
                Some(it) => format!(
                    "half of {} events were in the hub within {}, sweeps were {interval} apart",
                    it.events,
                    seconds(it.p50)
                ),
                None => "no event came to a hub".into(),
            },
        }
    }

    fn recovered(&self) -> Check {
        let drains = &self.evidence.drains;
        let slowest = drains.iter().map(|drain| drain.drained_after).max().flatten();
        let backlog: u64 = drains.iter().map(|drain| drain.backlog).sum();
        let held = !drains.is_empty()
            && drains.iter().all(|drain| drain.backlog > 0 && drain.drained_after.is_some())
            && self.truth.recount.accounting.queued.total() == 0;
        Check {
            name: "the outage is survived",
            held,
            detail: format!(
                "{} without a hub, {backlog} findings waited, drained {}",
                seconds(self.evidence.outage),
                slowest.map_or("NEVER".into(), |after| format!("within {}", seconds(after)))
            ),
        }
    }
}

fn event_latency(world: &World) -> Option<EventLatency> {
    let flowing = world.lanes.iter().enumerate().filter(|(i, _)| !world.is_hit_by_outage(*i));
    EventLatency::of(
        flowing.flat_map(|(_, lane)| world.control.event_latencies(&lane.sim)).collect(),
    )
}

/// What is gone is closed, and what was only switched off isn't.
fn gone(world: &World) -> Check {
    let closed = world.lost.iter().filter(|lost| is_in_state(world, lost, "ARCHIVED")).count();
    let off: Vec<_> = world.stopped.iter().filter(|stopped| is_wanting(world, stopped)).collect();
    let open = off.iter().filter(|stopped| is_in_state(world, stopped, "ACTIVE")).count();
    let (lost, off) = (world.lost.len(), off.len());
    Check {
        name: "only what is gone is closed as gone",
        held: lost > 0 && closed == lost && open == off,
        detail: format!(
            "{lost} nodes vanished, {closed} are closed; {off} were stopped, {open} stay open"
        ),
    }
}

/// Whether all findings of the node are; one that vanished before its finding was sent has none.
fn is_in_state(world: &World, (lane, node): &(usize, String), state: &str) -> bool {
    let findings = world.control.hub(&world.lanes[*lane].sim);
    let mut of_node = findings.iter().filter(|it| it.resource_id.ends_with(node.as_str()));
    of_node.all(|finding| finding.record_state == state)
}

/// Whether patches are missing on the node.
fn is_wanting(world: &World, (lane, node): &(usize, String)) -> bool {
    let fleet = world.control.fleet(&world.lanes[*lane].sim);
    fleet.iter().any(|it| it.id == *node && it.is_non_compliant)
}

/// The lanes that were not out went on delivering.
pub(crate) fn independent(lanes: &[LaneSummary]) -> Check {
    let of = |was_out: bool| lanes.iter().filter(move |lane| lane.was_out == was_out);
    let flowing: Vec<String> = of(false).map(|it| it.delivered_in_outage.to_string()).collect();
    Check {
        name: "lanes are independent",
        held: of(false).all(|lane| lane.delivered_in_outage > 0),
        detail: format!(
            "during the outage the lanes of the other Region delivered {}",
            flowing.join(" and ")
        ),
    }
}

/// No lane had more waiting than it has nodes.
pub(crate) fn bounded(lanes: &[LaneSummary]) -> Check {
    let out = lanes.iter().filter(|lane| lane.was_out);
    let most: Vec<String> =
        out.map(|it| format!("{} for {} nodes", it.waiting_max, it.nodes)).collect();
    Check {
        name: "one waiting version per finding at most",
        held: lanes.iter().all(|lane| lane.waiting_max <= lane.nodes),
        detail: format!("at most {} waited in the Region that was out", most.join(" and ")),
    }
}
