//! Nodes that wait for a sweep to see them, since too many are to be read one by one.
//!
//! Guarantees: a node counts as seen only by a sweep that began after it was asked for, that has
//! accepted (or found unchanged) the node's row, and that was complete.
//!
//! Deliberately doesn't know: who asks, and why.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::record::NodeId;

/// What a sweep came to for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    Seen,
    /// The sweep was complete, but has no verdict on the node.
    Unseen,
    /// The sweep ended early.
    Failed,
}

#[derive(Clone, Copy)]
enum Stage {
    /// No sweep has begun since.
    Asked,
    /// A sweep is under way.
    Begun,
    /// It has taken the node's row.
    Taken,
    Ended(Swept),
}

/// See the module. Shared by a lane's sweeps and by whoever waits for them.
#[derive(Default)]
pub struct Awaited {
    nodes: Mutex<HashMap<NodeId, Stage>>,
    ended: Notify,
}

impl Awaited {
    pub(super) fn ask(&self, node: NodeId) {
        self.lock().insert(node, Stage::Asked);
    }

    /// A sweep begins.
    pub(in crate::pipeline::ingest) fn begin(&self) {
        for stage in self.lock().values_mut() {
            if !matches!(stage, Stage::Ended(_)) {
                *stage = Stage::Begun;
            }
        }
    }

    /// The sweep that is under way has taken the rows of these nodes.
    pub(in crate::pipeline::ingest) fn took<'a>(&self, nodes: impl Iterator<Item = &'a str>) {
        let mut awaited = self.lock();
        if awaited.is_empty() {
            return;
        }
        for node in nodes.filter_map(|node| node.parse::<NodeId>().ok()) {
            if let Some(stage @ Stage::Begun) = awaited.get_mut(&node) {
                *stage = Stage::Taken;
            }
        }
    }

    /// The sweep that was under way has ended.
    pub(in crate::pipeline::ingest) fn end(&self, complete: bool) {
        for stage in self.lock().values_mut() {
            *stage = match *stage {
                Stage::Begun | Stage::Taken if !complete => Stage::Ended(Swept::Failed),
                Stage::Begun => Stage::Ended(Swept::Unseen),
                Stage::Taken => Stage::Ended(Swept::Seen),
                other => other,
            };
        }
        self.ended.notify_one();
    }

    /// Fires after a sweep has ended.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The nodes whose sweep has ended, which are no longer awaited.
    pub(super) fn take_ended(&self) -> Vec<(NodeId, Swept)> {
        let mut ended = Vec::new();
        self.lock().retain(|node, stage| match stage {
            Stage::Ended(swept) => {
                ended.push((node.clone(), *swept));
                false
            }
            _ => true,
        });
        ended
    }

    /// None is awaited any more.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Stage>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "i-12345678";
    const OTHER: &str = "i-87654321";

    fn asked() -> Awaited {
        let awaited = Awaited::default();
        awaited.ask(NODE.parse().unwrap());
        awaited
    }

    #[test]
    fn a_sweep_that_was_under_way_proves_nothing() {
        let awaited = Awaited::default();
        awaited.begin();
        awaited.ask(NODE.parse().unwrap());
        awaited.took([NODE].into_iter());
        awaited.end(true);
        assert!(awaited.take_ended().is_empty());
        awaited.begin();
        awaited.took([OTHER, NODE].into_iter());
        awaited.end(true);
        assert_eq!(awaited.take_ended(), [(NODE.parse().unwrap(), Swept::Seen)]);
        assert!(awaited.take_ended().is_empty());
    }

    #[test]
    fn a_sweep_that_ends_early_or_elsewhere_says_so() {
        let awaited = asked();
        awaited.begin();
        awaited.took([NODE].into_iter());
        awaited.end(false);
        assert_eq!(awaited.take_ended(), [(NODE.parse().unwrap(), Swept::Failed)]);
        let awaited = asked();
        awaited.begin();
        awaited.took([OTHER].into_iter());
        awaited.end(true);
        assert_eq!(awaited.take_ended(), [(NODE.parse().unwrap(), Swept::Unseen)]);
    }
}
