//! The real daemon dies at every point where a death would hurt most, one after the other; it is
//! started again, and everything must be as if nothing had happened.
//!
//! The story of the fault: a kill by chance (see `kill_storm`) seldom meets the instant between
//! two system calls. A debug build aborts at a named place instead (`src/failpoint.rs`). Every
//! point there is has a story here or is named with the test that has it; a point that its story
//! doesn't reach fails the test.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use patchferry::{
    failpoint::{FailPoint, VARIABLE},
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
};

use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, queued, report},
};

/// Rust's abort.
const SIGABRT: i32 = 6;

/// How a point is reached.
enum Story {
    /// A first start; the nth times at which it is to die.
    FirstStart(&'static [u32]),
    /// A start with an empty store beside a hub that holds findings.
    ReadBack,
    /// A first start beside a hub that is slow to say what it holds, so that findings are parked.
    Parked,
    /// A start with a store that is corrupt.
    Corrupt,
    /// A stop in order.
    Stop,
    /// It hangs rather than dies.
    Hangs,
    /// While lines are handed in.
    Ingest,
    /// While dead letters are dropped: how many are left, how many are dropped.
    Drop { dead: i64, dropped: i64 },
    /// A command's: in the test of that command.
    Elsewhere,
}

fn story(point: FailPoint) -> Story {
    use FailPoint as P;
    match point {
        P::CommitApplied | P::CommitFlushed => Story::FirstStart(&[1, 2, 5, 9]),
        P::ObservationsCommitted | P::DeliverySent | P::DeliverySettled => {
            Story::FirstStart(&[1, 2])
        }
        P::SweepPageRead
        | P::ValidateBeforeSettle
        | P::TransformBeforeSettle
        | P::BatchClaimed
        | P::StoreDirectoryMade
        | P::StoreCreated
        | P::FormatRecordWritten
        | P::CurrentWritten => Story::FirstStart(&[1]),
        P::ReadBackAdopted | P::ReadBackReconciled => Story::ReadBack,
        P::Unparking => Story::Parked,
        P::QuarantineRenamed => Story::Corrupt,
        P::ShutdownDrained => Story::Stop,
        P::CommitterHangs => Story::Hangs,
        P::IngestLineCommitted => Story::Ingest,
        P::DeadDropFileWritten => Story::Drop { dead: 2, dropped: 0 },
        P::DeadDropped => Story::Drop { dead: 0, dropped: 2 },
        P::ReopeningClosed
        | P::RetireFileWritten
        | P::RetireClosing
        | P::RetireExported
        | P::RetireForgotten
        | P::BackupWritten
        | P::BackupRenamed
        | P::MigrationBackedUp
        | P::MigrationCopied
        | P::MigrationSwapped
        | P::MigrationCleaned
        | P::StoreScrapped
        | P::RestoreCopied
        | P::RestoreSwapped
        | P::CompactCopied
        | P::CompactSwapped => Story::Elsewhere,
    }
}

async fn site(nodes: usize, seed: u64) -> Site {
    let fleet = FleetConfig { non_compliant_share: 0.6, ..FleetConfig::of(nodes) };
    Site::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet), Some(EAGER)).await
}

/// Runs until the fleet is told; what the hub holds must be what the fleet is.
fn settle(site: &Site, daemon: &Daemon) {
    // Twice: a status is gathered bit by bit, and the sweep may end meanwhile.
    for _ in 0..2 {
        daemon.wait_for_status("all to be told", |status| {
            status["lanes"][0]["last_complete_sweep_unix_ms"].is_i64()
                && queued(status) == 0
                && site.control.differences_total().is_empty()
        });
    }
}

/// Starts with the point armed; it must die there.
fn dies(site: &Site, point: FailPoint, nth: u32) -> String {
    let daemon = site.spawn_with(VARIABLE, &format!("{}:{nth}", point.name()));
    let lane = site.control.lanes().remove(0);
    // There is always something new to tell.
    died_while(daemon, point, || {
        site.control.rescan(&lane, 0.3);
    })
}

fn died(daemon: Daemon, point: FailPoint) -> String {
    died_while(daemon, point, || ())
}

fn died_while(daemon: Daemon, point: FailPoint, meanwhile: impl FnMut()) -> String {
    let reached = format!("fail point {} reached", point.name());
    let is_reached = daemon.wait_for_text_while(&reached, meanwhile);
    assert!(is_reached, "{point:?} was not reached:\n{}", daemon.log());
    let (status, log) = daemon.wait();
    assert_eq!(status.signal(), Some(SIGABRT), "{point:?}: {status}\n{log}");
    log
}

/// Starts without the point: all must be well. `may_set_aside`: the store was corrupt.
async fn recovers(site: &Site, point: FailPoint, may_set_aside: bool) {
    let daemon = site.start();
    settle(site, &daemon);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{point:?}: {log}");
    assert!(!log.contains("panicked"), "{point:?}: {log}");
    site.assert_hub_true();
    if may_set_aside {
        assert_eq!(site.status()["accounting_imbalance"], 0);
    } else {
        assert!(!log.contains("\"ERROR\""), "{point:?}: {log}");
        site.assert_store_true().await;
    }
}

/// A daemon has told the fleet and is stopped.
fn has_run(site: &Site) {
    let daemon = site.start();
    settle(site, &daemon);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn live_store(site: &Site) -> PathBuf {
    let current = fs::read_to_string(site.state_dir().join("CURRENT")).unwrap();
    site.state_dir().join(current.lines().next().unwrap())
}

fn cut_to_nothing(store: &Path) {
    fs::OpenOptions::new().write(true).open(store.join("db")).unwrap().set_len(0).unwrap();
}

async fn tell(point: FailPoint, seed: u64) -> u32 {
    match story(point) {
        Story::FirstStart(times) => {
            for (index, nth) in times.iter().enumerate() {
                let site = site(60, seed + index as u64).await;
                dies(&site, point, *nth);
                recovers(&site, point, false).await;
            }
            u32::try_from(times.len()).unwrap()
        }
        Story::ReadBack => {
            let site = site(60, seed).await;
            has_run(&site);
            fs::remove_dir_all(site.state_dir()).unwrap();
            site.control.rescan(&site.control.lanes()[0], 0.5);
            dies(&site, point, 1);
            recovers(&site, point, false).await;
            1
        }
        Story::Parked => {
            let site = site(60, seed).await;
            let slow = Duration::from_secs(2);
            let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
            site.control.set_fault(reads, Some(Fault::Latency { min: slow, max: slow }));
            dies(&site, point, 1);
            site.control.clear_faults();
            recovers(&site, point, false).await;
            1
        }
        Story::Corrupt => {
            let site = site(60, seed).await;
            has_run(&site);
            cut_to_nothing(&live_store(&site));
            let log = dies(&site, point, 1);
            assert!(!log.contains("panicked"), "{log}");
            recovers(&site, point, true).await;
            1
        }
        Story::Stop => {
            let site = site(60, seed).await;
            let mut daemon = site.spawn_with(VARIABLE, point.name());
            daemon.running();
            settle(&site, &daemon);
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            died(daemon, point);
            recovers(&site, point, false).await;
            1
        }
        Story::Hangs => {
            let site = site(60, seed).await;
            let daemon = site.spawn_with(VARIABLE, &format!("{}:3", point.name()));
            assert!(daemon.wait_for_text("fail point committer_hangs reached"));
            daemon.kill();
            recovers(&site, point, false).await;
            1
        }
        Story::Ingest => {
            ingest(point, seed).await;
            1
        }
        Story::Drop { dead, dropped } => {
            drops(point, seed, dead, dropped).await;
            1
        }
        Story::Elsewhere => 0,
    }
}

/// Lines about nodes that lack nothing, so that the hub isn't told of them.
async fn ingest(point: FailPoint, seed: u64) {
    let site = site(60, seed).await;
    let mut daemon = site.spawn_with(VARIABLE, point.name());
    daemon.running();
    settle(&site, &daemon);
    let before = daemon.status()["accounting"]["accepted"].as_i64().expect("a count");
    let lines: String = (0..3).map(handed_in).collect();
    let file = site.path().join("lines.jsonl");
    fs::write(&file, lines).unwrap();
    let output = site.run(&["ingest", file.to_str().unwrap(), "--no-wait"]);
    assert!(!output.status.success(), "its daemon died: {output:?}");
    died(daemon, point);
    assert_eq!(site.assert_accounted().await.accepted, before + 3, "what was committed is there");
    recovers(&site, point, false).await;
}

fn handed_in(number: usize) -> String {
    let line = serde_json::json!({
        "Account": ACCOUNT, "Region": REGION, "InstanceId": format!("mi-{number:017}"),
        "PatchGroup": "handed-in", "BaselineId": "pb-0123456789abcdef0", "Operation": "Scan",
        "OperationStartTime": "2025-11-23T11:00:00Z", "OperationEndTime": "2025-11-23T12:00:00Z",
        "InstalledCount": 30, "MissingCount": 0, "ResourceType": "ManagedInstance",
    });
    format!("{line}\n")
}

async fn drops(point: FailPoint, seed: u64, dead: i64, dropped: i64) {
    let site = site(60, seed).await;
    let lane = site.control.lanes().remove(0);
    let fleet = site.control.fleet(&lane).into_iter().filter(|node| node.is_non_compliant);
    site.control.poison(&lane, fleet.take(2).map(|node| node.id));
    let mut daemon = site.spawn_with(VARIABLE, point.name());
    daemon.running();
    settle(&site, &daemon);
    let output = site.run(&["dead", "drop", "--yes"]);
    assert!(!output.status.success(), "its daemon died: {output:?}");
    died(daemon, point);
    let accounting = site.assert_accounted().await;
    assert_eq!((accounting.dead, accounting.dropped), (dead, dropped), "{accounting:?}");
    let kept = fs::read_dir(site.state_dir().join("dropped")).unwrap().flatten();
    let lines: usize =
        kept.map(|file| fs::read_to_string(file.path()).unwrap().lines().count()).sum();
    assert_eq!(lines, 2, "what was to be dropped is in a file first");
    recovers(&site, point, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_point_loses_nothing() {
    let mut told = Vec::new();
    let mut left = Vec::new();
    for (index, point) in FailPoint::ALL.iter().enumerate() {
        match tell(*point, 100 * index as u64).await {
            0 => left.push(*point),
            deaths => told.push((*point, deaths)),
        }
    }
    let deaths: u32 = told.iter().map(|(_, deaths)| deaths).sum();
    report(&format!(
        "fail points: {deaths} deaths at {} points; {} points are in the tests of their commands",
        told.len(),
        left.len()
    ));
    assert!(told.len() >= 21, "{told:?}");
}

/// A point that nobody tests is no proof of anything.
#[test]
fn every_point_that_is_left_out_here_is_named_by_the_test_that_has_it() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut texts = String::new();
    collect(&tests, &mut texts);
    let unnamed: Vec<FailPoint> = FailPoint::ALL
        .iter()
        .copied()
        .filter(|point| matches!(story(*point), Story::Elsewhere))
        .filter(|point| !texts.contains(point.name()) && !texts.contains(&format!("{point:?}")))
        .collect();
    assert_eq!(unnamed, [], "no test names these");
}

fn collect(directory: &Path, texts: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with(file!()) {
            texts.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
