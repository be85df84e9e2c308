//! The life of a finding: what, if anything, the hub is to be told about an assessment.
//!
//! Pure over the ledger: [`decide`] compares the assessment with `desired`, never with what the
//! hub acknowledged (but for a refresh, which is about that), and never calls out. The stage runs
//! it inside the committer, item by item, so that of two assessments of one node the later sees
//! what the earlier wrote.
//!
//! - [`decision`]: the table below; [`former`]: the node's finding had another name.
//! - [`draft`]: the next version, with its times; [`digest`]: which facts are worth telling.
//! - [`reopening`]: somebody has set the finding to RESOLVED.
//!
//! | desired | verdict | do |
//! |---|---|---|
//! | none or resolved | non-compliant | open or reopen |
//! | open | non-compliant, facts worth telling changed | update |
//! | open | the same facts | nothing, or refresh when it is due |
//! | open | compliant | resolve |
//! | open | gone | resolve as gone |
//! | none or resolved | compliant or gone | nothing |
//!
//! Where the ledger was completed from the hub, what is older than the hub's state isn't told at
//! all, whatever the table says: see [`Desired::outdates`].
//!
//! `UpdatedAt` is always greater than every one that was assigned to or read from the hub for the
//! finding: the hub silently ignores an equal or older one.

mod decision;
mod digest;
mod draft;
mod former;
mod reopening;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

pub(super) use self::{decision::refreshed, digest::stable_hash};
pub use decision::{Decision, Ledger, decide};

use super::stage;
use crate::{
    failpoint::{self, FailPoint},
    metrics::Metrics,
    queue::{Closing, Death, Decided, QueueError, Queues, Transition},
    record::{
        Assessment, Finding, Lane, Reason, RenderPolicy, Stage, dead_letter::DeadItem,
        observation::PatchList,
    },
    store::StoreError,
};

/// What makes two reports the same finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Node,
    /// AWS's way: each run is a finding of its own.
    Operation,
}

/// How assessments become findings.
#[derive(Clone, Debug)]
pub struct Policy {
    pub identity: Identity,
    /// Whether findings of compliant and gone nodes are resolved.
    pub resolve: bool,
    /// An unchanged open finding is told again after this long, lest the hub forget it.
    pub refresh_after: Duration,
    pub render: RenderPolicy,
}

impl Policy {
    /// Changes whenever findings would be rendered differently: every node is then told again.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let identity = match self.identity {
            Identity::Node => 0_u8,
            Identity::Operation => 1,
        };
        stable_hash(&(identity, self.resolve, &self.render))
    }
}

/// The stage: pages of assessments in, the outbox and the ledger out.
pub struct Transform {
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub policy: Arc<Policy>,
}

impl Transform {
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let queues = self.queues.clone();
        stage::run(self, queues.assessed_signal(), shutdown).await
    }
}

impl stage::Stage for Transform {
    async fn turn(&mut self) -> Result<bool, QueueError> {
        let pages = self.queues.claim_assessed(stage::CLAIM_PAGES_MAX).await?;
        if pages.is_empty() {
            return Ok(false);
        }
        let began = Instant::now();
        let policy = Arc::clone(&self.policy);
        let coalesces = policy.identity == Identity::Node;
        failpoint::reach(FailPoint::TransformBeforeSettle);
        self.queues
            .settle_assessed(pages, coalesces, move |step, lane, assessment| {
                judge(step, lane, assessment, &policy)
            })
            .await?;
        self.metrics.stage_seconds[Stage::Transform].record(began.elapsed().as_secs_f64());
        Ok(true)
    }
}

/// One item, in the committer: reads the ledger, decides, writes.
fn judge(
    step: &mut Transition<'_, '_>,
    lane: &Lane,
    assessment: Assessment,
    policy: &Policy,
) -> Result<(), StoreError> {
    let node = assessment.node.as_str();
    let stored = step.desired(lane, node)?;
    let reopening = step.reopening(lane, node)?;
    // While its finding is closed to be opened again, the node is judged by what follows.
    let believed = reopening::believed(stored.as_ref(), reopening.as_ref());
    let desired = believed.as_ref().or(stored.as_ref());
    let acked = match desired {
        Some(desired) if desired.finding.state.is_open() => step.acked(lane, node)?,
        _ => None,
    };
    let floor_unknown = match desired {
        Some(_) => false,
        None => step.lane_row(lane)?.read_back.is_denied(),
    };
    let ledger = Ledger { lane, desired, acked: acked.as_ref(), floor_unknown };
    // What still waits under a former name takes no other's place, and must not be told.
    let is_renamed = former::named_otherwise(ledger, policy).is_some();
    let now = step.now();
    let decided = catch_unwind(AssertUnwindSafe(|| decide(ledger, &assessment, policy, now)));
    let patches = assessment.facts.patches.as_ref();
    match decided {
        Ok(Decision::Superseded) => step.superseded(lane, node, patches),
        Ok(Decision::Outdated) => step.outdated(lane, node, patches),
        Ok(Decision::Nothing) => {
            reopening::judged(step, lane, reopening.as_ref(), &assessment, false)?;
            step.unchanged(lane, node, assessment.read, patches)
        }
        Ok(Decision::Send { finding, digest, .. })
            if reopening::follows(reopening.as_ref(), &finding, lane) =>
        {
            let unused = unused_patches(&finding, &assessment);
            let read = assessment.read;
            reopening::follow(step, lane, reopening, Closing { finding, digest, read })?;
            step.drop_patches(lane, node, unused.as_ref())
        }
        Ok(Decision::Send { finding, digest, close }) => {
            reopening::judged(step, lane, reopening.as_ref(), &assessment, true)?;
            if let Some(close) = close {
                step.send_derived(lane, *close)?;
            }
            let coalesces = policy.identity == Identity::Node || is_renamed;
            let unused = unused_patches(&finding, &assessment);
            let decided = Decided { finding: *finding, read: assessment.read, digest, coalesces };
            step.send(lane, stored.as_ref(), decided)?;
            step.drop_patches(lane, node, unused.as_ref())
        }
        Err(_) => step.bury(lane, panicked(assessment)),
    }
}

/// The assessment's patches, if the finding goes without them.
fn unused_patches(finding: &Finding, assessment: &Assessment) -> Option<PatchList> {
    let patches = &assessment.facts.patches;
    patches.clone().filter(|_| finding.facts.patches != *patches)
}

fn panicked(assessment: Assessment) -> Death {
    Death {
        node: assessment.node.as_str().into(),
        stage: Stage::Transform,
        reason: Reason::Panicked,
        message: "transform panicked on this assessment: please report it".into(),
        item: DeadItem::Assessment(Box::new(assessment)),
        count: 1,
    }
}

#[cfg(test)]
mod tests;
