//! What is measured while the demo runs: one look at everything, ten times a second.
//!
//! Guarantees: looking changes nothing; constant memory. Peaks are peaks of what was looked at.

use crate::{
    app::App,
    metrics::LaneState,
    queue::QueueError,
    record::{Lane, UnixMillis},
};

use super::{daemon, world::World};

/// One lane at one moment.
#[derive(Clone, Debug)]
pub(crate) struct LaneMoment {
    pub state: LaneState,
    /// Findings in the outbox, delayed ones included.
    pub waiting: u64,
    /// Versions that the hub has taken in, by its own count.
    pub delivered: u64,
    /// Since when the oldest waiting finding has waited.
    pub oldest_since: Option<UnixMillis>,
    /// Complete sweeps of the present process.
    pub sweeps: u64,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub at: UnixMillis,
    pub lanes: Vec<LaneMoment>,
    /// Items in all queues.
    pub queued: u64,
}

/// See the module.
pub(super) struct Meters {
    lanes: Vec<Lane>,
    sweeps: Vec<u64>,
    /// The most findings that were seen waiting, by lane.
    pub peaks: Vec<u64>,
    /// Nodes that sweeps found as they were before: read, and not accepted again.
    pub passed_over: u64,
    /// Sweeps in all processes.
    pub sweeps_total: u64,
}

impl Meters {
    pub fn new(world: &World) -> Self {
        let lanes: Vec<Lane> = world.lanes.iter().map(|lane| daemon::lane(&lane.sim)).collect();
        Self {
            sweeps: vec![0; lanes.len()],
            peaks: vec![0; lanes.len()],
            passed_over: 0,
            sweeps_total: 0,
            lanes,
        }
    }

    /// A new process counts its sweeps from nothing.
    pub fn restarted(&mut self) {
        self.sweeps.fill(0);
    }

    pub async fn look(&mut self, app: &App, world: &World) -> Result<Moment, QueueError> {
        let mut lanes = Vec::with_capacity(self.lanes.len());
        for index in 0..self.lanes.len() {
            lanes.push(self.look_at_lane(index, app, world).await?);
        }
        // After the sweeps: whatever a counted sweep has accepted is in this number.
        let queued = app.queues().accounting().queued.total().unsigned_abs();
        Ok(Moment { at: app.queues().clock().now(), lanes, queued })
    }

    async fn look_at_lane(
        &mut self,
        index: usize,
        app: &App,
        world: &World,
    ) -> Result<LaneMoment, QueueError> {
        let lane = &self.lanes[index];
        let served = app.lane(lane);
        if let Some(served) = &served {
            let sweeps = served.sweeps.borrow();
            let new = sweeps.complete.saturating_sub(self.sweeps[index]);
            self.sweeps[index] = sweeps.complete;
            self.sweeps_total += new;
            self.passed_over += new * sweeps.last_report.unchanged as u64;
        }
        let queue = app.queues().lane(lane);
        let waiting = (queue.outbox_findings() + queue.delayed_findings()).max(0).unsigned_abs();
        self.peaks[index] = self.peaks[index].max(waiting);
        let oldest_since =
            if waiting == 0 { None } else { app.queues().oldest_in_lane(lane).await? };
        Ok(LaneMoment {
            state: served.map(|served| served.view.borrow().state).unwrap_or_default(),
            waiting,
            delivered: world.control.stats(&world.lanes[index].sim).accepted,
            oldest_since,
            sweeps: self.sweeps[index],
        })
    }
}
