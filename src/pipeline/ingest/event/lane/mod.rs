//! One lane's hints: each node is read and accepted, then its messages are done.
//!
//! Hints on the same node are one. Many nodes at once are left to a sweep, which reads fifty with a
//! request: then their messages are done once a sweep that began later has seen the node. A node
//! that SSM can't tell of yet has its messages put back; if SSM as a whole can't be read, so have
//! all, and the next one that comes probes.
//!
//! A sweep that is under way is no hindrance: both take their tokens from the lane's limiter.
//!
//! `look` reads nodes, `work` is what was heard and has not ended.

mod look;
mod work;

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::work::Work;
use super::{
    Hint,
    awaited::{Awaited, Swept},
};
use crate::{
    aws::{AwsError, Fault},
    metrics::{EventOutcome, Metrics},
    pipeline::ingest::{IngestError, LaneReads, SweepStatus},
    queue::{QueueError, Queues},
    record::{Lane, UnixMillis},
};

/// As many nodes are never too many to be read one by one.
const STORM_NODES_MIN: usize = 50;
/// A sweep takes two requests for fifty nodes of the lane, a node that is read alone at least one.
const LANE_NODES_PER_NODE: usize = 25;
/// Of a lane that wasn't swept yet: SSM's default quota of nodes.
const LANE_NODES_UNKNOWN: usize = 2_400;

/// See the module.
pub struct LaneEvents {
    pub reads: Arc<LaneReads>,
    pub patch_details: bool,
    pub sweeps: watch::Receiver<SweepStatus>,
    /// Has the lane swept at once.
    pub trigger: Arc<Notify>,
    pub awaited: Arc<Awaited>,
    pub hints: mpsc::Receiver<Hint>,
}

impl LaneEvents {
    /// Until shutdown, or until the store has failed.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut work = Work::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                hint = self.hints.recv() => match hint {
                    Some(hint) => work.add(hint),
                    None => return Ok(()),
                },
                () = self.awaited.ended() => {}
            }
            loop {
                while let Ok(hint) = self.hints.try_recv() {
                    work.add(hint);
                }
                self.take_swept(&mut work);
                if work.is_idle() {
                    break;
                }
                // What is cut leaves its messages in the queue.
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    turned = self.turn(&mut work) => turned?,
                }
            }
        }
    }

    fn lane(&self) -> &Lane {
        self.reads.lane()
    }

    fn queues(&self) -> &Queues {
        self.reads.queues()
    }

    fn metrics(&self) -> &Metrics {
        self.reads.metrics()
    }

    /// Some of the nodes, or all of them left to a sweep, put back, or of no interest.
    async fn turn(&self, work: &mut Work) -> Result<(), QueueError> {
        if self.reads.session().is_dormant() {
            // The sweep that begins when it wakes sees them all.
            let now = self.now();
            work.drain_all(|heard| heard.done(EventOutcome::Ignored, self.metrics(), now));
            self.awaited.clear();
            return Ok(());
        }
        let paused = self.queues().lane(self.lane()).ingest_paused().is_some();
        if paused || work.is_troubled() {
            work.drain_all(|heard| heard.put_back(self.metrics()));
            self.awaited.clear();
            return Ok(());
        }
        let (group, outcome) = if let Some(gone) = work.next_gone() {
            self.gone(gone).await
        } else {
            if work.to_read.len() > self.storm_nodes_min() {
                self.leave_to_sweep(work);
                return Ok(());
            }
            self.read(work.next_to_read()).await
        };
        match outcome {
            Ok(()) => self.recovered(work),
            Err(IngestError::Queue(error)) if error.is_fatal() => return Err(error),
            Err(error) => self.troubled(work, &error).await,
        }
        for (_, heard) in group {
            heard.put_back(self.metrics());
        }
        Ok(())
    }

    fn storm_nodes_min(&self) -> usize {
        let status = self.sweeps.borrow();
        let nodes = if status.complete > 0 { status.last_report.nodes } else { LANE_NODES_UNKNOWN };
        (nodes / LANE_NODES_PER_NODE).max(STORM_NODES_MIN)
    }

    fn leave_to_sweep(&self, work: &mut Work) {
        let nodes = work.to_read.len();
        tracing::info!(lane = %self.lane(), nodes, "events tell of many nodes at once: a sweep reads them");
        for node in std::mem::take(&mut work.to_read) {
            let Some(heard) = work.heard.remove(&node) else { continue };
            self.awaited.ask(node.clone());
            work.swept.entry(node).or_default().merge(heard);
        }
        self.trigger.notify_one();
    }

    fn take_swept(&self, work: &mut Work) {
        for (node, swept) in self.awaited.take_ended() {
            let Some(heard) = work.swept.remove(&node) else { continue };
            match swept {
                Swept::Seen => heard.done(EventOutcome::Swept, self.metrics(), self.now()),
                // Not read one by one at once: so many that are unknown would be the next sweep.
                Swept::Unseen => heard.put_back_or_give_up(self.metrics()),
                Swept::Failed => heard.put_back(self.metrics()),
            }
        }
    }

    fn now(&self) -> UnixMillis {
        self.queues().clock().now()
    }

    /// The lane can be read.
    fn recovered(&self, work: &mut Work) {
        work.backoff.reset();
        if std::mem::take(&mut work.trouble).is_some() {
            tracing::info!(lane = %self.lane(), "nodes that events tell of can be read again");
        }
    }

    async fn troubled(&self, work: &mut Work, error: &IngestError) {
        let wait = work.backoff.next_delay();
        if work.trouble.replace(Instant::now() + wait).is_none() {
            tracing::warn!(lane = %self.lane(), %error, "nodes that events tell of can't be read: their messages stay in the queue");
        }
        if matches!(error, IngestError::Aws(AwsError { fault: Fault::Held { .. }, .. })) {
            self.reads.session().renew().await;
        }
    }
}
