//! SIGTERM: nothing new is begun, what is in flight ends, and none of it costs an attempt; a
//! second one ends it at once.

use std::time::Duration;

use nix::sys::signal::Signal;
use patchferry::{
    app,
    record::{Clock, Lane, Receipt},
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
    store::SpaceLimits,
};

use super::exits_with_zero;
use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, queued},
};

/// In-flight requests have 10 s; the rest is quick, also on a busy machine.
const GRACE: Duration = Duration::from_secs(25);
/// Exit code after a second signal: 128 + SIGTERM.
const INSISTED: i32 = 143;

fn imports() -> Scope {
    Scope::of(Service::SecurityHub).operation("BatchImportFindings")
}

/// A daemon amid the delivery of a backlog, its requests meeting `fault`.
async fn amid_delivery(seed: u64, fault: Fault) -> (Site, Daemon) {
    let fleet = FleetConfig {
        nodes: 600,
        hybrid_share: 0.1,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet);
    let config = EAGER.replace("[ingest]\n", "[ingest]\npatch_details = false\n");
    let site = Site::new(simulator, Some(&config)).await;
    site.control.set_fault(imports(), Some(fault));
    let daemon = site.start();
    let control = site.control.clone();
    let waited = tokio::time::timeout(
        Duration::from_secs(60),
        control.wait_until(|control| control.imports_in_flight() > 0),
    );
    waited.await.expect("a request in flight");
    (site, daemon)
}

/// The receipts of all nodes.
async fn receipts(site: &Site) -> Vec<Receipt> {
    let limits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
    let state_dir = site.state_dir();
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&state_dir, limits, Clock::system()));
    let queues = opened.await.unwrap().unwrap();
    let lane: Lane = format!("{ACCOUNT}/{REGION}").parse().unwrap();
    let mut receipts = Vec::new();
    for node in site.control.fleet(&site.control.lanes()[0]) {
        let (_, acked) = queues.ledger(&lane, &node.id).await.unwrap();
        receipts.extend(acked.map(|acked| acked.receipt));
    }
    queues.close().await.unwrap();
    receipts
}

/// Starts again without the fault: all is delivered, each in its first attempt that counts.
async fn ends_well(site: &Site) {
    site.control.clear_faults();
    let daemon = site.start();
    daemon.wait_for_status("all to be told", |status| {
        queued(status) == 0 && site.control.differences_total().is_empty()
    });
    exits_with_zero(daemon);
    site.assert_hub_true();
    site.assert_store_true().await;
    let receipts = receipts(site).await;
    assert_eq!(receipts.len(), 600);
    for receipt in receipts {
        assert_eq!(receipt.attempts, 1, "shutdown cost an attempt: {receipt:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_at_a_stop_ends_and_is_settled() {
    let slow = Duration::from_millis(1_500);
    let (site, daemon) = amid_delivery(1, Fault::Latency { min: slow, max: slow }).await;
    exits_with_zero(daemon);
    let stats = site.control.stats_total();
    assert!(stats.accepted > 0 && stats.accepted < 600, "{stats:?}");
    let delivered = site.assert_accounted().await.delivered;
    assert_eq!(delivered.unsigned_abs(), stats.accepted, "what the hub took in isn't settled");
    ends_well(&site).await;
    let stats = site.control.stats_total();
    assert_eq!((stats.accepted, stats.ignored_updates), (600, 0), "something was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_no_answer_is_cut_at_the_end_of_the_grace_period_and_costs_no_attempt() {
    let (site, mut daemon) = amid_delivery(2, Fault::NeverAnswer).await;
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.ends_within(GRACE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{ended:?}\n{}", daemon.log());
    assert_eq!(site.control.stats_total().accepted, 0);
    site.assert_accounted().await;
    ends_well(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_nothing_is_lost() {
    let (site, mut daemon) = amid_delivery(3, Fault::NeverAnswer).await;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_for_text("a second signal exits at once"), "{}", daemon.log());
    daemon.signal(Signal::SIGTERM);
    // Far less than the 10 s that what is in flight would have had.
    let ended = daemon.ends_within(Duration::from_secs(5));
    assert_eq!(ended.and_then(|it| it.code()), Some(INSISTED), "{ended:?}\n{}", daemon.log());
    site.assert_accounted().await;
    ends_well(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_amid_the_start_is_a_stop_in_order() {
    let fleet = FleetConfig::of(40);
    let simulator = SimulatorConfig::new(4).lane(ACCOUNT, REGION, fleet);
    let site = Site::new(simulator, Some(EAGER)).await;
    for _ in 0..3 {
        let daemon = site.spawn();
        assert!(daemon.wait_for_text("\"starting\""), "{}", daemon.log());
        let (status, log) = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{status}\n{log}");
    }
    let daemon = site.start();
    daemon.settle();
    exits_with_zero(daemon);
    site.assert_hub_true();
    site.assert_store_true().await;
}
