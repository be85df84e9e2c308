//! SSM fails while the fleet is read: what was accepted is kept, what was not seen proves nothing,
//! and a later sweep completes.

use std::time::Duration;

use patchferry::{
    app::App,
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig, metric, within};

fn ssm(operation: &str) -> Scope {
    Scope::of(Service::Ssm).operation(operation)
}

const SUMMARIES: &str = "ListResourceComplianceSummaries";
const STATES: &str = "DescribeInstancePatchStates";
const PATCHES: &str = "DescribeInstancePatches";

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

fn requests(app: &App, operation: &str, outcome: &str) -> u64 {
    let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
    metric(app, &format!("patchferry_ssm_requests_total{labels}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_sweep_completes_and_each_request_passes_the_limiter() {
    let mut rig = Rig::one_lane(92, 100).await;
    rig.config.ingest.patch_details = false;
    let lane = rig.only_lane();
    rig.control.set_fault_for_calls(ssm(SUMMARIES), Fault::Throttle { ratio: 1.0 }, 4);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!(stats.throttled, 4);
    let counted = [requests(&app, SUMMARIES, "ok"), requests(&app, SUMMARIES, "throttled")];
    assert_eq!(counted[1], 4);
    let sent = stats.requests.get(SUMMARIES).copied();
    assert_eq!(sent, Some(counted.iter().sum()), "something tries again behind our back");
    let sweeps = app.lanes()[0].sweeps.borrow().clone();
    assert_eq!((sweeps.complete, sweeps.failure), (1, None), "it was one sweep");
    app.shutdown().await.unwrap();
}

/// A lane all of whose nodes lack patches, and are asked for them.
async fn detailed(seed: u64, nodes: usize) -> Rig {
    let fleet = FleetConfig {
        nodes,
        hybrid_share: 0.0,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let mut rig = Rig::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet)).await;
    rig.config.ingest.patch_details = true;
    rig.without_quota()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ssm_fails_to_tell_of_stands_in_no_others_way() {
    let rig = detailed(96, 30).await;
    // One node's three attempts.
    rig.control.set_fault_for_calls(ssm(PATCHES), Fault::Outage, 3);
    let app = rig.start().await;
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.failure.is_some()), "a failure").await.unwrap();
    let failure = sweeps.borrow().failure.clone().unwrap();
    assert!(failure.starts_with("1 of its nodes could not be read, i-"), "{failure}");
    rig.settle(&app).await;
    assert_eq!(app.queues().accounting().delivered, 29, "the others are told");
    assert_eq!(requests(&app, PATCHES, "failed"), 3);

    app.sweep_now();
    within(sweeps.wait_for(|status| status.complete == 1), "a complete sweep").await.unwrap();
    rig.settle(&app).await;
    assert_eq!(app.queues().accounting().delivered, 30, "and now that one");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_details_is_not_tried_node_by_node_to_the_end() {
    let rig = detailed(97, 60).await;
    rig.control.set_fault(ssm(PATCHES), Some(Fault::Outage));
    let app = rig.start().await;
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.failure.is_some()), "a failure").await.unwrap();
    let failed = requests(&app, PATCHES, "failed");
    assert!((18..60).contains(&failed), "{failed} requests: three for each of six nodes");
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
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
