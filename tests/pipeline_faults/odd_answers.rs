//! Answers that say nothing, or don't arrive: the outcome is unknown, so the same bytes are sent
//! again, and alone if need be.

use patchferry::{
    app::App,
    metrics::LaneState,
    simulator::{Fault, SimLane},
};

use super::rig_of_findings;
use crate::harness::{Rig, hub_requests};

async fn start(seed: u64, findings: usize, fault: Fault) -> (Rig, SimLane, App) {
    let rig = rig_of_findings(seed, findings).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.exchange_fault(fault);
    (rig, lane, app)
}

async fn heal(rig: &Rig, app: App) {
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

/// A 200 that accounts for nothing: halved until alone, then the hub is asked.
async fn accounts_for_nothing(seed: u64, fault: Fault) {
    let (rig, lane, app) = start(seed, 12, fault).await;
    let asked_before = rig.control.stats(&lane).requests["GetFindings"];
    rig.wait_for(&app, "a confirmation", |_, control| {
        control.stats(&lane).requests["GetFindings"] > asked_before
    })
    .await;
    assert!(hub_requests(&app, "unknown") >= 3);
    assert_eq!(rig.control.stats(&lane).accepted, 0);
    assert_eq!(app.queues().accounting().delivered, 0, "nonsense was taken for a receipt");
    heal(&rig, app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_200_is_no_acknowledgement() {
    accounts_for_nothing(51, Fault::Empty200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_batch_is_no_acknowledgement() {
    accounts_for_nothing(52, Fault::ForeignAnswer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmations_keep_to_the_quota_of_reading() {
    let (rig, lane, app) = start(53, 30, Fault::ForeignAnswer).await;
    let requests = rig.control.stats(&lane).import_requests;
    // All are alone after some 60 requests, in 4 s or so.
    rig.wait_for(&app, "all to be asked for alone", |queues, control| {
        control.stats(&lane).import_requests >= requests + 55
            && queues.accounting().queued.delayed > 0
    })
    .await;
    assert_eq!(rig.control.stats(&lane).over_quota, 0);
    heal(&rig, app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_in_place_of_an_answer_is_an_outage() {
    let (rig, lane, app) = start(54, 150, Fault::Html200).await;
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    assert!(hub_requests(&app, "unavailable") >= 1);
    assert_eq!(app.queues().accounting().delivered, 0);
    heal(&rig, app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_short_is_asked_for_again_with_the_same_bytes() {
    let (rig, lane, app) = start(55, 150, Fault::Truncated200).await;
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    rig.wait_for(&app, "a batch to come again", |_, control| {
        control.stats(&lane).ignored_updates >= 50
    })
    .await;
    assert_eq!(app.queues().accounting().delivered, 0);
    heal(&rig, app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_costs_a_second_request_and_rewrites_nothing() {
    let (rig, lane, app) = start(56, 400, Fault::LostReply { ratio: 0.5 }).await;
    rig.wait_for(&app, "a batch to come again", |_, control| {
        control.stats(&lane).ignored_updates > 0
    })
    .await;
    rig.control.clear_faults();
    rig.settle(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!(stats.accepted, 400, "each version was taken once");
    assert_eq!(stats.rewritten_history, 0);
    assert!(rig.control.hub(&lane).iter().all(|finding| finding.imports == 1));
    heal(&rig, app).await;
}
