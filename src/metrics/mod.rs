//! Every metric that patchferry has: name, help, labels and buckets, in one place.
//!
//! Guarantees: all are registered when [`Metrics`] is made, so each series is there, at zero,
//! with the first scrape; account and Region are on lane gauges only; the number of series is
//! bounded by the closed lists in [`labels`] and by the lanes.
//!
//! No global recorder: several daemons in one process (tests) have metrics of their own.

mod family;
pub mod labels;
mod lanes;
mod latency;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use ::metrics::{Counter, Gauge, Histogram};
use ::metrics::{Recorder as _, with_local_recorder};
pub use family::Family;
pub use labels::{
    Correction, DifferenceKind, EventOutcome, EventQueueState, FindingOutcome, HoldReason,
    HubOutcome, Label, NodeVerdict, ObservationOutcome, PauseReason, Queue, ReconcileOutcome,
    SqsOperation, SqsOutcome, SsmOperation, SsmOutcome, StoreAlarm,
};
pub use lanes::{LaneGauge, LaneMetrics, LaneState, SERIES_PER_LANE_MAX};
pub use latency::LatencySummary;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use serde::{Deserialize, Serialize};

use crate::record::{Lane, Reason, Severity, Source, Stage};
use family::Register;

/// From instant to three days; one minute and AWS's two hours are among them.
const DELIVERY_SECONDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    7200.0, 14400.0, 43200.0, 86400.0, 259_200.0,
];
const STAGE_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Up to the attempt's timeout.
const REQUEST_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
/// Up to the most that a request takes.
const BATCH_FINDINGS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 75.0, 99.0, 100.0];
const SWEEP_SECONDS: &[f64] =
    &[0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
const COMMIT_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Makes the struct, and registers each field under its name with its doc comment as help.
macro_rules! catalogue {
    ($(
        $(#[doc = $help:literal])+
        $vis:vis $field:ident: $type:ty = $name:literal $([$buckets:expr])?;
    )+) => {
        /// The metrics of one daemon.
        pub struct Metrics {
            $($(#[doc = $help])+ $vis $field: $type,)+
            parts: Parts,
        }

        impl Metrics {
            fn register(parts: Parts) -> Self {
                $(<$type as Register>::describe(
                    &parts.recorder, $name, concat!($($help),+).trim().to_string());)+
                Self {
                    $($field: Register::register(&parts.recorder, $name, &[]),)+
                    parts,
                }
            }
        }

        const BUCKETS: &[(&str, &[f64])] = &[$($(($name, $buckets),)?)+];
    };
}

catalogue! {
    /// Time from an observation's acceptance to the hub's acknowledgement of its finding.
    delivery_latency_seconds: Family<Severity, Histogram> =
        "patchferry_delivery_latency_seconds" [DELIVERY_SECONDS];
    /// Time from the end of the patch operation on the node to the hub's acknowledgement.
    scan_to_hub_seconds: Histogram = "patchferry_scan_to_hub_seconds" [DELIVERY_SECONDS];
    /// Time that a stage works on one batch, waiting for the store included.
    pub stage_seconds: Family<Stage, Histogram> = "patchferry_stage_seconds" [STAGE_SECONDS];

    /// Items in a queue.
    pub queue_items: Family<Queue, Gauge> = "patchferry_queue_items";
    /// Age of the oldest item in a queue; 0 if it is empty.
    pub queue_oldest_age_seconds: Family<Queue, Gauge> = "patchferry_queue_oldest_age_seconds";

    /// Observations by source, and what ingest did with them, since the start.
    pub observations: Family<Source, Family<ObservationOutcome, Counter>> =
        "patchferry_observations_total";
    /// Observations ever accepted by this store.
    accepted: Counter = "patchferry_accepted_total";
    /// How accepted observations ended, over the life of the store.
    findings: Family<FindingOutcome, Counter> = "patchferry_findings_total";
    /// Accepted observations that are in no queue and have no end: must be 0.
    accounting_imbalance: Gauge = "patchferry_accounting_imbalance";
    /// Dead letters that wait for a person.
    pub dead_letters: Family<Stage, Family<Reason, Gauge>> = "patchferry_dead_letters";
    /// Findings that failed 20 times or more and are still tried.
    pub stubborn_findings: Gauge = "patchferry_stubborn_findings";
    /// What was put right on the way rather than refused.
    pub corrections: Family<Correction, Counter> = "patchferry_corrections_total";
    /// Findings that somebody had resolved by hand and a newer scan has reopened.
    pub reopened_by_scan: Counter = "patchferry_reopened_by_scan_total";

    /// Comparisons of a lane's hub with the ledger, by how they ended.
    pub reconciles: Family<ReconcileOutcome, Counter> = "patchferry_reconciles_total";
    /// Findings that a hub held otherwise than the ledger says.
    pub reconcile_differences: Family<DifferenceKind, Counter> =
        "patchferry_reconcile_differences_total";
    /// Differences that were repaired.
    pub reconcile_repairs: Family<DifferenceKind, Counter> = "patchferry_reconcile_repairs_total";
    /// Time since the hub of some lane was last compared with the ledger, of all lanes the longest;
    /// since the start where it never was.
    pub reconcile_oldest_age_seconds: Gauge = "patchferry_reconcile_oldest_age_seconds";

    /// `BatchImportFindings` requests by how they ended.
    pub hub_requests: Family<HubOutcome, Counter> = "patchferry_hub_requests_total";
    /// Time that a `BatchImportFindings` request took.
    pub hub_request_seconds: Histogram = "patchferry_hub_request_seconds" [REQUEST_SECONDS];
    /// Findings in a `BatchImportFindings` request.
    pub batch_findings: Histogram = "patchferry_batch_findings" [BATCH_FINDINGS];
    /// Requests to Systems Manager by how they ended.
    pub ssm_requests: Family<SsmOperation, Family<SsmOutcome, Counter>> =
        "patchferry_ssm_requests_total";
    /// Requests to Cloud Control, whether EC2 nodes that SSM no longer lists still exist, by how
    /// they ended.
    pub cloud_control_requests: Family<SsmOutcome, Counter> =
        "patchferry_cloud_control_requests_total";
    /// Messages with events by what became of them.
    pub events: Family<EventOutcome, Counter> = "patchferry_events_total";
    /// Time from an event to the acceptance of what it told of.
    pub event_lag_seconds: Histogram = "patchferry_event_lag_seconds" [DELIVERY_SECONDS];
    /// Messages that were received and are neither deleted nor put back yet.
    pub event_messages_held: Gauge = "patchferry_event_messages_held";
    /// Queues of events by what they are doing.
    pub event_queues: Family<EventQueueState, Gauge> = "patchferry_event_queues";
    /// Requests to SQS by how they ended.
    pub sqs_requests: Family<SqsOperation, Family<SqsOutcome, Counter>> =
        "patchferry_sqs_requests_total";
    /// Time that a complete sweep of a lane took.
    pub sweep_seconds: Histogram = "patchferry_sweep_seconds" [SWEEP_SECONDS];

    /// Bytes of the store that are in use: what its limit applies to.
    pub store_live_bytes: Gauge = "patchferry_store_live_bytes";
    /// Bytes of the store's files: these never shrink, freed space is used again.
    pub store_file_bytes: Gauge = "patchferry_store_file_bytes";
    /// Live bytes at which ingest pauses.
    pub store_max_bytes: Gauge = "patchferry_store_max_bytes";
    /// Bytes free in the store's file system.
    pub store_free_bytes: Gauge = "patchferry_store_free_bytes";
    /// Time that a commit to the store took, its flush included.
    pub store_commit_seconds: Histogram = "patchferry_store_commit_seconds" [COMMIT_SECONDS];
    /// 1 for what of the store needs a person: a store that was set aside, one that is older than
    /// it was, a file that grows without its content.
    pub store_alarm: Family<StoreAlarm, Gauge> = "patchferry_store_alarm";
    /// 1 for each reason why ingest takes nothing more; its source keeps the rest.
    pub ingest_paused: Family<PauseReason, Gauge> = "patchferry_ingest_paused";
}

struct Parts {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    lanes: lanes::Lanes,
    latencies: latency::Sketch,
    accounting: Mutex<Accounting>,
    /// Dead letters at the last accounting.
    dead: AtomicU64,
}

/// What runs.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    pub version: &'static str,
    /// The commit, if it is known.
    pub revision: &'static str,
}

/// The store's counters, as of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    pub accepted: u64,
    pub delivered: u64,
    pub coalesced: u64,
    pub unchanged: u64,
    pub dead: u64,
    pub dropped: u64,
    pub queued: u64,
}

impl Accounting {
    /// `accepted` minus all its ends and what is queued: anything but 0 is a defect. Positive
    /// means lost, negative means counted twice.
    #[must_use]
    pub fn imbalance(&self) -> i128 {
        let ended =
            [self.delivered, self.coalesced, self.unchanged, self.dead, self.dropped, self.queued];
        i128::from(self.accepted) - ended.into_iter().map(i128::from).sum::<i128>()
    }
}

impl Metrics {
    /// Registers everything; all series of fixed labels are there at once.
    #[must_use]
    pub fn new(build: BuildInfo) -> Arc<Self> {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in BUCKETS {
            builder = builder
                .set_buckets_for_metric(Matcher::Full((*name).to_string()), buckets)
                .expect("no list of buckets is empty");
        }
        let recorder = builder.build_recorder();
        let metrics = Self::register(Parts {
            handle: recorder.handle(),
            recorder,
            process: metrics_process::Collector::default(),
            lanes: lanes::Lanes::default(),
            latencies: latency::Sketch::new(),
            accounting: Mutex::default(),
            dead: AtomicU64::new(0),
        });
        metrics.register_build_info(build);
        with_local_recorder(&metrics.parts.recorder, || metrics.parts.process.describe());
        Arc::new(metrics)
    }

    fn register_build_info(&self, build: BuildInfo) {
        let name = "patchferry_build_info";
        let help = "1; the labels say what runs.";
        self.parts.recorder.describe_gauge(name.into(), None, help.into());
        let labels = [("version", build.version), ("revision", build.revision)];
        let gauge: Gauge = Register::register(&self.parts.recorder, name, &labels);
        gauge.set(1);
    }

    /// Notes one acknowledged finding. `scan_to_hub` is absent if the operation's end is unknown.
    pub fn record_delivery(
        &self,
        severity: Severity,
        latency: Duration,
        scan_to_hub: Option<Duration>,
    ) {
        self.delivery_latency_seconds[severity].record(latency.as_secs_f64());
        self.parts.latencies.record(latency);
        if let Some(scan_to_hub) = scan_to_hub {
            self.scan_to_hub_seconds.record(scan_to_hub.as_secs_f64());
        }
    }

    /// Delivery latencies since the start; `None` before the first delivery.
    pub fn latency_summary(&self) -> Option<LatencySummary> {
        self.parts.latencies.summary()
    }

    /// Takes over the store's counters, so that totals survive restarts. What is dead now can
    /// become fewer, when a person redrives it: `patchferry_findings_total{outcome="dead"}`
    /// counts the rises only.
    pub fn set_accounting(&self, now: &Accounting) {
        let mut last = self.parts.accounting.lock().unwrap_or_else(PoisonError::into_inner);
        *last = *now;
        self.accepted.absolute(now.accepted);
        self.findings[FindingOutcome::Delivered].absolute(now.delivered);
        self.findings[FindingOutcome::Coalesced].absolute(now.coalesced);
        self.findings[FindingOutcome::Unchanged].absolute(now.unchanged);
        self.findings[FindingOutcome::Dropped].absolute(now.dropped);
        let dead_before = self.parts.dead.swap(now.dead, Ordering::Relaxed);
        self.findings[FindingOutcome::Dead].increment(now.dead.saturating_sub(dead_before));
        #[allow(clippy::cast_precision_loss)] // zero or not is what matters
        self.accounting_imbalance.set(now.imbalance() as f64);
    }

    /// What was last given to [`Metrics::set_accounting`].
    pub fn accounting(&self) -> Accounting {
        *self.parts.accounting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane's gauges, made when first asked for.
    pub fn lane(&self, lane: &Lane) -> Arc<LaneMetrics> {
        self.parts.lanes.lane(lane)
    }

    /// The series of all other lanes end here; handles that are still held change nothing any
    /// more.
    pub fn retain_lanes(&self, is_kept: impl Fn(&Lane) -> bool) {
        self.parts.lanes.retain(is_kept);
    }

    /// Everything in Prometheus's text format, the process's own metrics fresh.
    pub fn render(&self) -> String {
        with_local_recorder(&self.parts.recorder, || self.parts.process.collect());
        let mut text = self.parts.handle.render();
        self.parts.lanes.render(&mut text);
        text
    }

    /// Moves recorded samples into their buckets. To be called every few seconds: where nobody
    /// scrapes, samples would pile up otherwise.
    pub fn run_upkeep(&self) {
        self.parts.handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests;
