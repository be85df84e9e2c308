//! Batches of which a part fails: what was acknowledged is done, what failed is tried again.

use patchferry::{metrics::LaneState, simulator::Fault};

use super::rig_of_findings;
use crate::harness::{hub_requests, metric};

async fn thirty_percent_fail_with(code: &str) {
    let rig = rig_of_findings(31, 200).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.exchange_fault(Fault::Partial { ratio: 0.3, code: code.into() });
    rig.wait_for(&app, "the second attempts", |queues, control| {
        let stats = control.stats(&lane);
        queues.accounting().queued.outbox == 0
            && stats.failed_findings > 0
            && stats.accepted + stats.failed_findings > 200
    })
    .await;
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;

    let stats = rig.control.stats(&lane);
    assert!(hub_requests(&app, "partial") >= 2);
    assert_eq!(stats.accepted, 200);
    assert_eq!(stats.ignored_updates, 0, "what was acknowledged was sent again");
    assert_eq!(metric(&app, "patchferry_stubborn_findings"), 0);
    let receipts = rig.receipts(&app, &lane).await;
    assert_eq!(receipts.len(), 200);
    assert!(receipts.iter().filter(|it| it.attempts == 1).count() > 100);
    let again: u64 = receipts.iter().map(|it| u64::from(it.attempts) - 1).sum();
    if code == "InvalidAccess" {
        // A retry of few may fail whole, which holds the lane and charges nobody.
        assert!(again <= stats.failed_findings);
    } else {
        assert_eq!(again, stats.failed_findings, "each failure is an attempt of its finding");
        rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    }
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_that_fail_inside_aws_are_tried_again() {
    thirty_percent_fail_with("InternalFailure").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_that_others_update_at_the_same_time_are_tried_again() {
    thirty_percent_fail_with("ConcurrentUpdateError").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_that_fail_for_a_reason_nobody_knows_are_tried_again() {
    thirty_percent_fail_with("SomethingNobodyKnows").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_access_for_some_findings_holds_no_lane_whose_others_are_acknowledged() {
    thirty_percent_fail_with("InvalidAccess").await;
}
