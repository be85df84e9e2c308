//! Events: what `EventBridge` tells of a node is in the hub within moments, without a sweep; and
//! whatever goes wrong on the way, a message ends only after what it told of is on disk.
//!
//! The queue is the simulator's; its events have the forms of AWS's own examples.

mod bad_messages;
mod lives;
mod queues;
mod storms;

use std::collections::BTreeMap;

use patchferry::{
    app::App,
    config::QueueConfig,
    simulator::{
        Control, FleetConfig, SeverityCounts, SimEvent, SimLane, SimQueue, SimulatorConfig,
    },
};

use crate::harness::{ACCOUNT, REGION, Rig, metric};

const QUEUE: &str = "patch-events";

/// A lane of compliant nodes, fed by a queue, and swept once.
struct Fed {
    rig: Rig,
    lane: SimLane,
    queue: SimQueue,
}

impl Fed {
    async fn new(seed: u64, nodes: usize) -> Self {
        let fleet = FleetConfig {
            nodes,
            hybrid_share: 0.2,
            non_compliant_share: 0.0,
            never_scanned_share: 0.0,
        };
        let simulator =
            SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet).queue(ACCOUNT, REGION, QUEUE);
        Self::of(Rig::new(simulator).await.without_quota())
    }

    fn of(mut rig: Rig) -> Self {
        let lane = SimLane::new(ACCOUNT, REGION);
        let queue = SimQueue::new(ACCOUNT, REGION, QUEUE);
        rig.config.queues = vec![queue_config(&queue)];
        // Nothing is seen by a sweep unless a test has one.
        rig.config.ingest.fed_poll_interval = rig.config.ingest.poll_interval;
        Self { rig, lane, queue }
    }

    /// The daemon, after its first sweep.
    async fn start(&self) -> App {
        let app = self.rig.start().await;
        self.rig.sweep_and_settle(&app).await;
        app
    }

    fn control(&self) -> &Control {
        &self.rig.control
    }

    fn node(&self, index: usize) -> String {
        self.rig.control.fleet(&self.lane)[index].id.clone()
    }

    fn nodes(&self, hybrid: bool) -> Vec<String> {
        let fleet = self.rig.control.fleet(&self.lane);
        fleet.into_iter().filter(|node| node.is_hybrid == hybrid).map(|node| node.id).collect()
    }

    /// Patches are found missing on the node; nobody is told.
    fn break_node(&self, node: &str) {
        let levels = SeverityCounts { high: 2, low: 1, ..SeverityCounts::default() };
        self.control().make_non_compliant(&self.lane, node, 5, levels).unwrap();
    }

    fn emit(&self, node: &str) {
        self.control().emit(&self.lane, node, &SimEvent::PatchCompliance);
    }

    /// Waits until the queue is empty and everything is settled.
    async fn drained(&self, app: &App) {
        let queue = self.queue.clone();
        self.rig
            .wait_for(app, "an empty queue", |queues, control| {
                control.depth(&queue).total() == 0 && queues.accounting().queued.total() == 0
            })
            .await;
    }
}

fn queue_config(queue: &SimQueue) -> QueueConfig {
    QueueConfig {
        url: queue.url(),
        account: queue.account().parse().unwrap(),
        region: queue.region().parse().unwrap(),
        role: None,
    }
}

fn events(app: &App, outcome: &str) -> u64 {
    metric(app, &format!("patchferry_events_total{{outcome=\"{outcome}\"}}"))
}

/// What became of all events, but for outcomes that none had.
fn outcomes(app: &App) -> BTreeMap<&'static str, u64> {
    ["accepted", "swept", "gone", "ignored", "foreign", "malformed", "put_back", "given_up"]
        .into_iter()
        .map(|outcome| (outcome, events(app, outcome)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn requests(control: &Control, operation: &str) -> u64 {
    control.stats_total().requests.get(operation).copied().unwrap_or(0)
}
