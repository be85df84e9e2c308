//! Quotas: never exceeded, used to the full, and a smaller one is found.

use std::time::Instant;

use patchferry::simulator::{Quota, Quotas};

use super::{assert_no_attempt_was_charged, rig_of_findings};
use crate::harness::{hub_requests, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_is_drained_in_full_batches_and_never_above_the_quota() {
    let rig = rig_of_findings(21, 4_000).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "all to wait", |queues, _| queues.accounting().queued.outbox == 4_000).await;
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!(stats.over_quota, 0);
    assert!(stats.batch_sizes.get(&100).is_some_and(|full| *full >= 38), "{stats:?}");
    app.shutdown().await.unwrap();
}

/// At less than the real quota, so that the share says something about the lane, not about how
/// fast a debug build is on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_backlog_the_quota_is_used() {
    const PER_SECOND: f64 = 4.0;
    const COUNTED_REQUESTS: u32 = 16;
    let mut rig = rig_of_findings(23, 2_000).await;
    rig.config.deliver.requests_per_second = PER_SECOND;
    let lane = rig.only_lane();
    let import = Some(Quota { per_second: PER_SECOND, burst: 30.0 });
    rig.control.set_quotas(&lane, &Quotas { import, ssm: None, ..Quotas::default() });
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "all to wait", |queues, _| queues.accounting().queued.outbox == 2_000).await;
    app.shutdown().await.unwrap();

    // A new process: its bucket is empty.
    rig.control.clear_faults();
    rig.control.mark();
    let app = rig.start().await;
    let began = Instant::now();
    let enough = rig.control.wait_until(|control| {
        control.stats(&lane).import_requests_since_mark >= u64::from(COUNTED_REQUESTS)
    });
    within(enough, "the counted requests").await;
    let used = f64::from(COUNTED_REQUESTS) / (began.elapsed().as_secs_f64() * PER_SECOND);
    assert!(used >= 0.95, "only {used:.2} of the quota was used");

    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_shared_quota_is_found_and_used() {
    let rig = rig_of_findings(22, 1_500).await;
    let lane = rig.only_lane();
    let app = rig.start_with_backlog().await;
    let left = Some(Quota { per_second: 3.0, burst: 3.0 });
    rig.control.set_quotas(&lane, &Quotas { import: left, ssm: None, ..Quotas::default() });
    rig.control.mark();
    rig.control.clear_faults();
    rig.settle(&app).await;

    rig.assert_accounted(&app).await;
    assert_eq!(rig.control.differences(&lane), Vec::<String>::new());
    let refused = rig.control.stats(&lane).over_quota;
    let requests = rig.control.stats(&lane).import_requests_since_mark;
    assert!(refused > 0, "the smaller quota was not met");
    assert!(hub_requests(&app, "throttled") >= refused);
    assert!(refused * 2 < requests, "{refused} of {requests} requests were over the quota");
    assert_no_attempt_was_charged(&rig, &app).await;

    rig.control.set_quotas(&lane, &Quotas { ssm: None, ..Quotas::default() });
    rig.control.rescan(&lane, 0.5);
    rig.sweep_and_settle(&app).await;
    rig.assert_accounted(&app).await;
    assert_eq!(rig.control.differences(&lane), Vec::<String>::new());
    assert_eq!(rig.control.stats(&lane).over_quota, refused, "over the quota that was raised");
    app.shutdown().await.unwrap();
}
