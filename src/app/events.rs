//! Which queues events come from: a task for each. Who hears of an event is looked up when it comes,
//! since lanes may come and go.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    fleet::Fleet,
    lanes::{Shared, assume_role},
};
use crate::{
    config::QueueConfig,
    metrics::EventQueueState,
    pipeline::ingest::event::{EventQueue, EventQueueStatus, QueueSource, Routes},
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
    fleet: &Arc<Fleet>,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> Vec<ServedQueue> {
    let routes = || {
        let fleet = Arc::clone(fleet);
        Routes::new(move |lane| fleet.get(lane)?.hints.clone())
    };
    let queues = shared.config.queues.iter();
    queues.map(|queue| spawn_queue(tasks, queue, routes(), shared, shutdown)).collect()
}

fn spawn_queue(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    queue: &QueueConfig,
    routes: Routes,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> ServedQueue {
    let source = QueueSource {
        aws: Arc::clone(&shared.aws),
        url: queue.url.clone(),
        account: queue.account,
        region: queue.region.clone(),
        role: queue.role.as_ref().map(assume_role),
    };
    let (name, since) = (source.name(), shared.queues.clock().now());
    let (sender, status) =
        watch::channel(EventQueueStatus { state: EventQueueState::Reading, since, note: None });
    let queue = EventQueue {
        source,
        routes,
        queues: shared.queues.clone(),
        metrics: Arc::clone(&shared.metrics),
        probe_interval: shared.config.deliver.probe_interval,
        status: sender,
    };
    tasks.spawn(queue.run(shutdown.clone()));
    ServedQueue { name, status }
}
