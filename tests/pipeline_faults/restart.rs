//! Restarts: what was accepted is delivered by the next process, within the quota.

use patchferry::simulator::{Fault, Quotas};

use super::rig_of_findings;
use crate::harness::{Rig, imports};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_amid_an_outage_loses_nothing() {
    let rig = Rig::one_lane(71, 250).await;
    let lane = rig.only_lane();
    rig.control.set_fault(imports(), Some(Fault::Outage));
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "a request that fails", |_, control| {
        control.stats(&lane).import_requests > 0
    })
    .await;
    let before = app.queues().accounting();
    assert_eq!(before.delivered, 0);

    let app = rig.restart(app).await;
    let after = app.queues().accounting();
    assert!(after.accepted >= before.accepted, "{after:?}");
    assert_eq!(after.imbalance(), 0);
    rig.sweep(&app).await;
    assert_eq!(rig.control.stats(&lane).accepted, 0);

    // The fleet changes while nobody looks.
    app.shutdown().await.unwrap();
    rig.control.rescan(&lane, 0.7);
    rig.control.clear_faults();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_restarts_spend_no_quota_twice() {
    let rig = rig_of_findings(72, 400).await;
    let lane = rig.only_lane();
    // Whatever is sent is halved and sent again: there is always a next request.
    rig.control.set_fault(imports(), Some(Fault::Empty200));
    let mut app = rig.start().await;
    rig.sweep(&app).await;
    for _ in 0..6 {
        rig.control.mark();
        rig.wait_for(&app, "some requests", |_, control| {
            control.stats(&lane).import_requests_since_mark >= 6
        })
        .await;
        app = rig.restart(app).await;
    }
    assert_eq!(rig.control.stats(&lane).over_quota, 0);
    assert_eq!(app.queues().accounting().delivered, 0);
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_a_batch_is_under_way_sends_it_again_unchanged() {
    let rig = rig_of_findings(73, 300).await;
    let lane = rig.only_lane();
    rig.control.set_quotas(&lane, &Quotas { ssm: None, ..Quotas::default() });
    let app = rig.start_with_backlog().await;
    rig.exchange_fault(Fault::LostReply { ratio: 1.0 });
    rig.wait_for(&app, "a batch to be taken", |_, control| control.stats(&lane).accepted > 0).await;
    app.shutdown().await.unwrap();
    rig.control.clear_faults();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert_eq!(stats.accepted, 300);
    assert!(stats.ignored_updates > 0, "nothing was sent twice");
    assert_eq!(stats.rewritten_history, 0);
    app.shutdown().await.unwrap();
}
