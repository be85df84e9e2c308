//! SSM fails while the fleet is read: what was accepted is kept, what was not seen proves nothing,
//! and a later sweep completes.

use std::time::Duration;

use patchferry::simulator::{Fault, Scope, Service};

use crate::harness::{Rig, metric, within};

fn ssm(operation: &str) -> Scope {
    Scope::of(Service::Ssm).operation(operation)
}

const SUMMARIES: &str = "ListResourceComplianceSummaries";
const STATES: &str = "DescribeInstancePatchStates";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_ends_half_way_keeps_what_it_accepted_and_resolves_nothing() {
    let mut rig = Rig::one_lane(91, 300).await;
    rig.config.ingest.patch_details = false;
    let lane = rig.only_lane();
    // Long enough for the outage to begin while a page's states are on their way.
    let pause = Duration::from_millis(300);
    rig.control.set_fault(ssm(STATES), Some(Fault::Latency { min: pause, max: pause }));
    let app = rig.start().await;
    let asked = |control: &patchferry::simulator::Control| {
        control.stats(&lane).requests.get(STATES).copied().unwrap_or(0)
    };
    within(rig.control.wait_until(|control| asked(control) >= 2), "a second page").await;
    rig.control.set_fault(ssm(SUMMARIES), Some(Fault::Outage));
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.failure.is_some()), "a failure").await.unwrap();
    rig.settle(&app).await;

    assert_eq!(sweeps.borrow().complete, 0);
    let accepted = app.queues().accounting().accepted;
    assert!((1..250).contains(&accepted), "{accepted} of some 285 were accepted");
    let hub = rig.control.hub(&lane);
    assert!(!hub.is_empty(), "what was accepted isn't delivered");
    assert!(hub.iter().all(|finding| finding.record_state == "ACTIVE"));
    assert!(
        metric(
            &app,
            "patchferry_ssm_requests_total{operation=\"ListResourceComplianceSummaries\",outcome=\"failed\"}"
        ) >= 1
    );

    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    assert!(app.lanes()[0].sweeps.borrow().failure.is_none());
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_sweep_completes() {
    let mut rig = Rig::one_lane(92, 100).await;
    rig.config.ingest.patch_details = false;
    let lane = rig.only_lane();
    // One: the SDK's adaptive retry slows down to a request in two seconds.
    rig.control.set_fault_for_calls(ssm(SUMMARIES), Fault::Throttle { ratio: 1.0 }, 1);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    assert_eq!(rig.control.stats(&lane).throttled, 1);
    assert_eq!(app.lanes()[0].sweeps.borrow().complete, 1);
    app.shutdown().await.unwrap();
}

/// Answers that say nothing about the fleet change nothing in the hub.
async fn proves_nothing(seed: u64, fault: Fault) {
    let mut rig = Rig::one_lane(seed, 150).await;
    rig.config.ingest.patch_details = false;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let before = rig.control.hub(&lane);

    rig.control.set_fault(Scope::of(Service::Ssm), Some(fault));
    let mut sweeps = app.lanes()[0].sweeps.clone();
    app.sweep_now();
    // Whether it fails or finds nothing is the SDK's reading of the answer.
    let completed = sweeps.borrow().complete;
    let ended = sweeps.wait_for(|it| it.failure.is_some() || it.complete > completed);
    within(ended, "the sweep's end").await.unwrap();
    rig.settle(&app).await;
    assert_eq!(rig.control.hub(&lane), before);

    rig.control.clear_faults();
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_of_ssm_resolves_nothing() {
    proves_nothing(93, Fault::Empty200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_in_place_of_ssm_s_answer_resolves_nothing() {
    proves_nothing(94, Fault::Html200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_ssm_that_is_cut_short_resolves_nothing() {
    proves_nothing(95, Fault::Truncated200).await;
}
