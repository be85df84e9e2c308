//! What the simulated services counted: the evidence that tests judge the product by.

use std::collections::BTreeMap;

/// At most this many different texts are told apart; further ones count as [`OTHER`].
const DISTINCT_TEXTS_MAX: usize = 64;
const OTHER: &str = "(others)";

/// Counts since the start, of one lane or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests by operation, whatever became of them.
    pub requests: BTreeMap<String, u64>,
    /// Versions that the hub took in: findings created or updated.
    pub accepted: u64,
    /// Findings that an answer named as failed, for whatever reason.
    pub failed_findings: u64,
    /// Requests beyond a real quota. A client that keeps to the quota has none.
    pub over_quota: u64,
    /// Requests refused by a `Throttle` fault or by the SSM limiter.
    pub throttled: u64,
    /// Versions ignored because their `UpdatedAt` was not newer; counted as success on the wire.
    pub ignored_updates: u64,
    /// Those of them that had the same `UpdatedAt` as the stored version but said something else.
    pub rewritten_history: u64,
    /// Findings that shared their Id with an earlier one of the same batch.
    pub duplicate_ids: u64,
    /// Findings that broke a rule of ASFF, by message; injected failures aren't among them.
    pub invalid_findings: BTreeMap<String, u64>,
    /// Whole imports refused as invalid, by message; injected ones aren't among them.
    pub invalid_calls: BTreeMap<String, u64>,
    /// Calls that the simulator doesn't know.
    pub unknown_operations: BTreeMap<String, u64>,
    /// Imports by the number of findings in them, of those that could be read.
    pub batch_sizes: BTreeMap<usize, u64>,
    pub import_requests: u64,
    pub import_requests_since_mark: u64,
    /// The most imports that were ever on their way at once.
    pub largest_inflight: u64,
}

impl Stats {
    /// What no correct client makes happen, as sentences.
    pub fn violations(&self) -> Vec<String> {
        let counts = [
            (self.over_quota, "requests over quota"),
            (self.rewritten_history, "versions with a used UpdatedAt and other content"),
            (self.duplicate_ids, "findings with an Id used twice in a batch"),
        ];
        let texts = [
            (&self.invalid_findings, "invalid finding"),
            (&self.invalid_calls, "invalid call"),
            (&self.unknown_operations, "unknown operation"),
        ];
        let counted = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"));
        let named = texts.into_iter().flat_map(|(texts, what)| {
            texts.iter().map(move |(text, count)| format!("{count} x {what}: {text}"))
        });
        counted.chain(named).collect()
    }

    pub(super) fn count_operation(&mut self, operation: &str) {
        Self::count_text(&mut self.requests, operation);
    }

    pub(super) fn count_text(texts: &mut BTreeMap<String, u64>, text: &str) {
        let known = texts.contains_key(text) || texts.len() < DISTINCT_TEXTS_MAX;
        *texts.entry(if known { text } else { OTHER }.to_string()).or_default() += 1;
    }

    /// Adds another lane's counts; the largest in-flight number is the larger of the two.
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            requests,
            accepted,
            failed_findings,
            over_quota,
            throttled,
            ignored_updates,
            rewritten_history,
            duplicate_ids,
            invalid_findings,
            invalid_calls,
            unknown_operations,
            batch_sizes,
            import_requests,
            import_requests_since_mark,
            largest_inflight,
        } = other;
        self.accepted += accepted;
        self.failed_findings += failed_findings;
        self.over_quota += over_quota;
        self.throttled += throttled;
        self.ignored_updates += ignored_updates;
        self.rewritten_history += rewritten_history;
        self.duplicate_ids += duplicate_ids;
        self.import_requests += import_requests;
        self.import_requests_since_mark += import_requests_since_mark;
        self.largest_inflight = self.largest_inflight.max(*largest_inflight);
        add_all(&mut self.requests, requests);
        add_all(&mut self.invalid_findings, invalid_findings);
        add_all(&mut self.invalid_calls, invalid_calls);
        add_all(&mut self.unknown_operations, unknown_operations);
        add_all(&mut self.batch_sizes, batch_sizes);
    }
}

fn add_all<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (key, count) in counts {
        *sums.entry(key.clone()).or_default() += count;
    }
}
