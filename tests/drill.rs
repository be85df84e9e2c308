//! The drill kills what it says, claims what it measured, and nothing when a finding is missing.

use std::{path::PathBuf, time::Duration};

use patchferry::drill::{self, DrillError, Options, Sabotage};
use tokio_util::sync::CancellationToken;

use crate::harness::child::report;

fn short() -> Options {
    Options {
        duration: Duration::from_secs(10),
        outage: Duration::from_secs(4),
        kills: 6,
        poison: 2,
        nodes: 80,
        ..Options::new(PathBuf::from(env!("CARGO_BIN_EXE_patchferry")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_drill_kills_and_loses_nothing_with_numbers_that_agree() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("drill");
    let options = Options { directory: Some(place.clone()), ..short() };
    let summary = drill::run(options, CancellationToken::new()).await.expect("a summary");
    let text = summary.to_text();
    report(&text);
    assert!(summary.guarantees_held(), "{text}");
    assert_eq!(summary.kills.total, 6, "{text}");
    let it = summary.totals;
    assert_eq!((it.lost, it.queued, it.dropped, it.rewritten), (0, 0, 0, 0), "{text}");
    assert_eq!(it.accepted, it.delivered + it.coalesced + it.unchanged + it.dead, "{text}");
    assert_eq!(it.dead_letters, 2, "{text}");
    assert!(it.versions >= it.delivered, "the hubs took in what was acknowledged: {text}");
    assert!(summary.ready_after.is_some_and(|ready| ready.median > Duration::ZERO), "{text}");
    assert!(summary.lanes.iter().any(|lane| lane.was_out), "{text}");
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(json["guarantees_held"], true);
    assert_eq!(json["kills"]["total"], 6);
    let log = std::fs::read_to_string(place.join("daemon.log")).unwrap();
    // A life that is killed at once has said nothing.
    let lives = log.matches("\"message\":\"starting\"").count();
    assert!((2..=7).contains(&lives), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_whose_hub_forgets_a_finding_claims_no_success() {
    let options = Options { kills: 1, outage: Duration::ZERO, ..short() };
    let run = drill::run_sabotaged(options, Sabotage::ForgetFinding, CancellationToken::new());
    let summary = run.await.expect("a summary");
    let text = summary.to_text();
    assert!(!summary.guarantees_held() && text.contains("DID NOT HOLD"), "{text}");
    assert_eq!(summary.totals.lost, 1, "{text}");
    let broken: Vec<&str> =
        summary.checks.iter().filter(|check| !check.held).map(|check| check.name).collect();
    assert_eq!(broken, ["nothing is lost"], "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_that_is_told_to_stop_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("drill");
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let stopped = drill::run(Options { directory: Some(place), ..short() }, shutdown).await;
    assert!(matches!(stopped, Err(DrillError::Interrupted)), "{stopped:?}");
}

#[tokio::test]
async fn a_daemon_that_ends_by_itself_is_no_success() {
    let options = Options { binary: "/bin/true".into(), ..short() };
    let ended = drill::run(options, CancellationToken::new()).await;
    assert!(matches!(ended, Err(DrillError::Ended { .. })), "{ended:?}");
    let options = Options { binary: "/nowhere/patchferry".into(), ..short() };
    let absent = drill::run(options, CancellationToken::new()).await;
    assert!(matches!(absent, Err(DrillError::Child { .. })), "{absent:?}");
}

#[tokio::test]
async fn what_is_out_of_limits_is_refused_before_anything_starts() {
    let refused = async |options| drill::run(options, CancellationToken::new()).await.unwrap_err();
    let seconds = Duration::from_secs;
    let too_short = Options { duration: seconds(1), ..short() };
    assert!(matches!(refused(too_short).await, DrillError::Duration(_)));
    let all_outage = Options { outage: seconds(9), ..short() };
    let error = refused(all_outage).await;
    assert!(error.to_string().contains("--duration at least 12 seconds"), "{error}");
    let too_many = Options { kills: 11, ..short() };
    assert!(matches!(refused(too_many).await, DrillError::Kills { .. }));
    let all_poison = Options { poison: drill::POISON_MAX + 1, ..short() };
    assert!(matches!(refused(all_poison).await, DrillError::Poison(_)));
    let too_few = Options { nodes: 3, ..short() };
    assert!(matches!(refused(too_few).await, DrillError::Nodes(_)));
}

#[test]
fn the_duration_leaves_room_for_what_is_asked() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(Options::duration_for(minutes(10), 20), minutes(15));
    assert_eq!(Options::duration_for(Duration::from_secs(6), 0), Duration::from_secs(36));
    assert_eq!(Options::duration_for(minutes(1), 300), minutes(10));
}
