//! A hub that can't be compared harms nothing else; one that has lost everything is told at once.

use std::time::Duration;

use patchferry::simulator::{Fault, Scope, Service};

use super::{SETTLED, Story, told};
use crate::harness::{Rig, within};

fn reads() -> Scope {
    Scope::of(Service::SecurityHub).operation("GetFindings")
}

/// Nodes change and are told, whatever the comparison does.
async fn goes_on(story: &Story) {
    for _ in 0..2 {
        story.rig.control.rescan(&story.lane, 0.4);
        story.rig.sweep_and_settle(&story.app).await;
        story.rig.assert_true(&story.app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_hangs_when_it_is_read_delays_neither_sends_nor_sweeps() {
    let story = told(146).await;
    story.rig.control.set_fault(reads(), Some(Fault::NeverAnswer));
    let handle = story.app.lanes()[0].reconcile.clone();
    let asked = tokio::spawn(async move { handle.reconcile(true).await });
    story
        .rig
        .wait_for(&story.app, "the hub to be asked", |_, control| {
            control.stats(&story.lane).requests["GetFindings"] > 1
        })
        .await;
    goes_on(&story).await;
    assert!(!asked.is_finished(), "it hangs still");
    story.rig.control.clear_faults();
    // The one that hangs ends by its own time, and is asked again.
    within(asked, "the comparison to end").await.unwrap().unwrap();
    story.rig.settle(&story.app).await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_may_not_be_read_is_told_of_and_harms_nothing_else() {
    let story = told(147).await;
    story.rig.control.set_fault(reads(), Some(Fault::AccessDenied));
    let refused = story.try_reconcile(true).await.unwrap_err();
    assert!(refused.is_denied(), "{refused}");
    let status = &story.app.status().await.lanes[0];
    assert!(status.reconcile_failure.as_ref().is_some_and(|why| why.contains("GetFindings")));
    goes_on(&story).await;
    story.rig.control.clear_faults();
    story.clock.advance(SETTLED);
    assert!(story.reconcile(true).await.differences.is_empty());
    assert_eq!(story.app.status().await.lanes[0].reconcile_failure, None);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_comparison_slows_down_and_ends() {
    let story = told(148).await;
    story.rig.control.set_fault(reads(), Some(Fault::Throttle { ratio: 0.5 }));
    assert!(story.reconcile(true).await.differences.is_empty());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_lost_everything_while_it_was_off_is_told_at_once() {
    let rig = Rig::one_lane(149, 80).await.without_quota();
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(Fault::HubOff));
    rig.control.rescan(&lane, 0.9);
    rig.sweep(&app).await;
    rig.wait_for_state(
        &app,
        &lane,
        patchferry::metrics::LaneState::Held(patchferry::metrics::HoldReason::HubOff),
    )
    .await;
    rig.control.empty_hub(&lane);
    rig.control.clear_faults();
    // No sweep is asked for, and the next is an hour away.
    assert_eq!(rig.config.ingest.poll_interval, Duration::from_secs(3_600));
    rig.wait_for(&app, "all to be told", |queues, control| {
        queues.accounting().queued.total() == 0 && control.differences_total().is_empty()
    })
    .await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
