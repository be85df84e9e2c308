//! The hub outlives the ledger: a daemon with an empty store reads back what the hub holds before
//! it sends anything.

use patchferry::{
    queue::ReadBack,
    simulator::{Fault, Scope, Service, SeverityCounts, SimLane},
};

use crate::harness::{Rig, finding_of, lane as real_lane};

fn open_nodes(rig: &Rig, lane: &SimLane) -> Vec<String> {
    let fleet = rig.control.fleet(lane).into_iter();
    fleet.filter(|node| node.is_non_compliant).map(|node| node.id).collect()
}

/// A lane whose findings were delivered, twice for some, and whose ledger is lost.
async fn without_ledger(seed: u64) -> (Rig, SimLane) {
    let rig = Rig::one_lane(seed, 300).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.control.rescan(&lane, 0.5);
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
    std::fs::remove_dir_all(rig.state_dir()).unwrap();
    (rig, lane)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ledger_takes_over_what_the_hub_holds() {
    let (rig, lane) = without_ledger(81).await;
    let open = open_nodes(&rig, &lane);
    let (healed, changed) = (&open[..5], &open[5..10]);
    for node in healed {
        rig.control.make_compliant(&lane, node).unwrap();
    }
    for node in changed {
        let severities = SeverityCounts { high: 1, ..SeverityCounts::default() };
        rig.control.make_non_compliant(&lane, node, 50, severities).unwrap();
    }
    let reads_before = rig.control.stats(&lane).requests["GetFindings"];
    let created: Vec<String> = changed
        .iter()
        .map(|node| finding_of(&rig.control, &lane, node).unwrap().created_at)
        .collect();

    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let stats = rig.control.stats(&lane);
    assert!(stats.requests["GetFindings"] > reads_before);
    assert_eq!(stats.ignored_updates, 0, "a version older than the hub's was sent");
    for node in healed {
        let finding = finding_of(&rig.control, &lane, node).unwrap();
        assert_eq!(finding.record_state, "ARCHIVED");
    }
    for (node, created) in changed.iter().zip(created) {
        assert_eq!(finding_of(&rig.control, &lane, node).unwrap().created_at, created);
    }
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_may_not_be_read_is_told_everything_with_newer_times() {
    let (rig, lane) = without_ledger(82).await;
    for node in &open_nodes(&rig, &lane)[..10] {
        rig.control.make_non_compliant(&lane, node, 50, SeverityCounts::default()).unwrap();
    }
    let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
    rig.control.set_fault(reads, Some(Fault::AccessDenied));
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    let state = app.queues().read_back_state(&real_lane(&lane)).await.unwrap();
    assert!(matches!(state, ReadBack::Denied { .. }), "{state:?}");
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0, "a version was too old for the hub");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_the_hub_was_read() {
    let (rig, lane) = without_ledger(83).await;
    let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
    rig.control.set_fault(reads.clone(), Some(Fault::Outage));
    rig.control.rescan(&lane, 0.5);
    rig.control.mark();
    let asked = rig.control.stats(&lane).requests["GetFindings"];
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "a read that fails, and its second", |queues, control| {
        control.stats(&lane).requests["GetFindings"] >= asked + 2
            && queues.accounting().queued.parked > 0
    })
    .await;
    assert_eq!(rig.control.stats(&lane).import_requests_since_mark, 0);
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_cannot_be_read_for_days_parks_no_more_than_the_fleet() {
    let (rig, lane) = without_ledger(84).await;
    let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
    rig.control.set_fault(reads, Some(Fault::Outage));
    let app = rig.start().await;
    for _ in 0..4 {
        rig.sweep(&app).await;
        rig.wait_for(&app, "everything to be parked", |queues, _| {
            let queued = queues.accounting().queued;
            queued.parked > 0 && queued.parked == queued.total()
        })
        .await;
        let parked = app.queues().accounting().queued.parked;
        assert!(parked <= 300, "{parked} assessments are parked for 300 nodes");
        rig.assert_accounted(&app).await;
        rig.control.rescan(&lane, 1.0);
    }
    assert!(app.queues().accounting().coalesced > 0, "no state took an older one's place");

    let app = rig.restart(app).await;
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0, "a version too old for the hub");
    app.shutdown().await.unwrap();
}
