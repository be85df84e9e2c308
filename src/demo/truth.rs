//! What is true when all is quiet, and the guarantees that follow from it alone: from the
//! simulator's own books, and from a recount of what is stored.
//!
//! Deliberately doesn't know: what happened before. Demo and drill judge that themselves.

use super::{Check, daemon, world::World};
use crate::{
    queue::{DeadFilter, QueueError, Queues, Recount},
    record::{DeadLetter, UnixMillis},
    simulator::{HubFinding, Stats},
};

/// More letters than this are not told apart: a few are expected.
const LETTERS_MAX: usize = 1_000;

/// See the module.
pub(crate) struct Truth {
    pub recount: Recount,
    pub letters: Vec<DeadLetter>,
    /// Where the hubs don't hold what the fleets are, a sentence each.
    pub differences: Vec<String>,
    pub stats: Stats,
    /// Findings in all hubs.
    pub findings: usize,
    /// Those of them that are ARCHIVED.
    pub resolved: usize,
    /// Those of them whose nodes are gone.
    pub gone: usize,
    /// Nodes that have been scanned.
    scanned: usize,
    out_of_order: usize,
    /// Findings whose version in the hub isn't the one that the ledger has a receipt for.
    without_receipt: usize,
    /// Lanes and nodes of the poison.
    poisoned: Vec<(String, String)>,
}

impl Truth {
    pub async fn gather(queues: &Queues, world: &World) -> Result<Self, QueueError> {
        let hubs: Vec<Vec<HubFinding>> =
            world.lanes.iter().map(|lane| world.control.hub(&lane.sim)).collect();
        let all = || hubs.iter().flatten();
        let recount = queues.recount().await?;
        let fleets = world.lanes.iter().map(|lane| world.control.fleet(&lane.sim));
        Ok(Self {
            recount,
            letters: queues.dead_letters(DeadFilter::default(), LETTERS_MAX).await?,
            differences: world.control.differences_total(),
            stats: world.control.stats_total(),
            findings: all().count(),
            resolved: all().filter(|it| it.record_state == "ARCHIVED").count(),
            gone: all().filter(|it| it.compliance_status == "NOT_AVAILABLE").count(),
            scanned: fleets.map(|it| it.iter().filter(|node| node.is_scanned).count()).sum(),
            out_of_order: all().filter(|finding| !is_in_order(finding)).count(),
            without_receipt: without_receipt(queues, world, &hubs).await?,
            poisoned: world
                .poisoned
                .iter()
                .map(|(lane, node)| (world.lanes[*lane].sim.to_string(), node.clone()))
                .collect(),
        })
    }

    pub fn nothing_lost(&self, is_settled: bool) -> Check {
        Check {
            name: "nothing is lost",
            held: self.differences.is_empty() && is_settled && self.findings > 0,
            detail: format!(
                "{} of {} scanned nodes differ from what the hubs hold{}",
                self.differences.len(),
                self.scanned,
                if is_settled { "" } else { "; it did NOT come to rest" }
            ),
        }
    }

    pub fn accounted(&self) -> Check {
        let (now, recount) = (&self.recount.accounting, &self.recount);
        let agrees = recount.agrees();
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

    pub fn receipts(&self) -> Check {
        Check {
            name: "every delivery has its receipt",
            held: self.without_receipt == 0,
            detail: format!(
                "{} findings in the hubs, {} not in the version that has a receipt",
                self.findings, self.without_receipt
            ),
        }
    }

    pub fn order(&self) -> Check {
        Check {
            name: "order is kept per node",
            held: self.out_of_order == 0 && self.stats.rewritten_history == 0,
            detail: format!(
                "{} findings out of order, {} rewritten; {} harmless re-sends",
                self.out_of_order, self.stats.rewritten_history, self.stats.ignored_updates
            ),
        }
    }

    pub fn poison(&self) -> Check {
        let others = self.unexpected_dead().count();
        let expected = self.poisoned.len();
        let letters = if self.letters.len() == 1 { "letter" } else { "letters" };
        Check {
            name: "only the poison is dead",
            held: others == 0 && self.letters.len() == expected,
            detail: format!(
                "{} dead {letters} for {expected} poisoned, {others} of other nodes",
                self.letters.len()
            ),
        }
    }

    /// Dead letters of nodes that nobody poisoned.
    pub fn unexpected_dead(&self) -> impl Iterator<Item = &DeadLetter> {
        self.letters.iter().filter(|letter| {
            let lane = letter.lane.to_string();
            !self.poisoned.iter().any(|(its, node)| *its == lane && letter.node.as_str() == node)
        })
    }

    pub fn quota(&self) -> Check {
        Check {
            name: "the quota is never exceeded",
            held: self.stats.over_quota == 0,
            detail: format!(
                "{} of {} requests were over quota, {} were throttled by others' use",
                self.stats.over_quota, self.stats.import_requests, self.stats.throttled
            ),
        }
    }

    pub fn rules(&self) -> Check {
        let violations = self.stats.violations();
        let requests: u64 = self.stats.requests.values().sum();
        Check {
            name: "AWS's rules are kept",
            held: violations.is_empty(),
            detail: if violations.is_empty() {
                format!("{requests} requests, none that the simulated AWS objected to")
            } else {
                violations.join("; ")
            },
        }
    }
}

/// A dead letter in a sentence.
pub(crate) fn describe(letter: &DeadLetter) -> String {
    let DeadLetter { lane, node, stage, reason, count, message, .. } = letter;
    format!("{lane} {node}: {count} died in {stage} as {reason}: {message}")
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
    queues: &Queues,
    world: &World,
    hubs: &[Vec<HubFinding>],
) -> Result<usize, QueueError> {
    let mut without = 0;
    for (world_lane, findings) in world.lanes.iter().zip(hubs) {
        let lane = daemon::lane(&world_lane.sim);
        for finding in findings {
            let node = finding.resource_id.rsplit('/').next().unwrap_or_default();
            let (_, acked) = queues.ledger(&lane, node).await?;
            let acked_at_ms = acked.map(|acked| acked.receipt.updated_at.0);
            without += usize::from(acked_at_ms != Some(finding.updated_at_ms));
        }
    }
    Ok(without)
}
