//! Nodes that nobody can be asked about: gone after thirty days' absence, and not a day earlier.

use std::time::Duration;

use patchferry::simulator::Fault;

use super::{
    Rig, SimLane, asked, assert_gone, assert_open, cloud_control, counted, nodes, ours, rig, ssm,
};
use crate::harness::clock::MovableClock;

const DAY: Duration = Duration::from_secs(86_400);

async fn absences(rig: &Rig, app: &patchferry::app::App) -> usize {
    app.queues().absences(&ours(rig)).await.unwrap().len()
}

/// A rig that may not ask Cloud Control, and an EC2 node of it that has gone.
async fn denied(seed: u64, clock: &MovableClock) -> (Rig, patchferry::app::App, SimLane, String) {
    let mut rig = rig(seed, 20, 0.0, clock).await;
    rig.config.finding.refresh_after = 60 * DAY;
    let lane = rig.only_lane();
    rig.control.set_fault(cloud_control(), Some(Fault::AccessDenied));
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let node = nodes(&rig, &lane, false)[0].clone();
    (rig, app, lane, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_to_ask_thirty_days_of_absence_and_not_one_less() {
    let clock = MovableClock::default();
    let (rig, mut app, lane, node) = denied(731, &clock).await;
    rig.control.remove_node(&lane, &node).unwrap();
    for day in 0..30 {
        rig.sweep_and_settle(&app).await;
        assert_open(&rig, &lane, &node);
        if day == 13 {
            app = rig.restart(app).await;
        }
        clock.advance(DAY);
    }
    assert_eq!(absences(&rig, &app).await, 1);
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, &node, "for a long time");
    assert_eq!(absences(&rig, &app).await, 0);
    let asked = asked(&rig.control, &lane);
    assert!((15..=32).contains(&asked), "asked {asked} times: about once a day");
    assert!(counted(&app, "denied") > 0);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_seen_meanwhile_begins_anew_though_that_sweep_failed() {
    let clock = MovableClock::default();
    let (rig, app, lane, node) = denied(732, &clock).await;
    let leave = || {
        rig.control.stop_node(&lane, &node).unwrap();
        rig.control.forget_compliance(&lane, &node).unwrap();
    };
    leave();
    for _ in 0..20 {
        rig.sweep_and_settle(&app).await;
        clock.advance(DAY);
    }
    assert_eq!(absences(&rig, &app).await, 1);
    // Listed as managed; the rest of that sweep fails.
    rig.control.start_node(&lane, &node).unwrap();
    let summaries = ssm().operation("ListResourceComplianceSummaries");
    rig.control.set_fault(summaries, Some(Fault::Outage));
    let mut sweeps = app.lanes()[0].sweeps.clone();
    app.sweep_now();
    sweeps.wait_for(|status| status.failure.is_some()).await.unwrap();
    assert_eq!(absences(&rig, &app).await, 0);
    rig.control.clear_faults();
    rig.control.set_fault(cloud_control(), Some(Fault::AccessDenied));
    leave();
    for _ in 0..20 {
        rig.sweep_and_settle(&app).await;
        assert_open(&rig, &lane, &node);
        clock.advance(DAY);
    }
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_on_which_nobody_looked_count_for_nothing() {
    let clock = MovableClock::default();
    let (rig, app, lane, node) = denied(733, &clock).await;
    rig.control.remove_node(&lane, &node).unwrap();
    rig.sweep_and_settle(&app).await;
    clock.advance(31 * DAY);
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, &node);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_granted_is_used_within_a_day() {
    let clock = MovableClock::default();
    let (rig, app, lane, node) = denied(734, &clock).await;
    rig.control.remove_node(&lane, &node).unwrap();
    rig.sweep_and_settle(&app).await;
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, &node);
    assert_eq!(asked(&rig.control, &lane), 1, "a denial is remembered");
    clock.advance(DAY + Duration::from_secs(60));
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, &node, "no longer exists");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_asking_is_turned_off_absence_decides() {
    let clock = MovableClock::default();
    let mut rig = rig(735, 10, 0.0, &clock).await;
    rig.config.ingest.cloud_control = false;
    rig.config.finding.gone_after = 2 * DAY;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.remove_node(&lane, node).unwrap();
    for _ in 0..2 {
        rig.sweep_and_settle(&app).await;
        assert_open(&rig, &lane, node);
        clock.advance(DAY);
    }
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, node, "for a long time");
    assert_eq!(asked(&rig.control, &lane), 0);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_hybrid_nodes_of_a_lane_have_no_witness_and_wait_as_long() {
    let clock = MovableClock::default();
    let mut rig = rig(736, 3, 1.0, &clock).await;
    rig.config.finding.gone_after = DAY;
    rig.config.finding.refresh_after = 60 * DAY;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let all = nodes(&rig, &lane, true);
    for node in &all {
        rig.control.remove_node(&lane, node).unwrap();
    }
    rig.sweep_and_settle(&app).await;
    for node in &all {
        assert_open(&rig, &lane, node);
    }
    clock.advance(DAY);
    rig.sweep_and_settle(&app).await;
    for node in &all {
        assert_gone(&rig, &lane, node, "for a long time");
    }
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
