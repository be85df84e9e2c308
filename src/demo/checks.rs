//! The guarantees that a demo can check, each from evidence that the product didn't produce: the
//! simulator's own books, or a recount of what is stored.

use std::time::Duration;

use super::{
    Check, LaneSummary, Summary, Totals, daemon,
    meters::Meters,
    story::{Evidence, seconds},
    world::World,
};
use crate::{
    app::App,
    queue::{Accounting, DeadFilter, QueueError},
    record::{DeadLetter, UnixMillis},
    simulator::{HubFinding, Quotas, Stats},
};

/// Sentences shown of what differs.
const DIFFERENCES_SHOWN_MAX: usize = 10;
/// More letters than this are not told apart: one is expected.
const LETTERS_MAX: usize = 1_000;

/// Everything that the checks look at.
struct Facts<'a> {
    world: &'a World,
    evidence: &'a Evidence,
    accounting: Accounting,
    recount: crate::queue::Recount,
    letters: Vec<DeadLetter>,
    differences: Vec<String>,
    stats: Stats,
    /// Findings in all hubs.
    findings: usize,
    out_of_order: usize,
    /// Findings whose version in the hub isn't the one that the ledger has a receipt for.
    without_receipt: usize,
    lanes: Vec<LaneSummary>,
}

pub(super) async fn judge(
    app: &App,
    world: &World,
    meters: &Meters,
    evidence: &Evidence,
    run: Duration,
) -> Result<Summary, QueueError> {
    let queues = app.queues();
    let hubs: Vec<Vec<HubFinding>> =
        world.lanes.iter().map(|lane| world.control.hub(&lane.sim)).collect();
    let facts = Facts {
        world,
        evidence,
        accounting: queues.accounting(),
        recount: queues.recount().await?,
        letters: queues.dead_letters(DeadFilter::default(), LETTERS_MAX).await?,
        differences: world.control.differences_total(),
        stats: world.control.stats_total(),
        findings: hubs.iter().map(Vec::len).sum(),
        out_of_order: hubs.iter().flatten().filter(|finding| !is_in_order(finding)).count(),
        without_receipt: without_receipt(app, world, &hubs).await?,
        lanes: lanes(world, meters, evidence),
    };
    let resolved = hubs.iter().flatten().filter(|it| it.record_state == "ARCHIVED").count();
    Ok(Summary {
        run,
        first_sweep: evidence.first_sweep,
        outage: evidence.outage,
        restart: evidence.restart,
        totals: totals(&facts, meters, resolved, run),
        latencies: evidence.latencies,
        drains: evidence.drains.clone(),
        checks: facts.checks(),
        differences: facts.differences.iter().take(DIFFERENCES_SHOWN_MAX).cloned().collect(),
        unexpected_dead: facts
            .unexpected_dead()
            .take(DIFFERENCES_SHOWN_MAX)
            .map(|it| {
                let DeadLetter { lane, node, stage, reason, count, message, .. } = it;
                format!("{lane} {node}: {count} died in {stage} as {reason}: {message}")
            })
            .collect(),
        lanes: facts.lanes,
    })
}

/// The hub keeps each version's `UpdatedAt`: each is later than the one before.
fn is_in_order(finding: &HubFinding) -> bool {
    let times: Option<Vec<UnixMillis>> = finding
        .history
        .iter()
        .map(|(updated_at, _)| UnixMillis::parse_rfc3339(updated_at).ok())
        .collect();
    times.is_some_and(|times| times.is_sorted_by(|earlier, later| earlier < later))
}

async fn without_receipt(
    app: &App,
    world: &World,
    hubs: &[Vec<HubFinding>],
) -> Result<usize, QueueError> {
    let mut without = 0;
    for (world_lane, findings) in world.lanes.iter().zip(hubs) {
        let lane = daemon::lane(&world_lane.sim);
        for finding in findings {
            let node = finding.resource_id.rsplit('/').next().unwrap_or_default();
            let (_, acked) = app.queues().ledger(&lane, node).await?;
            let acked_at_ms = acked.map(|acked| acked.receipt.updated_at.0);
            without += usize::from(acked_at_ms != Some(finding.updated_at_ms));
        }
    }
    Ok(without)
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

fn totals(facts: &Facts<'_>, meters: &Meters, resolved: usize, run: Duration) -> Totals {
    let now = &facts.accounting;
    Totals {
        observed: meters.passed_over + now.accepted.unsigned_abs(),
        accepted: now.accepted.unsigned_abs(),
        delivered: now.delivered.unsigned_abs(),
        coalesced: now.coalesced.unsigned_abs(),
        unchanged: now.unchanged.unsigned_abs(),
        dead: now.dead.unsigned_abs(),
        dropped: now.dropped.unsigned_abs(),
        queued: facts.recount.queued.total().unsigned_abs(),
        lost: facts.differences.len() as u64,
        resolved: resolved as u64,
        open: (facts.findings - resolved) as u64,
        hub_requests: facts.stats.import_requests,
        hub_requests_allowed: allowed_requests(run) * facts.world.lanes.len() as u64,
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
    fn checks(&self) -> Vec<Check> {
        vec![
            self.nothing_lost(),
            self.accounted(),
            self.receipts(),
            self.order(),
            self.poison(),
            self.independent(),
            self.quota(),
            self.bounded(),
            self.restart(),
            self.recovered(),
            self.rules(),
        ]
    }

    fn nothing_lost(&self) -> Check {
        let scanned: usize = (self.world.lanes.iter())
            .map(|lane| self.world.control.fleet(&lane.sim))
            .map(|fleet| fleet.iter().filter(|node| node.is_scanned).count())
            .sum();
        Check {
            name: "nothing is lost",
            held: self.differences.is_empty() && self.evidence.is_settled && self.findings > 0,
            detail: format!(
                "{} of {scanned} scanned nodes differ from what the hubs hold",
                self.differences.len()
            ),
        }
    }

    fn accounted(&self) -> Check {
        let (now, recount) = (&self.accounting, &self.recount);
        let agrees = recount.queued == now.queued && recount.dead == now.dead;
        Check {
            name: "everything accepted is accounted for",
            held: now.imbalance() == 0 && agrees && now.accepted > 0,
            detail: format!(
                "{} accepted, {} unaccounted for; a recount of the store {}",
                now.accepted,
                now.imbalance(),
                if agrees { "agrees" } else { "DISAGREES" }
            ),
        }
    }

    fn receipts(&self) -> Check {
        Check {
            name: "every delivery has its receipt",
            held: self.without_receipt == 0,
            detail: format!(
                "{} findings in the hubs, {} not in the version that has a receipt",
                self.findings, self.without_receipt
            ),
        }
    }

    fn order(&self) -> Check {
        Check {
            name: "order is kept per node",
            held: self.out_of_order == 0 && self.stats.rewritten_history == 0,
            detail: format!(
                "{} findings out of order, {} rewritten; {} harmless re-sends",
                self.out_of_order, self.stats.rewritten_history, self.stats.ignored_updates
            ),
        }
    }

    fn poison(&self) -> Check {
        let others = self.unexpected_dead().count();
        Check {
            name: "only the poison is dead",
            held: others == 0 && self.letters.len() == 1,
            detail: format!(
                "{} dead letter, {others} of them not the poisoned node's",
                self.letters.len()
            ),
        }
    }

    fn unexpected_dead(&self) -> impl Iterator<Item = &DeadLetter> {
        let expected = self.world.poison.as_ref();
        self.letters.iter().filter(move |letter| {
            !expected.is_some_and(|(lane, node)| {
                letter.node.as_str() == node
                    && letter.lane == daemon::lane(&self.world.lanes[*lane].sim)
            })
        })
    }

    fn independent(&self) -> Check {
        let of = |was_out: bool| self.lanes.iter().filter(move |lane| lane.was_out == was_out);
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

    fn quota(&self) -> Check {
        Check {
            name: "the quota is never exceeded",
            held: self.stats.over_quota == 0,
            detail: format!(
                "{} of {} requests were over quota, {} were throttled by others' use",
                self.stats.over_quota, self.stats.import_requests, self.stats.throttled
            ),
        }
    }

    fn bounded(&self) -> Check {
        let (out, all) = (self.lanes.iter().filter(|lane| lane.was_out), self.lanes.iter());
        let most: Vec<String> =
            out.map(|it| format!("{} for {} nodes", it.waiting_max, it.nodes)).collect();
        Check {
            name: "one waiting version per finding at most",
            held: all.clone().all(|lane| lane.waiting_max <= lane.nodes),
            detail: format!("at most {} waited in the Region that was out", most.join(" and ")),
        }
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

    fn recovered(&self) -> Check {
        let drains = &self.evidence.drains;
        let slowest = drains.iter().map(|drain| drain.drained_after).max().flatten();
        let backlog: u64 = drains.iter().map(|drain| drain.backlog).sum();
        let held = !drains.is_empty()
            && drains.iter().all(|drain| drain.backlog > 0 && drain.drained_after.is_some())
            && self.accounting.queued.total() == 0;
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

    fn rules(&self) -> Check {
        let violations = self.stats.violations();
        Check {
            name: "AWS's rules are kept",
            held: violations.is_empty(),
            detail: if violations.is_empty() {
                format!("{} requests, none that the simulated AWS objected to", self.requests())
            } else {
                violations.join("; ")
            },
        }
    }

    fn requests(&self) -> u64 {
        self.stats.requests.values().sum()
    }
}
