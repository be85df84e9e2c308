//! The demo claims what it measured, and nothing when a finding is missing.

use std::time::Duration;

use patchferry::demo::{self, DemoError, Options, Sabotage, Summary};
use tokio_util::sync::CancellationToken;

fn short() -> Options {
    Options { duration: Duration::from_secs(8), nodes: 200, ..Options::default() }
}

async fn run(sabotage: Sabotage) -> Summary {
    demo::run_sabotaged(short(), sabotage, CancellationToken::new())
        .await
        .expect("a demo that nobody stops comes to a summary")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_demo_shows_every_guarantee_with_numbers_that_agree() {
    let summary = run(Sabotage::None).await;
    let text = summary.to_text();
    println!("{text}");
    assert!(summary.guarantees_held(), "{text}");
    let it = summary.totals;
    assert_eq!((it.lost, it.queued, it.dropped), (0, 0, 0), "{text}");
    assert!(it.observed >= it.accepted && it.accepted > 0, "{text}");
    let ended = it.delivered + it.coalesced + it.unchanged + it.dead;
    assert_eq!(it.accepted, ended, "{text}");
    assert!(it.dead >= 1 && it.coalesced > 0 && it.resolved > 0, "{text}");
    let taken_in: u64 = summary.lanes.iter().map(|lane| lane.delivered).sum();
    assert!(taken_in >= it.delivered, "the hubs took in what was acknowledged: {text}");
    assert!(it.hub_requests <= it.hub_requests_allowed, "{text}");
    assert_eq!(summary.lanes.iter().map(|lane| lane.nodes).sum::<u64>(), 200);
    assert_eq!(summary.drains.len(), 2, "{text}");
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(json["guarantees_held"], true);
    assert_eq!(json["totals"]["lost"], 0);
    assert_eq!(json["totals"]["accepted"], it.accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_whose_hub_forgets_a_finding_claims_no_success() {
    let summary = run(Sabotage::ForgetFinding).await;
    let text = summary.to_text();
    assert!(!summary.guarantees_held(), "{text}");
    assert_eq!(summary.totals.lost, 1, "{text}");
    assert!(text.contains("DID NOT HOLD") && text.contains("lost: 1"), "{text}");
    let broken: Vec<&str> =
        summary.checks.iter().filter(|check| !check.held).map(|check| check.name).collect();
    assert_eq!(broken, ["nothing is lost"], "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_told_to_stop_ends_in_order_and_without_a_claim() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = Some(directory.path().join("demo"));
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let stopped = demo::run(Options { state_dir, ..short() }, shutdown).await;
    assert!(matches!(stopped, Err(DemoError::Interrupted)), "{stopped:?}");
}

#[tokio::test]
async fn what_is_out_of_limits_is_refused_before_anything_starts() {
    let refused = |options| demo::run(options, CancellationToken::new());
    let too_short = Options { duration: Duration::from_secs(1), ..short() };
    assert!(matches!(refused(too_short).await, Err(DemoError::Duration(_))));
    let too_many = Options { nodes: demo::NODES_MAX + 1, ..short() };
    assert!(matches!(refused(too_many).await, Err(DemoError::Nodes(_))));
    let used = tempfile::tempdir().unwrap();
    std::fs::write(used.path().join("CURRENT"), "store-1").unwrap();
    let in_use = Options { state_dir: Some(used.path().to_path_buf()), ..short() };
    assert!(matches!(refused(in_use).await, Err(DemoError::StateDirInUse(_))));
}
