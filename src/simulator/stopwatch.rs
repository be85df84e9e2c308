//! How long it takes from an event to the hub: from its emission to the import of a version that
//! reports what it told of.
//!
//! A newer event of a node takes an older one's place; one that leaves nothing to tell is never
//! stopped.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Later ones aren't kept: a test or a demo has fewer.
const TAKEN_MAX: usize = 100_000;

/// What an event tells of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A scan that ended then.
    Scan { ended_at_ms: i64 },
    /// It is no more.
    Gone,
}

/// A lane's events that aren't in its hub yet, and how long the others took.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    running: HashMap<String, (Instant, Told)>,
    taken: Vec<Duration>,
}

impl Stopwatch {
    pub fn start(&mut self, node: &str, told: Told) {
        self.running.insert(node.to_string(), (Instant::now(), told));
    }

    /// The hub has taken in a version of the node's finding.
    pub fn imported(&mut self, node: &str, observed_at_ms: Option<i64>, is_gone: bool) {
        let Some((since, told)) = self.running.get(node) else { return };
        let reports_it = match told {
            Told::Scan { ended_at_ms } => observed_at_ms.is_some_and(|at| at >= *ended_at_ms),
            Told::Gone => is_gone,
        };
        if !reports_it {
            return;
        }
        if self.taken.len() < TAKEN_MAX {
            self.taken.push(since.elapsed());
        }
        self.running.remove(node);
    }

    pub fn taken(&self) -> &[Duration] {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_that_reports_the_event_stops_it() {
        let mut stopwatch = Stopwatch::default();
        stopwatch.start("i-1", Told::Scan { ended_at_ms: 100 });
        stopwatch.imported("i-1", Some(99), false);
        stopwatch.imported("i-2", Some(100), false);
        assert!(stopwatch.taken().is_empty());
        stopwatch.imported("i-1", Some(100), false);
        stopwatch.imported("i-1", Some(101), false);
        assert_eq!(stopwatch.taken().len(), 1);
        stopwatch.start("i-1", Told::Gone);
        stopwatch.imported("i-1", Some(200), false);
        assert_eq!(stopwatch.taken().len(), 1);
        stopwatch.imported("i-1", None, true);
        assert_eq!(stopwatch.taken().len(), 2);
    }
}
