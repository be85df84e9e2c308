//! What a lane has heard and not ended: by node, in the order in which it was heard. Pure.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::{
    metrics::{EventOutcome, Metrics},
    pipeline::{
        backoff::LaneBackoff,
        ingest::{
            event::{
                Hint, Message,
                parse::{Told, What},
            },
            look::GROUP_NODES_MAX,
        },
    },
    record::{NodeId, UnixMillis},
};

/// Nodes that are read in one go: few, so that the first isn't kept waiting by the last.
const READ_NODES_MAX: usize = 10;

pub(super) type Group = Vec<(NodeId, Heard)>;

/// What was heard of a node.
pub(super) struct Heard {
    pub(super) what: What,
    /// Of the event that counts.
    pub(super) at: Option<UnixMillis>,
    messages: Vec<(Message, Option<UnixMillis>)>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { what: What::Associated, at: None, messages: Vec::new() }
    }
}

impl Heard {
    /// An end outweighs everything, and a scan an association; of two scans the later one counts.
    pub(super) fn merge(&mut self, other: Self) {
        let rank = |what: What| match what {
            What::Associated => 0,
            What::Scanned { .. } => 1,
            What::Deregistered => 2,
            What::Terminated => 3,
        };
        if (rank(other.what), other.at) >= (rank(self.what), self.at) {
            self.what = other.what;
            self.at = other.at;
        }
        self.messages.extend(other.messages);
    }

    pub(super) fn done(self, outcome: EventOutcome, metrics: &Metrics, now: UnixMillis) {
        let told =
            matches!(outcome, EventOutcome::Accepted | EventOutcome::Swept | EventOutcome::Gone);
        for (message, at) in self.messages {
            if let Some(at) = at.filter(|_| told) {
                metrics.event_lag_seconds.record(now.since(at).as_secs_f64());
            }
            message.done(outcome, metrics);
        }
    }

    pub(super) fn put_back(self, metrics: &Metrics) {
        self.messages.into_iter().for_each(|(message, _)| message.put_back(metrics));
    }

    pub(super) fn put_back_or_give_up(self, metrics: &Metrics) {
        self.messages.into_iter().for_each(|(message, _)| message.put_back_or_give_up(metrics));
    }
}

/// What a lane has heard and not ended.
#[derive(Default)]
pub(super) struct Work {
    pub(super) heard: HashMap<NodeId, Heard>,
    /// To be read, in the order in which they were first heard of.
    pub(super) to_read: VecDeque<NodeId>,
    /// Said to be gone, likewise.
    gone: VecDeque<NodeId>,
    /// Left to a sweep.
    pub(super) swept: HashMap<NodeId, Heard>,
    /// The lane can't be read: until when it isn't tried.
    pub(super) trouble: Option<Instant>,
    pub(super) backoff: LaneBackoff,
}

impl Work {
    pub(super) fn add(&mut self, hint: Hint) {
        let Hint { told: Told { node, what, at, lane: _ }, message } = hint;
        self.put(node, Heard { what, at, messages: vec![(message, at)] });
    }

    pub(super) fn put(&mut self, node: NodeId, heard: Heard) {
        let was_end = self.heard.get(&node).map(|heard| is_end(heard.what));
        let entry = self.heard.entry(node.clone()).or_default();
        entry.merge(heard);
        let line = match (is_end(entry.what), was_end) {
            (true, Some(true)) | (false, Some(false)) => return,
            (true, was_end) => {
                if was_end == Some(false) {
                    self.to_read.retain(|other| *other != node);
                }
                &mut self.gone
            }
            (false, _) => &mut self.to_read,
        };
        line.push_back(node);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.heard.is_empty()
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.trouble.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn next_gone(&mut self) -> Option<Group> {
        let count = self.gone.len().min(GROUP_NODES_MAX);
        let nodes: Vec<NodeId> = self.gone.drain(..count).collect();
        (count > 0).then(|| self.take(nodes))
    }

    pub(super) fn next_to_read(&mut self) -> Group {
        let count = self.to_read.len().min(READ_NODES_MAX);
        let nodes: Vec<NodeId> = self.to_read.drain(..count).rev().collect();
        self.take(nodes)
    }

    fn take(&mut self, nodes: Vec<NodeId>) -> Group {
        let taken = nodes.into_iter().filter_map(|node| {
            let heard = self.heard.remove(&node)?;
            Some((node, heard))
        });
        taken.collect()
    }

    pub(super) fn drain_all(&mut self, mut end: impl FnMut(Heard)) {
        self.to_read.clear();
        self.gone.clear();
        self.heard.drain().chain(self.swept.drain()).for_each(|(_, heard)| end(heard));
    }
}

fn is_end(what: What) -> bool {
    matches!(what, What::Terminated | What::Deregistered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(what: What, at: i64) -> Heard {
        Heard { what, at: Some(UnixMillis(at)), messages: Vec::new() }
    }

    #[test]
    fn hints_on_a_node_are_one_and_an_end_outweighs_what_came_later() {
        let node: NodeId = "i-12345678".parse().unwrap();
        let scanned = |non_compliant| What::Scanned { non_compliant: Some(non_compliant) };
        let mut work = Work::default();
        work.put(node.clone(), heard(scanned(true), 5));
        work.put(node.clone(), heard(What::Associated, 9));
        work.put(node.clone(), heard(scanned(false), 7));
        work.put(node.clone(), heard(scanned(true), 6));
        assert_eq!(work.to_read, std::slice::from_ref(&node));
        assert_eq!(
            (work.heard[&node].what, work.heard[&node].at),
            (scanned(false), Some(UnixMillis(7)))
        );
        work.put(node.clone(), heard(What::Terminated, 1));
        work.put(node.clone(), heard(scanned(true), 99));
        assert!(work.to_read.is_empty());
        let gone = work.next_gone().unwrap();
        assert_eq!((gone.len(), gone[0].1.what), (1, What::Terminated));
        assert!(work.is_idle() && work.next_gone().is_none());
    }
}
