//! Comparing what a verification has met: indexes with what they are of, counts with counters.

use std::collections::HashSet;

use super::{DEFECT, TableContents, Verified, Verifier};
use crate::{
    queue::accounting::{self, Accounting},
    store::Counters,
};

impl Verifier {
    /// Compares, and says what is wrong. `counters` are the store's.
    pub fn finish(mut self, counters: &Counters, live_bytes_counted: i64) -> Verified {
        self.compare_lists();
        self.compare_delayed();
        self.compare_ledger();
        self.compare_parked();
        if live_bytes_counted != self.live_bytes {
            let what = format!(
                "the counter of live bytes says {live_bytes_counted}, there are {}",
                self.live_bytes
            );
            self.tell_of(what, "live bytes".into(), DEFECT);
        }
        let accounting = accounting::of(counters);
        self.compare_accounting(&accounting);
        let sum = |of: fn(&TableContents) -> u64| self.tables.values().map(of).sum();
        Verified {
            entries: sum(|table| table.entries),
            bytes: sum(|table| table.bytes),
            tables: self.tables,
            accounting,
            problems_total: self.problems_total,
            problems: self.problems,
        }
    }

    fn compare_lists(&mut self) {
        let owned = std::mem::take(&mut self.owned);
        let mut chunks = std::mem::take(&mut self.chunks);
        for (list, wanted) in owned {
            let found = chunks.remove(&list).unwrap_or_default();
            if found.len() != usize::from(wanted) || found.iter().any(|chunk| *chunk >= wanted) {
                let what = format!("a patch list has {} parts instead of {wanted}", found.len());
                self.tell_of(what, format!("{} {} read {}", list.0, list.1, list.2), DEFECT);
            }
        }
        for (lane, node, read) in chunks.into_keys() {
            self.tell_of(
                "a patch list that belongs to nothing",
                format!("{lane} {node} read {read}"),
                "its item was damaged, or this is a defect; it only takes room",
            );
        }
    }

    fn compare_delayed(&mut self) {
        let mut index = std::mem::take(&mut self.delayed_index);
        for (place, (node, due)) in std::mem::take(&mut self.delayed) {
            if index.remove(&place) != Some((node.clone(), due)) {
                let name = format!("{} {node}", place.0);
                self.tell_of("a delayed finding isn't in its index", name, DEFECT);
            }
        }
        for ((lane, _), (node, _)) in index {
            // What is left of one that was damaged and buried.
            self.tell_of(
                "the index of delayed findings names one that isn't there",
                format!("{lane} {node}"),
                "harmless: what it names was damaged and is a dead letter",
            );
        }
    }

    fn compare_ledger(&mut self) {
        for ((lane, node), (revision, place)) in std::mem::take(&mut self.waiting) {
            let desired = self.desired.get(&(lane.clone(), node.clone()));
            if desired != Some(&(revision, Some(place))) {
                self.tell_of(
                    "a finding waits that the ledger doesn't know so",
                    format!("{lane} {node}"),
                    "its ledger row was damaged, or this is a defect; it is sent all the same",
                );
            }
        }
    }

    fn compare_parked(&mut self) {
        let told = std::mem::take(&mut self.parked_told);
        let found = std::mem::take(&mut self.parked);
        let lanes: HashSet<&String> = told.keys().chain(found.keys()).collect();
        for lane in lanes {
            let (told, found) = (told.get(lane).unwrap_or(&0), found.get(lane).unwrap_or(&0));
            if told != found {
                let what = format!("the lane's row says {told} are parked, there are {found}");
                self.tell_of(what, lane.clone(), DEFECT);
            }
        }
    }

    fn compare_accounting(&mut self, accounting: &Accounting) {
        let imbalance = accounting.imbalance();
        if imbalance != 0 {
            self.tell_of(
                format!("the accounting is off by {imbalance}"),
                "counters".into(),
                DEFECT,
            );
        }
        let (told, found) = (accounting.queued, self.queued);
        for (queue, told, found) in [
            ("observed", told.observed, found.observed),
            ("assessed", told.assessed, found.assessed),
            ("outbox", told.outbox, found.outbox),
            ("delayed", told.delayed, found.delayed),
            ("parked", told.parked, found.parked),
            ("dead letters", accounting.dead, self.dead),
        ] {
            if told != found {
                let what = format!("the counter says {told} items, there are {found}");
                self.tell_of(what, queue.into(), DEFECT);
            }
        }
    }
}
