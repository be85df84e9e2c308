//! Which queues events come from, and which lane hears of them: a task for each queue, and one for
//! each lane that is served.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::lanes::{ServedLane, Shared, assumed};
use crate::{
    config::QueueConfig,
    metrics::EventQueueState,
    pipeline::ingest::event::{
        EventQueue, EventQueueStatus, LANE_HINTS_MAX, LaneEvents, QueueSource, Routes,
    },
    queue::QueueError,
};

/// A queue that is read, and how to look at it.
pub struct ServedQueue {
    /// `account/region/name`.
    pub name: String,
    pub status: watch::Receiver<EventQueueStatus>,
}

/// Starts nothing where no queue is configured.
pub(super) fn spawn(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    lanes: &[ServedLane],
    shared: &Shared<'_>,
    shutdown: &CancellationToken,
) -> Vec<ServedQueue> {
    let config = shared.config;
    if config.queues.is_empty() {
        return Vec::new();
    }
    let mut routes = Routes::with_capacity(lanes.len());
    for served in lanes {
        let (sender, hints) = mpsc::channel(LANE_HINTS_MAX);
        routes.insert(served.lane.clone(), sender);
        let lane = LaneEvents {
            reads: Arc::clone(&served.reads),
            patch_details: config.ingest.patch_details,
            sweeps: served.sweeps.clone(),
            trigger: Arc::clone(&served.trigger),
            awaited: Arc::clone(&served.awaited),
            hints,
        };
        tasks.spawn(lane.run(shutdown.clone()));
    }
    let routes = Arc::new(routes);
    let spawn_one =
        |queue: &QueueConfig| spawn_queue(tasks, queue, Arc::clone(&routes), shared, shutdown);
    config.queues.iter().map(spawn_one).collect()
}

fn spawn_queue(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    queue: &QueueConfig,
    routes: Arc<Routes>,
    shared: &Shared<'_>,
    shutdown: &CancellationToken,
) -> ServedQueue {
    let source = QueueSource {
        aws: Arc::clone(&shared.aws),
        url: queue.url.clone(),
        account: queue.account,
        region: queue.region.clone(),
        role: queue.role.clone().map(assumed),
    };
    let (name, since) = (source.name(), shared.queues.clock().now());
    let (sender, status) =
        watch::channel(EventQueueStatus { state: EventQueueState::Reading, since, note: None });
    let queue = EventQueue {
        source,
        routes,
        queues: shared.queues.clone(),
        metrics: Arc::clone(shared.metrics),
        probe_interval: shared.config.deliver.probe_interval,
        status: sender,
    };
    tasks.spawn(queue.run(shutdown.clone()));
    ServedQueue { name, status }
}
