//! A hub that takes a request and never answers, or answers byte by byte: the attempt ends at its
//! time limit, the lane backs off, and the same bytes go again.

use std::time::Duration;

use patchferry::{
    metrics::LaneState,
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
};

use super::{assert_no_attempt_was_charged, rig_of_findings};
use crate::harness::{ACCOUNT, REGION, Rig, hub_requests};

/// The answer takes longer than an attempt may: 15 s.
async fn ends_at_the_limit(seed: u64, fault: Fault, resent: bool) {
    let rig = rig_of_findings(seed, 120).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.exchange_fault(fault);
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    assert!(hub_requests(&app, "unavailable") >= 1);
    assert_eq!(app.queues().accounting().delivered, 0);
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!(stats.accepted, 120, "each version was taken once");
    assert_eq!(stats.ignored_updates > 0, resent, "{stats:?}");
    assert_no_attempt_was_charged(&rig, &app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_never_answers_is_an_outage() {
    ends_at_the_limit(101, Fault::NeverAnswer, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_answers_byte_by_byte_for_ever_is_an_outage() {
    ends_at_the_limit(102, Fault::Trickle { pause: Duration::from_secs(2) }, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_answers_byte_by_byte_in_time_is_heard() {
    let rig = rig_of_findings(103, 250).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.exchange_fault(Fault::Trickle { pause: Duration::from_millis(5) });
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!((stats.accepted, stats.ignored_updates), (250, 0));
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_whose_hub_never_answers_delays_no_other() {
    let fleet = FleetConfig::of(100);
    let simulator =
        SimulatorConfig::new(104).lane(ACCOUNT, REGION, fleet).lane(ACCOUNT, "eu-west-1", fleet);
    let rig = Rig::new(simulator).await;
    let lanes = rig.control.lanes();
    let (well, ill) = (&lanes[0], &lanes[1]);
    let hub = Scope::of(Service::SecurityHub).lane(ill);
    rig.control.set_fault(hub, Some(Fault::NeverAnswer));
    let app = rig.start().await;
    rig.wait_for(&app, "the other lane", |_, control| control.differences(well).is_empty()).await;
    rig.control.rescan(well, 0.5);
    rig.sweep(&app).await;
    rig.wait_for(&app, "the other lane", |_, control| control.differences(well).is_empty()).await;
    assert!(rig.control.hub(ill).is_empty());
    rig.control.clear_faults();
    // Requests that nobody answers end at their time limit.
    rig.settle(&app).await;
    rig.wait_for_state(&app, ill, LaneState::Flowing).await;
    rig.assert_true(&app).await;
    assert_eq!(rig.control.stats(well).ignored_updates, 0);
    app.shutdown().await.unwrap();
}
