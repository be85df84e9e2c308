//! Nodes that are gone: proven, never concluded from absence alone.
//!
//! After a complete sweep the nodes with an open finding that neither list has named are suspects.
//! Each is asked about ([`ask`]); what is proven gone is accepted as an observation, which resolves
//! the finding. A stopped node is answered as existing. What can't be asked about, for want of the
//! permission, is gone when it has been absent for [`Settings::gone_after`], without a gap, on disk.
//!
//! Guarantees:
//! - A sweep that isn't complete proves nothing; what it has met is known not to be absent.
//! - If so many are gone at once that it can't be believed, none is resolved until somebody says
//!   so ([`GoneGate::accept`]); a mass that takes several sweeps to ask about counts as one.
//! - A node that exists and isn't reported any more has its finding refreshed all the same, lest
//!   the hub forget it.
//! - Requests of one sweep are bounded; the next goes on where this one ended. Whatever goes wrong
//!   here costs nothing but time, and the sweep stands.
//!
//! Findings of nodes that only ever came from a file are left alone: no list has ever named them,
//! so that none names them now says nothing.
//!
//! Deliberately doesn't know: how a finding is resolved.

mod ask;
mod gate;
mod plan;
mod presence;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

pub use self::gate::GoneGate;
pub(super) use self::presence::Presence;
use self::{
    ask::{End, Round},
    plan::Verdict,
};
use super::{
    error::IngestError,
    look::{Look, Named},
    reads::LaneReads,
};
use crate::{
    pipeline::{
        limiter::{Limiter, SharedLimiter},
        transform,
    },
    queue::{Absence, Unreported},
    record::{NodeId, NodeKind, Source, UnixMillis, observation::GoneReason},
};

/// Cloud Control requests that may go out at once after a quiet time.
const BURST_REQUESTS: u32 = 4;
/// EC2 nodes that one sweep asks about: two minutes at the default rate.
const ASKED_MAX: usize = 240;
/// A node that was said to exist is asked about again after this.
const ANSWER_LIFE: Duration = Duration::from_secs(3_600);
/// Whether the permission is there now is tried again after this.
const DENIAL_LIFE: Duration = Duration::from_secs(86_400);
/// Nodes accepted as gone in one commit.
const STEP_NODES_MAX: usize = 500;

/// What is done about absent nodes; checked by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether findings are resolved at all.
    pub resolves: bool,
    /// Whether Cloud Control may be asked.
    pub asks_cloud_control: bool,
    /// Absence after which a node that can't be asked about is gone.
    pub gone_after: Duration,
    /// Whether findings of nodes that exist and aren't reported are refreshed, and when.
    pub refresh_after: Option<Duration>,
    pub cloud_control_requests_per_second: f64,
}

/// What a complete sweep led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoneReport {
    /// Nodes accepted as gone.
    pub gone: usize,
    /// Nodes proven gone, too many at once to be believed.
    pub withheld: usize,
    /// Nodes that are absent and aren't known to be gone.
    pub suspects: usize,
}

/// What was answered about a suspect.
#[derive(Clone, Copy)]
struct Answer {
    at: UnixMillis,
    /// `None`: it exists.
    gone: Option<(GoneReason, Named)>,
}

/// One lane's watch over absent nodes. In memory it has only answers, which are asked for again
/// after a restart.
pub struct GoneWatch {
    settings: Settings,
    gate: Arc<GoneGate>,
    limiter: SharedLimiter,
    /// Of suspects only.
    answers: HashMap<String, Answer>,
    denied_at: Option<UnixMillis>,
    withheld: usize,
}

/// The suspects, apart by how they are asked about.
struct Suspects {
    ec2: Vec<NodeId>,
    hybrid: Vec<NodeId>,
}

impl GoneWatch {
    #[must_use]
    pub fn new(settings: Settings, gate: Arc<GoneGate>) -> Self {
        let rate = settings.cloud_control_requests_per_second;
        let limiter = Limiter::new(rate, BURST_REQUESTS, Instant::now());
        Self {
            settings,
            gate,
            limiter: SharedLimiter::new(limiter),
            answers: HashMap::new(),
            denied_at: None,
            withheld: 0,
        }
    }

    /// After a sweep that wasn't complete: what it has met isn't absent.
    pub(super) async fn after_part(
        &mut self,
        reads: &LaneReads,
        met: &Presence,
    ) -> Result<(), IngestError> {
        self.answers.retain(|node, _| !met.is_present(node));
        let absences = reads.queues().absences(reads.lane()).await?;
        let ended = absences.into_keys().filter(|node| met.is_present(node));
        let notes = ended.map(|node| (node, None)).collect();
        Ok(reads.queues().note_absences(reads.lane(), notes).await?)
    }

    /// After a complete sweep.
    pub(super) async fn after_all(
        &mut self,
        reads: &LaneReads,
        met: Arc<Presence>,
    ) -> Result<GoneReport, IngestError> {
        if met.is_cut_off {
            self.after_part(reads, &met).await?;
            return Ok(GoneReport::default());
        }
        let (queues, lane) = (reads.queues(), reads.lane());
        let reported = Arc::clone(&met);
        let open = queues.open_findings(lane, move |node| reported.is_reported(node)).await?;
        let (managed, absent): (Vec<Unreported>, Vec<Unreported>) =
            open.unreported.into_iter().partition(|it| met.is_managed(&it.node));
        let suspects = if self.settings.resolves { suspects(absent) } else { suspects(Vec::new()) };
        self.forget_all_but(&suspects);

        let can_ask = self.ask(reads, &met, &suspects).await?;
        let now = queues.clock().now();
        let mut proven = self.proven();
        proven.extend(self.absent_too_long(reads, &suspects, now).await?);
        let unknown = if can_ask { self.unknown(&suspects.ec2) } else { 0 };
        let existing = self.existing(managed);
        let report = self.settle(reads, proven, unknown, open.total).await?;
        self.refresh(reads, existing).await?;
        let suspects = suspects.ec2.len() + suspects.hybrid.len() - report.gone;
        Ok(GoneReport { suspects, ..report })
    }

    /// Answers are kept of suspects only: whoever was met since is asked about anew.
    fn forget_all_but(&mut self, suspects: &Suspects) {
        let suspects: HashSet<&str> =
            suspects.ec2.iter().chain(&suspects.hybrid).map(NodeId::as_str).collect();
        self.answers.retain(|node, _| suspects.contains(node.as_str()));
    }

    /// Asks about the suspects; whether Cloud Control has answered or may answer yet.
    async fn ask(
        &mut self,
        reads: &LaneReads,
        met: &Presence,
        suspects: &Suspects,
    ) -> Result<bool, IngestError> {
        if let Some(witness) = met.witness()
            && !suspects.hybrid.is_empty()
        {
            let told = named(reads).await?;
            let round = ask::ask_ssm(reads, witness, &suspects.hybrid).await?;
            self.note(round.answers, GoneReason::Deregistered, told);
            stop_if_paused(&round.end)?;
        }
        let now = reads.queues().clock().now();
        let due = self.due(&suspects.ec2, now);
        let was_denied = self.denied_at.is_some_and(|at| now.since(at) <= DENIAL_LIFE);
        if due.is_empty() {
            return Ok(self.settings.asks_cloud_control && !was_denied);
        }
        if !self.settings.asks_cloud_control || was_denied {
            return Ok(false);
        }
        let told = named(reads).await?;
        let Round { answers, end } = ask::ask_cloud_control(reads, &self.limiter, due).await?;
        let is_answered = !answers.is_empty();
        self.note(answers, GoneReason::Terminated, told);
        stop_if_paused(&end)?;
        self.tell(reads, &end, now, is_answered);
        Ok(is_answered)
    }

    fn note(&mut self, answers: Vec<(NodeId, bool)>, reason: GoneReason, named: Named) {
        for (node, exists) in answers {
            let gone = (!exists).then_some((reason, named));
            self.answers.insert(node.to_string(), Answer { at: named.at, gone });
        }
    }

    /// EC2 nodes that aren't answered for, those asked about longest ago last.
    fn due(&self, nodes: &[NodeId], now: UnixMillis) -> Vec<NodeId> {
        let asked_at = |node: &NodeId| self.answers.get(node.as_str()).map(|answer| answer.at);
        let mut due: Vec<&NodeId> =
            nodes.iter().filter(|node| self.known(node, now).is_none()).collect();
        due.sort_by_key(|node| asked_at(node));
        due.into_iter().take(ASKED_MAX).cloned().collect()
    }

    /// What is known of a node: that it is gone, for good; that it exists, for a while.
    fn known(&self, node: &NodeId, now: UnixMillis) -> Option<&Answer> {
        let is_known =
            |answer: &&Answer| answer.gone.is_some() || now.since(answer.at) <= ANSWER_LIFE;
        self.answers.get(node.as_str()).filter(is_known)
    }

    /// A permission that is missing is told once, and when it is there.
    fn tell(&mut self, reads: &LaneReads, end: &End, now: UnixMillis, is_answered: bool) {
        let lane = reads.lane();
        match end {
            End::Denied(error) => {
                if self.denied_at.is_none() {
                    let days = self.settings.gone_after.as_secs() / 86_400;
                    tracing::warn!(%lane, %error, "whether EC2 nodes still exist can't be asked: those that SSM no longer lists count as gone after {days} days");
                }
                self.denied_at = Some(now);
            }
            End::GaveUp(error) => {
                tracing::info!(%lane, %error, "not all nodes that SSM no longer lists could be asked about: the next sweep goes on");
            }
            End::Done | End::Paused => {}
        }
        if is_answered && self.denied_at.take_if(|at| *at != now).is_some() {
            tracing::info!(%lane, "whether EC2 nodes still exist can be asked now");
        }
    }

    /// Those that were answered to be gone.
    fn proven(&self) -> Vec<(String, GoneReason, Named)> {
        let gone = self.answers.iter().filter_map(|(node, answer)| {
            let (reason, named) = answer.gone?;
            Some((node.clone(), reason, named))
        });
        gone.collect()
    }

    /// Keeps the absences on disk of those that nobody could say anything about; the ones that have
    /// been absent for too long.
    async fn absent_too_long(
        &self,
        reads: &LaneReads,
        suspects: &Suspects,
        now: UnixMillis,
    ) -> Result<Vec<(String, GoneReason, Named)>, IngestError> {
        let (queues, lane) = (reads.queues(), reads.lane());
        let mut absences = queues.absences(lane).await?;
        let mut notes: Vec<(String, Option<Absence>)> = Vec::new();
        let mut gone = Vec::new();
        let told = named(reads).await?;
        for node in suspects.ec2.iter().chain(&suspects.hybrid) {
            if self.known(node, now).is_some() {
                continue;
            }
            let node = node.to_string();
            let before = absences.remove(&node);
            let after = plan::confirmed(before, now);
            if after.confirmed_at.since(after.since) >= self.settings.gone_after {
                gone.push((node.clone(), GoneReason::AbsentTooLong, told));
            }
            if plan::is_news(before, after) {
                notes.push((node, Some(after)));
            }
        }
        // The rest was met, was answered for, or has no open finding any more.
        notes.extend(absences.into_keys().map(|node| (node, None)));
        queues.note_absences(lane, notes).await?;
        Ok(gone)
    }

    /// EC2 nodes that were never answered for.
    fn unknown(&self, nodes: &[NodeId]) -> usize {
        nodes.iter().filter(|node| !self.answers.contains_key(node.as_str())).count()
    }

    /// Nodes that exist though nothing is reported of them.
    fn existing(&self, managed: Vec<Unreported>) -> Vec<String> {
        let answered = self.answers.iter().filter(|(_, answer)| answer.gone.is_none());
        let managed = managed.into_iter().map(|it| it.node);
        managed.chain(answered.map(|(node, _)| node.clone())).collect()
    }

    /// Accepts that nodes are gone, if that can be believed.
    async fn settle(
        &mut self,
        reads: &LaneReads,
        proven: Vec<(String, GoneReason, Named)>,
        unknown: usize,
        open: usize,
    ) -> Result<GoneReport, IngestError> {
        let now = reads.queues().clock().now();
        let is_accepted = self.gate.is_open(now);
        let verdict = plan::judge(proven.len(), unknown, open, is_accepted);
        let withheld = if verdict == Verdict::Withhold { proven.len() } else { 0 };
        self.show(reads, withheld, open);
        if verdict != Verdict::Resolve {
            return Ok(GoneReport { withheld, ..GoneReport::default() });
        }
        let gone = self.accept(reads, proven).await?;
        if is_accepted && unknown == 0 {
            self.gate.close();
        }
        Ok(GoneReport { gone, ..GoneReport::default() })
    }

    async fn accept(
        &mut self,
        reads: &LaneReads,
        proven: Vec<(String, GoneReason, Named)>,
    ) -> Result<usize, IngestError> {
        let mut by_read: BTreeMap<_, (Named, Vec<(String, GoneReason)>)> = BTreeMap::new();
        for (node, reason, named) in proven {
            let (_, nodes) = by_read.entry(named.read).or_insert_with(|| (named, Vec::new()));
            nodes.push((node, reason));
        }
        let look = Look::new(reads, Source::Sweep, false);
        let mut accepted = 0;
        for (named, nodes) in by_read.into_values() {
            for nodes in nodes.chunks(STEP_NODES_MAX) {
                let told = nodes.iter().map(|(node, reason)| (node.as_str().into(), *reason));
                accepted += look.accept_gone(told.collect(), named).await?;
                // Should it be superseded by something newer, it is asked about again.
                for (node, _) in nodes {
                    self.answers.remove(node);
                }
            }
        }
        Ok(accepted)
    }

    fn show(&mut self, reads: &LaneReads, withheld: usize, open: usize) {
        let lane = reads.lane();
        if withheld > 0 && withheld != self.withheld {
            tracing::warn!(%lane, nodes = withheld, open_findings = open, "too many nodes are gone at once to be believed, none is resolved until somebody accepts that they are: `patchferry reconcile --accept-gone`, with this --lane");
        } else if withheld == 0 && self.withheld > 0 {
            tracing::info!(%lane, "no nodes are withheld as gone any more");
        }
        self.withheld = withheld;
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        reads.metrics().lane(lane).gone_withheld_nodes.set(withheld as f64);
    }

    async fn refresh(&self, reads: &LaneReads, nodes: Vec<String>) -> Result<(), IngestError> {
        let Some(refresh_after) = self.settings.refresh_after else { return Ok(()) };
        if nodes.is_empty() {
            return Ok(());
        }
        let renew = move |desired: &_, acked: Option<&_>, now| {
            transform::refreshed(desired, acked, refresh_after, now)
        };
        let told = reads.queues().retell(reads.lane(), nodes, renew).await?;
        if told > 0 {
            tracing::debug!(lane = %reads.lane(), told, "findings of nodes that aren't reported any more are refreshed");
        }
        Ok(())
    }
}

/// Absent nodes that some list has named before.
fn suspects(absent: Vec<Unreported>) -> Suspects {
    let known = absent.into_iter().filter(|it| it.was_listed || it.source != Source::File);
    let nodes = known.filter_map(|it| it.node.parse::<NodeId>().ok());
    let (hybrid, ec2) = nodes.partition(|node| node.kind() == NodeKind::Hybrid);
    Suspects { ec2, hybrid }
}

/// The read that answers count as: older than whatever is read from now on.
async fn named(reads: &LaneReads) -> Result<Named, IngestError> {
    let read = reads.queues().next_read(reads.lane()).await?;
    Ok(Named { read, at: reads.queues().clock().now() })
}

fn stop_if_paused(end: &End) -> Result<(), IngestError> {
    match end {
        End::Paused => Err(IngestError::PausedByOperator),
        End::Done | End::Denied(_) | End::GaveUp(_) => Ok(()),
    }
}
