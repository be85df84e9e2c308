//! An operator pauses a lane: it stops where it is, no other lane notices, and nothing is lost.

use std::time::Duration;

use patchferry::{
    metrics::LaneState,
    queue::PauseWhat,
    simulator::{Fault, Scope, Service, SimulatorConfig},
};

use super::{all_non_compliant, rig_of_findings};
use crate::harness::{ACCOUNT, Rig, lane, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_lane_keeps_its_findings_and_delays_no_other() {
    let config = SimulatorConfig::new(101).lane(ACCOUNT, "us-east-1", all_non_compliant(30)).lane(
        ACCOUNT,
        "us-east-2",
        all_non_compliant(30),
    );
    let mut rig = Rig::new(config).await;
    rig.config.ingest.patch_details = false;
    let lanes = rig.control.lanes();
    // Both are told to start with.
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let paused = Some(lane(&lanes[0]));
    app.queues().pause(PauseWhat::Delivery, paused.clone(), 0, "".into()).await.unwrap();
    rig.wait_for_state(&app, &lanes[0], LaneState::Paused).await;
    let before = rig.control.stats(&lanes[0]).import_requests;
    for lane in &lanes {
        rig.control.rescan(lane, 1.0);
    }
    rig.sweep(&app).await;
    rig.wait_for(&app, "the other lane to be told", |_, control| {
        control.differences(&lanes[1]).is_empty()
    })
    .await;
    rig.wait_for(&app, "the paused lane's findings to wait", |queues, _| {
        let queued = queues.accounting().queued;
        let waiting = queues.lane(&lane(&lanes[0])).outbox_findings();
        waiting > 0 && queued.total() == waiting
    })
    .await;
    assert_eq!(rig.control.stats(&lanes[0]).import_requests, before);
    assert!(!rig.control.differences(&lanes[0]).is_empty());
    rig.wait_for_state(&app, &lanes[1], LaneState::Flowing).await;
    rig.assert_accounted(&app).await;

    app.queues().resume(PauseWhat::Delivery, paused).await.unwrap();
    rig.settle(&app).await;
    rig.wait_for_state(&app, &lanes[0], LaneState::Flowing).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_when_delivery_is_paused_is_settled_and_nothing_follows() {
    let mut rig = rig_of_findings(102, 250).await;
    rig.config.deliver.max_in_flight_requests = 1;
    let sim = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "the whole backlog", |queues, _| queues.accounting().queued.outbox == 250)
        .await;
    let slow = Duration::from_millis(500);
    rig.exchange_fault(Fault::Latency { min: slow, max: slow });
    rig.control.mark();
    rig.wait_for(&app, "a request under way", |_, control| {
        control.stats(&sim).import_requests_since_mark > 0
    })
    .await;
    app.queues().pause(PauseWhat::Delivery, None, 0, "".into()).await.unwrap();
    rig.wait_for_state(&app, &sim, LaneState::Paused).await;
    rig.wait_for(&app, "what was in flight to be settled", |queues, _| {
        queues.accounting().delivered > 0
    })
    .await;
    let (requests, delivered) =
        (rig.control.stats(&sim).import_requests_since_mark, app.queues().accounting().delivered);
    assert_eq!(rig.control.stats(&sim).accepted, delivered.unsigned_abs());
    assert!(delivered < 250, "there was nothing left to hold back");
    // A fresh process doesn't send either.
    let app = rig.restart(app).await;
    rig.wait_for_state(&app, &sim, LaneState::Paused).await;
    rig.sweep(&app).await;
    assert_eq!(rig.control.stats(&sim).import_requests_since_mark, requests);
    rig.assert_accounted(&app).await;
    rig.control.clear_faults();
    app.queues().resume(PauseWhat::Delivery, None).await.unwrap();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_paused_ends_before_its_next_request_and_proves_nothing() {
    let rig = rig_of_findings(103, 120).await;
    let sim = rig.only_lane();
    let slow = Duration::from_millis(300);
    let states = Scope::of(Service::Ssm).operation("DescribeInstancePatchStates");
    rig.control.set_fault(states, Some(Fault::Latency { min: slow, max: slow }));
    let app = rig.start().await;
    let asked = |operation: &'static str| {
        let (control, sim) = (rig.control.clone(), sim.clone());
        move || control.stats(&sim).requests.get(operation).copied().unwrap_or(0)
    };
    let (begun, summaries) =
        (asked("DescribeInstanceInformation"), asked("ListResourceComplianceSummaries"));
    within(rig.control.wait_until(|_| summaries() > 0), "a page of summaries").await;
    app.queues().pause(PauseWhat::Ingest, None, 0, "".into()).await.unwrap();
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.paused), "the sweep to end").await.unwrap();
    let begun_once = begun();
    assert_eq!(sweeps.borrow().complete, 0);

    rig.control.clear_faults();
    app.queues().resume(PauseWhat::Ingest, None).await.unwrap();
    within(sweeps.wait_for(|status| status.complete > 0), "a complete sweep").await.unwrap();
    assert_eq!(begun(), 2 * begun_once, "one sweep was given up, and one begun anew");
    assert!(sweeps.borrow().failure.is_none(), "a pause is no failure");
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
