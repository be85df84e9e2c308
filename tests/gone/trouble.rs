//! SSM or Cloud Control fails: nothing is resolved that exists, and nobody else notices.

use std::time::Duration;

use patchferry::{app::App, queue::PauseWhat, simulator::Fault};

use super::{
    Rig, SimLane, asked, assert_gone, assert_open, cloud_control, nodes, ours, settled, ssm,
};
use crate::harness::within;

const SUMMARIES: &str = "ListResourceComplianceSummaries";
const INFORMATION: &str = "DescribeInstanceInformation";

fn requests(rig: &Rig, lane: &SimLane, operation: &str) -> u64 {
    rig.control.stats(lane).requests.get(operation).copied().unwrap_or(0)
}

/// Sweeps in which `operation` fails from its page `page` on, until the faults are cleared.
async fn sweeps_failing_at(rig: &Rig, app: &App, lane: &SimLane, operation: &str, page: u64) {
    let scope = ssm().operation(operation);
    let before = requests(rig, lane, operation);
    if page > 0 {
        // Long enough for the outage to begin while the page before is on its way.
        let pause = Duration::from_millis(150);
        rig.control.set_fault(scope.clone(), Some(Fault::Latency { min: pause, max: pause }));
        app.sweep_now();
        let arrived = rig.control.wait_until(|_| requests(rig, lane, operation) >= before + page);
        within(arrived, "the page before").await;
        rig.control.set_fault(scope, Some(Fault::Outage));
    } else {
        rig.control.set_fault(scope, Some(Fault::Outage));
        app.sweep_now();
    }
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.failure.is_some()), "a failure").await.unwrap();
    rig.settle(app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_fails_at_whatever_page_resolves_nothing() {
    let (rig, app, lane) = settled(751, 120, 0.3).await;
    for operation in [INFORMATION, SUMMARIES] {
        for page in 0..3 {
            let gone = [nodes(&rig, &lane, false).remove(0), nodes(&rig, &lane, true).remove(0)];
            for node in &gone {
                rig.control.remove_node(&lane, node).unwrap();
            }
            let asked_before = asked(&rig.control, &lane);
            sweeps_failing_at(&rig, &app, &lane, operation, page).await;
            for node in &gone {
                assert_open(&rig, &lane, node);
            }
            assert_eq!(asked(&rig.control, &lane), asked_before, "{operation}, page {page}");

            rig.control.clear_faults();
            rig.sweep_and_settle(&app).await;
            assert_gone(&rig, &lane, &gone[0], "no longer exists");
            assert_gone(&rig, &lane, &gone[1], "deregistered");
        }
    }
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

/// SSM's lists are empty while the fleet is as it was.
async fn empty_lists(seed: u64, hybrid_share: f64, denies: bool) {
    let (rig, app, lane) = settled(seed, 60, hybrid_share).await;
    if denies {
        rig.control.set_fault(cloud_control(), Some(Fault::AccessDenied));
    }
    rig.control.set_fault(ssm(), Some(Fault::Empty200));
    for _ in 0..3 {
        rig.sweep_and_settle(&app).await;
        assert_eq!(app.lanes()[0].sweeps.borrow().last_report.nodes, 0, "the lists are empty");
    }
    let interval = app.lanes()[0].sweeps.borrow().next_interval;
    assert!(interval <= rig.config.ingest.poll_interval.mul_f64(1.1), "{interval:?}");
    for node in rig.control.fleet(&lane) {
        assert_open(&rig, &lane, &node.id);
    }
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    assert!(app.queues().absences(&ours(&rig)).await.unwrap().is_empty());
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_lists_of_a_fleet_that_exists_resolve_nothing() {
    empty_lists(752, 0.3, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_lists_of_a_hybrid_fleet_resolve_nothing() {
    empty_lists(753, 1.0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_lists_resolve_nothing_where_nobody_can_be_asked() {
    empty_lists(754, 0.3, true).await;
}

/// Cloud Control is in trouble while a node is gone: the sweep completes and others are told; once
/// it answers, the node is resolved.
async fn cloud_control_in_trouble(seed: u64, fault: Fault) {
    let (rig, app, lane) = settled(seed, 40, 0.0).await;
    let [gone, other] = [0, 1].map(|index| nodes(&rig, &lane, false)[index].clone());
    rig.control.remove_node(&lane, &gone).unwrap();
    rig.control.make_compliant(&lane, &other).unwrap();
    rig.control.set_fault(cloud_control(), Some(fault));
    app.sweep_now();
    // Told while the question hangs, or before it was given up.
    rig.wait_for(&app, "the other node's news", |_, control| {
        asked(control, &lane) > 0
            && control
                .hub(&lane)
                .iter()
                .any(|it| it.resource_id.ends_with(&other) && it.record_state == "ARCHIVED")
    })
    .await;
    assert_open(&rig, &lane, &gone);
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, &gone);
    assert!(app.lanes()[0].sweeps.borrow().failure.is_none());

    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, &gone, "no longer exists");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_cloud_control_harms_nothing_else() {
    cloud_control_in_trouble(755, Fault::Outage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_cloud_control_harms_nothing_else() {
    cloud_control_in_trouble(756, Fault::Throttle { ratio: 1.0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_control_that_hangs_harms_nothing_else() {
    cloud_control_in_trouble(757, Fault::NeverAnswer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_in_place_of_cloud_control_resolves_nothing() {
    cloud_control_in_trouble(758, Fault::Html200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_of_cloud_control_resolves_nothing() {
    cloud_control_in_trouble(759, Fault::Empty200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_by_an_operator_stops_the_asking_too() {
    let (rig, app, lane) = settled(760, 20, 0.0).await;
    let gone: Vec<String> = nodes(&rig, &lane, false).into_iter().take(5).collect();
    for node in &gone {
        rig.control.remove_node(&lane, node).unwrap();
    }
    let pause = Duration::from_millis(300);
    rig.control.set_fault(cloud_control(), Some(Fault::Latency { min: pause, max: pause }));
    app.sweep_now();
    within(rig.control.wait_until(|it| asked(it, &lane) >= 1), "the first question").await;
    let queues = app.queues();
    queues.pause(PauseWhat::Ingest, None, 0, "".into()).await.unwrap();
    let mut sweeps = app.lanes()[0].sweeps.clone();
    within(sweeps.wait_for(|status| status.paused), "the lane to be paused").await.unwrap();
    assert!(asked(&rig.control, &lane) <= 2);
    for node in &gone {
        assert_open(&rig, &lane, node);
    }
    queues.resume(PauseWhat::Ingest, None).await.unwrap();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
