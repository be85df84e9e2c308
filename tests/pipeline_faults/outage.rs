//! The hub is away: the lane backs off and probes, the backlog stays as small as the fleet, and
//! when the hub is back the newest states leave, the most severe first.

use patchferry::{
    metrics::LaneState,
    record::AttemptOutcome,
    simulator::{Fault, FleetConfig, Scope, Service, SeverityCounts, SimulatorConfig},
};

use super::{assert_no_attempt_was_charged, rig_of_findings};
use crate::harness::{ACCOUNT, REGION, Rig, hub_requests, imports};

async fn is_survived(fault: Fault) {
    let rig = Rig::one_lane(11, 300).await;
    let lane = rig.only_lane();
    rig.control.set_fault(imports(), Some(fault));
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    rig.wait_for(&app, "a probe that fails", |_, _| hub_requests(&app, "unavailable") >= 2).await;
    assert_eq!(app.queues().accounting().delivered, 0);
    assert!(rig.control.hub(&lane).is_empty());

    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    rig.assert_true(&app).await;
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0, "nothing was sent twice");
    assert_no_attempt_was_charged(&rig, &app).await;
    for receipt in rig.receipts(&app, &lane).await {
        let known = receipt.failures.iter().all(|it| it.outcome == AttemptOutcome::Unavailable);
        assert!(known, "{receipt:?}");
    }
    let with_failures = rig.receipts(&app, &lane).await.into_iter();
    let with_failures = with_failures.filter(|receipt| !receipt.failures.is_empty()).count();
    assert!(with_failures > 0, "no receipt tells of the probes that failed");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_answers_503_delays_findings_and_loses_none() {
    is_survived(Fault::Outage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_refuses_connections_delays_findings_and_loses_none() {
    is_survived(Fault::Refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_resets_connections_delays_findings_and_loses_none() {
    is_survived(Fault::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_in_the_middle_leaves_the_newest_states_and_a_backlog_no_larger_than_the_fleet() {
    let rig = Rig::one_lane(12, 200).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let coalesced_before = app.queues().accounting().coalesced;

    rig.control.set_fault(imports(), Some(Fault::Outage));
    for _ in 0..4 {
        rig.control.rescan(&lane, 0.8);
        rig.sweep(&app).await;
        rig.wait_for(&app, "findings that wait", |queues, _| {
            let queued = queues.accounting().queued;
            queued.outbox > 0 && queued.outbox == queued.total()
        })
        .await;
        let waiting = app.queues().accounting().queued.total();
        assert!(waiting <= 200, "{waiting} versions wait for 200 nodes");
    }
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    let coalesced = app.queues().accounting().coalesced - coalesced_before;
    assert!(coalesced > 0, "no version took an older one's place");

    let accepted_before = rig.control.stats(&lane).accepted;
    let waiting = app.queues().accounting().queued.total();
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    let sent = rig.control.stats(&lane).accepted - accepted_before;
    assert_eq!(i64::try_from(sent).unwrap(), waiting, "each waiting version was told once");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_severe_leave_first_after_an_outage() {
    let mut rig = rig_of_findings(13, 330).await;
    // One request at a time: the order of arrival is that of departure.
    rig.config.deliver.max_in_flight_requests = 1;
    let lane = rig.only_lane();
    let fleet = rig.control.fleet(&lane);
    let critical = SeverityCounts { critical: 1, ..SeverityCounts::default() };
    let low = SeverityCounts { low: 1, ..SeverityCounts::default() };
    for (index, node) in fleet.iter().enumerate() {
        let severities = if index % 3 == 2 { critical } else { low };
        rig.control.make_non_compliant(&lane, &node.id, 1, severities).unwrap();
    }
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "all to wait", |queues, _| queues.accounting().queued.outbox == 330).await;
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;

    let hub = rig.control.hub(&lane);
    let arrived = |label: &'static str| {
        hub.iter().filter(move |it| it.severity_label == label).map(|it| it.processed_at_ms)
    };
    assert_eq!(arrived("CRITICAL").count(), 110);
    let last_critical = arrived("CRITICAL").max().unwrap();
    let before = arrived("LOW").filter(|at| *at < last_critical).count();
    assert_eq!(before, 0, "findings of severity LOW left before CRITICAL ones");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_region_s_outage_delays_no_other() {
    let simulator = SimulatorConfig::new(14).lane(ACCOUNT, REGION, FleetConfig::of(150)).lane(
        ACCOUNT,
        "eu-west-1",
        FleetConfig::of(150),
    );
    let rig = Rig::new(simulator).await;
    let lanes = rig.control.lanes();
    let (well, ill) = (&lanes[0], &lanes[1]);
    rig.control.set_fault(Scope::of(Service::SecurityHub).lane(ill), Some(Fault::Outage));
    let app = rig.start().await;
    rig.wait_for_state(&app, ill, LaneState::BackingOff).await;
    rig.wait_for(&app, "the other lane", |_, control| control.differences(well).is_empty()).await;
    for _ in 0..2 {
        rig.control.rescan(well, 0.5);
        rig.sweep(&app).await;
        rig.wait_for(&app, "the other lane", |_, control| control.differences(well).is_empty())
            .await;
    }
    rig.wait_for_state(&app, well, LaneState::Flowing).await;
    rig.wait_for_state(&app, ill, LaneState::BackingOff).await;
    assert!(rig.control.hub(ill).is_empty());

    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
