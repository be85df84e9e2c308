//! The part of the handle that concerns events and the queues that hold them.

use std::collections::HashMap;

use super::{
    Control,
    config::SimLane,
    events::{Occasion, SimEvent, wrapped_by_sns},
    fleet::Fleet,
    queue::{Queue, QueueDepth, SimQueue},
    world::{World, lock},
};

/// SQS takes no longer message (Developer Guide, "Amazon SQS message quotas").
const BODY_BYTES_MAX: usize = 1 << 20;

/// How events are sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mailing {
    pub through_sns: bool,
    /// The share of fleet changes that `EventBridge` tells of by itself.
    pub share_told: Option<f64>,
}

/// Events and queues.
impl Control {
    /// The queues of a Region.
    pub fn queues(&self, region: &str) -> Vec<SimQueue> {
        self.0.queues.keys().filter(|queue| queue.region() == region).cloned().collect()
    }

    /// Puts an event about a node, which need not exist, in every queue of the lane's Region.
    pub fn emit(&self, lane: &SimLane, node: &str, event: &SimEvent) {
        let body = self.event_body(lane, node, event);
        self.post(lane, &body);
    }

    /// What [`Control::emit`] would put there.
    pub fn event_body(&self, lane: &SimLane, node: &str, event: &SimEvent) -> String {
        let world = &self.0;
        let fleet = world.lanes.get(lane).map(|lane| lock(&lane.fleet));
        let occasion = Occasion {
            lane,
            node_id: node,
            node: fleet.as_ref().and_then(|fleet| fleet.nodes.get(node)),
            event_id: world.next_uuid(),
            now_ms: world.now_ms(),
        };
        let body = occasion.body(event).to_string();
        if lock(&world.mailing).through_sns {
            return wrapped_by_sns(&body, lane, &world.next_uuid(), world.now_ms()).to_string();
        }
        body
    }

    /// Puts any message in a queue.
    pub fn send_raw(&self, queue: &SimQueue, body: impl Into<String>) {
        let body = body.into();
        assert!(body.len() <= BODY_BYTES_MAX, "SQS takes no message of {} bytes", body.len());
        let now_ms = self.0.now_ms();
        self.on_queue(queue, |queue| queue.send(body, now_ms));
        self.0.note_change();
    }

    /// Whether events come through an SNS topic that wraps them.
    pub fn wrap_in_sns(&self, is_wrapped: bool) {
        lock(&self.0.mailing).through_sns = is_wrapped;
    }

    /// From now on the fleet's changes emit their events by themselves, a share of them: SSM's are
    /// best effort. `None`: none.
    pub fn emit_changes(&self, share: Option<f64>) {
        lock(&self.0.mailing).share_told = share;
    }

    pub fn depth(&self, queue: &SimQueue) -> QueueDepth {
        let now_ms = self.0.now_ms();
        self.on_queue(queue, |queue| queue.depth(now_ms))
    }

    /// Messages that were deleted.
    pub fn deleted(&self, queue: &SimQueue) -> u64 {
        self.on_queue(queue, |queue| queue.deleted)
    }

    /// The next so many receives leave their messages visible: they come again at once.
    pub fn duplicate_receives(&self, queue: &SimQueue, receives: u32) {
        self.on_queue(queue, |queue| queue.duplicate_receives = receives);
    }

    /// Messages come in any order from now on.
    pub fn shuffle(&self, queue: &SimQueue) {
        self.on_queue(queue, |queue| queue.is_shuffled = true);
    }

    /// The receipts of the next so many messages will be called invalid.
    pub fn spoil_receipts(&self, queue: &SimQueue, messages: u32) {
        self.on_queue(queue, |queue| queue.spoiled_receipts = messages);
    }

    fn post(&self, lane: &SimLane, body: &str) {
        let queues = self.queues(lane.region());
        assert!(!queues.is_empty(), "the simulator was started without a queue in {lane}'s Region");
        for queue in queues {
            self.send_raw(&queue, body);
        }
    }

    fn on_queue<T>(&self, queue: &SimQueue, act: impl FnOnce(&mut Queue) -> T) -> T {
        let queue = self.0.queues.get(queue).expect("the simulator was started with the queue");
        act(&mut lock(queue))
    }

    /// Emits what has changed, if changes do so by themselves.
    pub(super) fn tell_changes(&self, lane: &SimLane, before: &Presences) {
        let Some(before) = &before.0 else { return };
        if self.queues(lane.region()).is_empty() {
            return;
        }
        let after = Presences::of(&lock(&self.0.lanes[lane].fleet));
        let share = lock(&self.0.mailing).share_told.unwrap_or(0.0);
        for (node, event) in changes(before, after.0.as_ref().unwrap_or(before)) {
            if self.0.draw(share) {
                self.emit(lane, &node, &event);
            }
        }
    }
}

/// What of each node shows in events: its last execution, and whether it runs. `None`: not noted.
pub(super) struct Presences(Option<HashMap<String, (Option<String>, bool)>>);

impl Presences {
    /// As they are, if changes emit events by themselves.
    pub(super) fn noted(world: &World, fleet: &Fleet) -> Self {
        if lock(&world.mailing).share_told.is_none() { Self(None) } else { Self::of(fleet) }
    }

    fn of(fleet: &Fleet) -> Self {
        let presence = |node: &super::fleet::Node| {
            let execution = node.scan.as_ref().map(|scan| scan.execution_id.clone());
            (execution, node.presence == super::fleet::Presence::Online)
        };
        Self(Some(fleet.nodes.values().map(|node| (node.id.clone(), presence(node))).collect()))
    }
}

fn changes(
    before: &HashMap<String, (Option<String>, bool)>,
    after: &HashMap<String, (Option<String>, bool)>,
) -> Vec<(String, SimEvent)> {
    let mut changes = Vec::new();
    for (node, (execution, is_online)) in after {
        let was = before.get(node);
        if was.is_none_or(|(was, _)| was != execution) {
            changes.push((node.clone(), SimEvent::PatchCompliance));
        }
        if was.is_some_and(|(_, was_online)| was_online != is_online) {
            let state = if *is_online { "running" } else { "stopped" };
            changes.push((node.clone(), SimEvent::InstanceState(state.into())));
        }
    }
    for node in before.keys().filter(|node| !after.contains_key(*node)) {
        let event = if node.starts_with("mi-") {
            SimEvent::Deregistered
        } else {
            SimEvent::InstanceState("terminated".into())
        };
        changes.push((node.clone(), event));
    }
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}
