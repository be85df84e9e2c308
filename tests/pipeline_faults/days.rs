//! A hub that is away for days, in compressed time: both clocks run on hour by hour while the
//! fleet is scanned and swept every hour, and a process that is started anew in the midst of it.
//!
//! The backlog never grows beyond the fleet; what is worst leaves first; and the quota that there
//! is gets used.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use patchferry::{
    record::{Clock, UnixMillis},
    simulator::{Fault, FleetConfig, HubFinding, SeverityCounts, SimLane, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig, child::report, imports, within};

const HOURS: usize = 72;
const NODES: u16 = 2_000;
/// One in so many nodes is critical at the end.
const NODES_PER_CRITICAL: u16 = 4;
/// Low, so that the share says something about the lane, not about how fast a debug build is on
/// a busy machine.
const PER_SECOND: f64 = 2.0;

/// The machine's clock, and hours on top of it.
#[derive(Clone, Default)]
struct Hours(Arc<AtomicI64>);

impl Hours {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap() + self.0.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        self.0.fetch_add(3_600_000, Ordering::SeqCst);
    }
}

async fn rig(hours: &Hours) -> Rig {
    let fleet = FleetConfig {
        nodes: NODES.into(),
        hybrid_share: 0.1,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let mut simulator = SimulatorConfig::new(15).lane(ACCOUNT, REGION, fleet);
    let theirs = hours.clone();
    simulator.clock = Arc::new(move || theirs.now_ms());
    let mut rig = Rig::new(simulator).await;
    let ours = hours.clone();
    rig.clock = Clock::custom(move || UnixMillis(ours.now_ms()));
    rig.config.ingest.patch_details = false;
    rig.config.deliver.requests_per_second = PER_SECOND;
    // One request at a time: the order of arrival is that of departure.
    rig.config.deliver.max_in_flight_requests = 1;
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_of_outage_leave_a_backlog_no_larger_than_the_fleet_and_the_worst_leaves_first() {
    let hours = Hours::default();
    let rig = rig(&hours).await;
    let lane = rig.only_lane();
    rig.control.set_fault(imports(), Some(Fault::Outage));
    let mut app = rig.start().await;
    rig.sweep(&app).await;
    let mut waiting_max = 0;
    // A place in the line is that of the worst that waited in it.
    let mut once_critical = critical_nodes(&rig, &lane);
    for hour in 0..HOURS {
        hours.pass();
        rig.control.rescan(&lane, 0.05);
        once_critical.extend(critical_nodes(&rig, &lane));
        rig.sweep(&app).await;
        rig.wait_for(&app, "what was swept to wait", |queues, _| {
            let queued = queues.accounting().queued;
            queued.outbox + queued.delayed == queued.total()
        })
        .await;
        let waiting = app.queues().accounting().queued.total();
        waiting_max = waiting_max.max(waiting);
        assert!(waiting <= i64::from(NODES), "hour {hour}: {waiting} wait for {NODES} nodes");
        if hour == HOURS / 2 {
            app = rig.restart(app).await;
            rig.sweep(&app).await;
        }
    }
    let accepted = app.queues().accounting().accepted;
    assert!(accepted > 2 * i64::from(NODES), "only {accepted} versions in {HOURS} hours");

    let fleet = rig.control.fleet(&lane);
    let critical = SeverityCounts { critical: 1, ..SeverityCounts::default() };
    let low = SeverityCounts { low: 1, ..SeverityCounts::default() };
    for (index, node) in fleet.iter().enumerate() {
        let is_critical = index % usize::from(NODES_PER_CRITICAL) == 1;
        let severities = if is_critical { critical } else { low };
        rig.control.make_non_compliant(&lane, &node.id, 1, severities).unwrap();
    }
    hours.pass();
    rig.sweep(&app).await;
    rig.wait_for(&app, "all to wait", |queues, _| {
        let queued = queues.accounting().queued;
        queued.outbox == i64::from(NODES) && queued.total() == queued.outbox
    })
    .await;
    app.shutdown().await.unwrap();

    // A new process: its bucket is empty.
    rig.control.clear_faults();
    rig.control.mark();
    let app = rig.start().await;
    let requests = u64::from(NODES / 100);
    let sent = |wanted: u64| {
        rig.control
            .wait_until(move |control| control.stats_total().import_requests_since_mark >= wanted)
    };
    within(sent(1), "the first request").await;
    let began = Instant::now();
    within(sent(requests), "the last request").await;
    let took = began.elapsed();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    let lane_stats = rig.control.stats(&lane);
    assert_eq!(lane_stats.import_requests_since_mark, requests, "batches weren't full");
    let used = share_used(requests - 1, took);
    report(&format!(
        "{HOURS} hours of outage: {accepted} versions of {NODES} nodes, at most {waiting_max} \
         waiting; drained with {:.1} % of the quota",
        used * 100.0
    ));
    assert!(used >= 0.99, "only {used:.3} of the quota was used");

    let hub = rig.control.hub(&lane);
    let critical: Vec<&HubFinding> =
        hub.iter().filter(|it| it.severity_label == "CRITICAL").collect();
    assert_eq!(critical.len(), usize::from(NODES / NODES_PER_CRITICAL));
    let last_at_ms = critical.iter().map(|it| it.processed_at_ms).max().unwrap();
    let earlier = hub
        .iter()
        .filter(|it| it.severity_label == "LOW" && it.processed_at_ms < last_at_ms)
        .filter(|it| !once_critical.contains(it.resource_id.rsplit('/').next().unwrap()));
    assert_eq!(earlier.count(), 0, "findings that were never CRITICAL left before such");
    assert!(once_critical.len() < usize::from(NODES) / 2, "the order says nothing");
    app.shutdown().await.unwrap();
}

fn critical_nodes(rig: &Rig, lane: &SimLane) -> HashSet<String> {
    let fleet = rig.control.fleet(lane).into_iter();
    fleet.filter(|node| node.severities.critical > 0).map(|node| node.id).collect()
}

#[allow(clippy::cast_precision_loss)] // a few dozen
fn share_used(requests: u64, took: Duration) -> f64 {
    requests as f64 / (took.as_secs_f64() * PER_SECOND)
}
