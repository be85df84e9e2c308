//! What is interrupted: by a signal, by a kill, by a full store, by a pause. What was told as
//! accepted is there, and the rest can follow.

use std::{collections::BTreeMap, fs, sync::Arc};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use patchferry::{
    app,
    metrics::{BuildInfo, Metrics},
    pipeline::ingest::file::{
        Answer, CHUNK_LINES_MAX, FileIngest, OBSERVED_ITEMS_MAX, Wait, door::Door,
    },
    queue::{PauseWhat, Queues},
    record::{Clock, Lane},
    store::{Pause, SpaceLimits},
};
use rustix::fs::FallocateFlags;

use super::{Ingest, accepted, held, line, node, site, write};
use crate::{
    daemon::{exits_with_zero, space::Tmpfs},
    harness::{
        ACCOUNT, REGION,
        child::{Site, skipped, text},
    },
};

fn lines(count: usize) -> Vec<String> {
    (1..=count).map(|number| line(number, 1 + number % 90)).collect()
}

/// What the hub is to hold for the first `count` lines.
fn expected(count: usize) -> BTreeMap<String, i64> {
    (1..=count).map(|number| (node(number), i64::try_from(1 + number % 90).unwrap())).collect()
}

/// The line named by the advice to go on.
fn way_on(said: &str) -> usize {
    let (_, number) = said.split_once("--from-line ").unwrap_or_else(|| panic!("{said}"));
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_answered_before_the_next_has_come_and_a_signal_tells_how_to_go_on() {
    let site = site(61, "").await;
    let daemon = site.start();
    let all = lines(5);
    let mut ingest = Ingest::start(&site, &["-", "--each"]);
    for number in 0..3 {
        ingest.say(&all[number..=number]);
        assert_eq!(ingest.told().unwrap(), format!("line {}: accepted", number + 1));
    }
    kill(Pid::from_raw(ingest.pid()), Signal::SIGINT).unwrap();
    // Its input is still open.
    let stdin = ingest.stdin.take();
    let (status, _, said) = ingest.end();
    drop(stdin);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted: the last line accepted is 3"), "{said}");
    assert_eq!(way_on(&said), 4);
    let file = write(&site, &all);
    let output = site.run(&["ingest", file.to_str().unwrap(), "--from-line", "4"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    daemon.settle();
    assert_eq!(held(&site), expected(5));
    exits_with_zero(daemon);
}

/// Hands in until so many are told as accepted, then kills `victim`; the accepted lines.
fn killed_amid(mut ingest: Ingest, wanted: usize, victim: impl FnOnce(&Ingest)) -> (usize, String) {
    let mut last = 0;
    while last < wanted {
        last = ingest.told().as_deref().and_then(accepted).expect("all lines are fit");
    }
    victim(&ingest);
    let (status, rest, said) = ingest.end();
    assert!(!status.success());
    // A process that is killed may leave half a line.
    let complete = rest.iter().filter(|told| told.ends_with('}'));
    (complete.filter_map(|told| accepted(told)).fold(last, usize::max), said)
}

fn holds_at_least(site: &Site, count: usize) {
    let held = held(site);
    let missing: Vec<_> =
        expected(count).into_iter().filter(|(node, count)| held.get(node) != Some(count)).collect();
    assert!(missing.is_empty(), "of {count} accepted lines these are lost: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_as_accepted_survives_the_daemon_s_sudden_death() {
    const LINES: usize = 4_000;
    let site = site(62, "").await;
    let file = write(&site, &lines(LINES));
    let daemon = site.start();
    let ingest = Ingest::start(&site, &[file.to_str().unwrap(), "--json"]);
    let pid = Pid::from_raw(daemon.pid());
    let (accepted, said) = killed_amid(ingest, 1_200, |_| kill(pid, Signal::SIGKILL).unwrap());
    drop(daemon);
    assert!((1_200..LINES).contains(&accepted), "{accepted} accepted: {said}");
    let next = way_on(&said);
    assert_eq!(next, accepted + 1, "{said}");

    let daemon = site.start();
    daemon.settle();
    holds_at_least(&site, accepted);
    let next = next.to_string();
    let output = site.run(&["ingest", file.to_str().unwrap(), "--from-line", &next]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    daemon.settle();
    assert_eq!(held(&site), expected(LINES));
    let status = daemon.status();
    assert_eq!(status["accounting_imbalance"], 0, "{status:#}");
    assert!(status["accounting"]["accepted"].as_u64() >= Some(LINES as u64), "{status:#}");
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_as_accepted_without_a_daemon_survives_the_command_s_sudden_death() {
    const LINES: usize = 4_000;
    let site = site(63, "").await;
    exits_with_zero(site.start());
    let file = write(&site, &lines(LINES));
    let ingest = Ingest::start(&site, &[file.to_str().unwrap(), "--json"]);
    let (accepted, _) = killed_amid(ingest, 1_200, |ingest| {
        kill(Pid::from_raw(ingest.pid()), Signal::SIGKILL).unwrap();
    });
    assert!((1_200..=LINES).contains(&accepted), "{accepted}");
    let daemon = site.start();
    daemon.settle();
    holds_at_least(&site, accepted);
    assert_eq!(daemon.status()["accounting_imbalance"], 0);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_the_input_waits_or_fails_if_it_may_not_wait() {
    const LINES: usize = 1_200;
    let site = site(64, "").await.with("PATCHFERRY_STORE__MIN_FREE_BYTES", "64MiB");
    fs::create_dir(site.state_dir()).unwrap();
    let Some(disk) = Tmpfs::mount(&site.state_dir(), "256m", false) else {
        return skipped("no file system can be mounted here");
    };
    let daemon = site.start();
    daemon.settle();
    let ballast = site.state_dir().join("ballast");
    let free = rustix::fs::statvfs(site.state_dir()).unwrap();
    let free_bytes = free.f_bavail * free.f_frsize;
    let file = fs::File::create(&ballast).unwrap();
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, free_bytes - (32 << 20)).unwrap();
    let file = write(&site, &lines(LINES));
    let output = site.run(&["ingest", file.to_str().unwrap(), "--no-wait"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("store.min_free_bytes"), "{said}");
    assert!(said.contains("no line was accepted"), "{said}");
    assert_eq!(way_on(&said), 1);

    let ingest = Ingest::start(&site, &[file.to_str().unwrap()]);
    let waits = ingest.complaint();
    assert!(waits.starts_with("line 1 waits: "), "{waits}");
    assert!(waits.contains("store.min_free_bytes"), "{waits}");
    fs::remove_file(ballast).unwrap();
    assert_eq!(ingest.complaint(), "patchferry takes lines again");
    let (status, out, said) = ingest.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert_eq!(out, [format!("{LINES} accepted (on disk), 0 refused")]);
    daemon.settle();
    assert_eq!(held(&site), expected(LINES));
    assert_eq!(daemon.status()["accounting_imbalance"], 0);
    exits_with_zero(daemon);
    drop(disk);
}

/// Queues in a new store, and the way into them.
async fn queues(live_bytes_max: u64) -> (Queues, Arc<Metrics>, Door, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    let limits = SpaceLimits { live_bytes_max, free_bytes_min: 0 };
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&state_dir, limits, Clock::system()));
    let metrics = Metrics::new(BuildInfo { version: "0", revision: "0" });
    let lane: Lane = format!("{ACCOUNT}/{REGION}").parse().unwrap();
    (opened.await.unwrap().expect("the store opens"), metrics, Door::new([lane]), directory)
}

#[tokio::test]
async fn who_hands_in_more_than_the_stages_take_has_to_wait() {
    let (queues, metrics, door, _directory) = queues(1 << 30).await;
    let ingest = FileIngest::running(queues.clone(), metrics, door);
    let chunk: Vec<String> = lines(CHUNK_LINES_MAX);
    while ingest.take(1, &chunk).await.unwrap() != Answer::Wait(Wait::Backlog) {}
    let observed = queues.accounting().queued.observed;
    assert!(observed >= OBSERVED_ITEMS_MAX, "{observed}");
    assert!(observed < OBSERVED_ITEMS_MAX + i64::try_from(CHUNK_LINES_MAX).unwrap(), "{observed}");
    queues.close().await.unwrap();
}

#[tokio::test]
async fn a_chunk_that_has_to_wait_is_not_accepted_in_part() {
    let (queues, metrics, door, _directory) = queues(64 * 1024).await;
    let ingest = FileIngest::stopped(queues.clone(), metrics, door);
    let chunk: Vec<String> = lines(100);
    queues.pause(PauseWhat::Ingest, None, 0, "maintenance".into()).await.unwrap();
    let Answer::Wait(wait @ Wait::Operator { .. }) = ingest.take(1, &chunk).await.unwrap() else {
        panic!("it doesn't wait for the operator")
    };
    assert!(wait.to_string().contains("maintenance"), "{wait}");
    assert_eq!(queues.accounting().accepted, 0);
    queues.resume(PauseWhat::Ingest, None).await.unwrap();
    let mut taken = 0;
    let wait = loop {
        match ingest.take(1, &chunk).await.unwrap() {
            Answer::Taken { refused } => assert!(refused.is_empty()),
            Answer::Wait(wait) => break wait,
        }
        taken += 100;
    };
    assert_eq!(wait, Wait::Store(Pause::LiveBytes));
    let accounting = queues.accounting();
    assert_eq!((accounting.accepted, accounting.imbalance()), (taken, 0));
    assert_eq!(queues.recount().await.unwrap().queued.observed, taken);
    queues.close().await.unwrap();
}
