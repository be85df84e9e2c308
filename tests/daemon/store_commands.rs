//! `patchferry store …` on the real binary: what it finds, what it writes, what it puts in place,
//! and that a kill in the middle of it costs nothing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use patchferry::{
    failpoint::{FailPoint, VARIABLE},
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
};
use serde_json::Value;

use super::{assert_true, exits_with_zero, rescan};
use crate::{
    harness::{
        ACCOUNT, REGION,
        child::{Daemon, EAGER, Site, queued, text},
    },
    store::format::old_state,
};

/// A lane most of whose nodes have a finding.
fn one_lane(seed: u64, nodes: usize) -> SimulatorConfig {
    let fleet = FleetConfig { non_compliant_share: 0.7, ..FleetConfig::of(nodes) };
    SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet)
}

fn hub_is_out(site: &Site, is_out: bool) {
    site.control.set_fault(Scope::of(Service::SecurityHub), is_out.then_some(Fault::Outage));
}

/// A daemon whose lane is read back, and which has a backlog that it can't deliver.
fn with_backlog(site: &Site) -> Daemon {
    let daemon = site.start();
    daemon.settle();
    hub_is_out(site, true);
    rescan(&site.control, 1.0);
    daemon.wait_for_status("a backlog", |status| queued(status) > 1);
    // What is swept again and again changes nothing any more.
    daemon.wait_for_status("everything to wait in the outbox", |status| {
        let items = |name: &str| {
            let queues = status["queues"].as_array().unwrap();
            queues.iter().find(|it| it["queue"] == name).unwrap()["items"].as_u64().unwrap()
        };
        items("observed") + items("assessed") + items("parked") == 0
    });
    daemon
}

fn run(site: &Site, arguments: &[&str]) -> String {
    let output = site.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn run_json(site: &Site, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&run(site, &arguments)).expect("--json prints JSON")
}

/// Runs a command that is to die at a point.
fn dies(site: &Site, point: FailPoint, arguments: &[&str]) {
    let output: Output =
        site.command(arguments).env(VARIABLE, point.name()).output().expect("the binary starts");
    let said = text(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{point:?} wasn't reached: {said}");
}

fn assert_sound(site: &Site) {
    let verified = run_json(site, &["store", "verify"]);
    assert_eq!(verified["sound"], true, "{verified:#}");
    assert_eq!(verified["verified"]["problems_total"], 0);
}

fn stores(site: &Site) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(site.state_dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| {
            ["store-", "quarantine-", "replaced-", "salvage"].iter().any(|it| name.starts_with(it))
        })
        .collect();
    names.sort();
    names
}

fn accounting(site: &Site) -> Value {
    site.status()["accounting"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_daemon_is_whole_and_restores_to_where_it_was() {
    let site = Site::new(one_lane(61, 60), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    let summary = run_json(&site, &["store", "backup"]);
    let backup = PathBuf::from(summary["path"].as_str().unwrap());
    assert!(backup.starts_with(site.state_dir().join("backups")), "{summary:#}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&backup), mode(backup.parent().unwrap())), (0o600, 0o700));
    assert_eq!(summary["bytes"].as_u64(), Some(fs::metadata(&backup).unwrap().len()));
    let name = backup.to_str().unwrap();
    let verified = run_json(&site, &["store", "verify", "--backup", name]);
    assert_eq!(verified["sound"], true, "{verified:#}");
    let at_backup = verified["verified"]["accounting"].clone();
    let again = site.run(&["store", "backup", name]);
    assert!(text(&again.stderr).contains("never overwritten"), "{}", text(&again.stderr));

    // Commands that want the store to themselves name who has it.
    for command in [["store", "verify"].as_slice(), &["store", "compact"], &["store", "migrate"]] {
        let refused = site.run(command);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(73), "{said}");
        assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    }

    hub_is_out(&site, false);
    daemon.settle();
    rescan(&site.control, 0.5);
    daemon.settle();
    exits_with_zero(daemon);
    assert_sound(&site);

    let told = site.run(&["store", "restore", name]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("--yes"), "{}", text(&told.stderr));
    assert_eq!(stores(&site), ["store-1"], "only told");
    let restored = run_json(&site, &["store", "restore", name, "--yes"]);
    assert!(restored["replaced"].as_str().unwrap().ends_with("replaced-1"), "{restored:#}");
    assert_eq!(stores(&site), ["replaced-1", "store-2"]);
    let status = site.status();
    assert_eq!(status["accounting"]["accepted"], at_backup["accepted"]);
    assert_eq!(status["accounting"]["delivered"], at_backup["delivered"]);
    assert_eq!(status["accounting_imbalance"], 0);

    let audit = fs::read_to_string(site.state_dir().join("audit.log")).unwrap();
    for (command, outcome) in [("store_backup", "done"), ("store_restore", "done")] {
        let is_noted = audit.lines().any(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            line["command"] == command && line["outcome"] == outcome
        });
        assert!(is_noted, "{command} isn't noted:\n{audit}");
    }

    // The hub holds newer versions than the restored store knows: they are its floors.
    let before = site.control.stats_total();
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    let after = site.control.stats_total();
    assert!(
        after.requests.get("GetFindings") > before.requests.get("GetFindings"),
        "a restored store reads its lanes back"
    );
    exits_with_zero(daemon);
    assert_sound(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_refused_and_nothing_is_changed() {
    let site = Site::new(one_lane(62, 30), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    exits_with_zero(daemon);
    let backup = site.path().join("whole.pfb");
    run(&site, &["store", "backup", backup.to_str().unwrap()]);
    let whole = fs::read(&backup).unwrap();
    let damaged = site.path().join("damaged.pfb");
    let name = damaged.to_str().unwrap();
    let mut rng = fastrand::Rng::with_seed(62);
    for case in 0..24 {
        let mut bytes = whole.clone();
        match case % 4 {
            0 => bytes.truncate(rng.usize(..whole.len())),
            1 => bytes[rng.usize(..whole.len())] ^= 1 << rng.u8(..8),
            2 => bytes.push(0),
            _ => {
                let from = rng.usize(..whole.len() - 64);
                bytes[from..from + 64].fill(0xa5);
            }
        }
        fs::write(&damaged, bytes).unwrap();
        for command in
            [["store", "verify", "--backup", name].as_slice(), &["store", "restore", name, "--yes"]]
        {
            let refused = site.run(command);
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "case {case}, {command:?}: {said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    assert_eq!(stores(&site), ["store-1"]);
    assert_sound(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_begins_a_new_machine() {
    let site = Site::new(one_lane(63, 80), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    let backup = site.path().join("moved.pfb");
    run(&site, &["store", "backup", backup.to_str().unwrap()]);
    drop(daemon.kill());
    fs::remove_dir_all(site.state_dir()).unwrap();
    hub_is_out(&site, false);

    let said = run(&site, &["store", "restore", backup.to_str().unwrap(), "--yes"]);
    assert!(said.contains("it is the store now"), "{said}");
    assert_sound(&site);
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_keeps_everything_and_gives_space_back() {
    let site = Site::new(one_lane(64, 80), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    for _ in 0..4 {
        rescan(&site.control, 1.0);
        daemon.wait_for_status("some more sweeps", |_| true);
    }
    exits_with_zero(daemon);
    let before = accounting(&site);
    let compacted = run_json(&site, &["store", "compact"]);
    assert!(
        compacted["bytes_after"].as_u64() <= compacted["bytes_before"].as_u64(),
        "{compacted:#}"
    );
    assert_eq!(stores(&site), ["store-2"]);
    assert_eq!(accounting(&site), before);
    assert_sound(&site);
    hub_is_out(&site, false);
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_store_is_replaced_leaves_the_old_one_or_the_new_one() {
    let site = Site::new(one_lane(65, 40), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    exits_with_zero(daemon);
    let before = accounting(&site);
    let backup = site.path().join("before.pfb");
    let name = backup.to_str().unwrap();
    run(&site, &["store", "backup", name]);
    let restore = ["store", "restore", name, "--yes"];
    let elsewhere = site.path().join("elsewhere.pfb");
    let cases: [(FailPoint, &[&str]); 9] = [
        (FailPoint::StoreCreated, &["store", "compact"]),
        (FailPoint::CompactCopied, &["store", "compact"]),
        (FailPoint::CurrentWritten, &["store", "compact"]),
        (FailPoint::CompactSwapped, &["store", "compact"]),
        (FailPoint::StoreCreated, &restore),
        (FailPoint::RestoreCopied, &restore),
        (FailPoint::CurrentWritten, &restore),
        (FailPoint::RestoreSwapped, &restore),
        (FailPoint::BackupWritten, &["store", "backup", elsewhere.to_str().unwrap()]),
    ];
    for (point, command) in cases {
        dies(&site, point, command);
        assert_eq!(accounting(&site), before, "{point:?} in {command:?}");
        let live = stores(&site).into_iter().filter(|name| name.starts_with("store-")).count();
        assert_eq!(live, 1, "{point:?} in {command:?} left {:?}", stores(&site));
        assert_sound(&site);
    }
    assert!(!elsewhere.exists(), "a backup has its name only when it is whole");
    assert!(stores(&site).iter().any(|name| name.starts_with("replaced-")), "the restore is done");
    hub_is_out(&site, false);
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_tells_what_it_would_do_and_does_it() {
    let site = Site::new(one_lane(66, 5), Some(EAGER)).await;
    old_state(&site.state_dir());
    let old = site.run(&["store", "verify"]);
    assert_eq!(old.status.code(), Some(1), "{}", text(&old.stderr));
    assert!(text(&old.stdout).contains("store migrate"), "{}", text(&old.stdout));
    let plan = run_json(&site, &["store", "migrate", "--dry-run"]);
    assert_eq!((&plan["from"], &plan["to"]), (&1.into(), &3.into()), "{plan:#}");
    assert_eq!(stores(&site), ["store-1"], "only told");
    let done = run_json(&site, &["store", "migrate"]);
    assert_eq!((&done["from"], &done["to"]), (&1.into(), &3.into()), "{done:#}");
    assert!(Path::new(done["backup"]["path"].as_str().unwrap()).exists());
    assert_eq!(stores(&site), ["store-2"]);
    assert_sound(&site);
    let said = run(&site, &["store", "migrate"]);
    assert!(said.contains("the one that this patchferry writes"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_what_is_wrong_and_names_it() {
    let site = Site::new(one_lane(67, 40), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    exits_with_zero(daemon);
    assert_sound(&site);
    crate::store::damage_records(&site.state_dir()).await;
    let verified = site.run(&["store", "verify", "--json"]);
    assert_eq!(verified.status.code(), Some(1), "{}", text(&verified.stderr));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let problems = verified["verified"]["problems"].as_array().unwrap();
    let whats: Vec<&str> = problems.iter().filter_map(|it| it["what"].as_str()).collect();
    for expected in [
        "`outbox` is damaged: the value's checksum",
        "`desired` is damaged: the value's checksum",
        "a patch list that belongs to nothing",
        "the counter says",
        "the counter of live bytes",
    ] {
        assert!(whats.iter().any(|what| what.contains(expected)), "{expected}: {whats:#?}");
    }
    let told = text(&site.run(&["store", "verify"]).stdout);
    assert!(told.contains("NOT as it should be"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_in_a_store_that_was_set_aside_is_salvaged_and_delivered() {
    let site = Site::new(one_lane(68, 60), Some(EAGER)).await;
    let daemon = with_backlog(&site);
    drop(daemon.kill());
    let waited = queued(&site.status());
    assert!(waited > 1);
    crate::store::lose_identity(&site.state_dir()).await;
    // The daemon begins anew, and what it can't reach it can't read: SSM is out.
    site.control.set_fault(Scope::of(Service::Ssm), Some(Fault::Outage));
    hub_is_out(&site, false);
    let daemon = site.start();
    assert!(daemon.log().contains("was set aside"), "{}", daemon.log());
    daemon.wait_for_status("attention to say so", |status| {
        status["attention"].to_string().contains("patchferry store salvage")
    });
    daemon.wait_for_status("the metric to say so", |_| {
        daemon.metric("patchferry_store_alarm{alarm=\"quarantine\"}") > 0.0
    });
    exits_with_zero(daemon);
    assert_eq!(stores(&site), ["quarantine-1", "store-2"]);

    let salvaged = run_json(&site, &["store", "salvage"]);
    let sum = |of: &str| -> u64 {
        let tables = salvaged["tables"].as_object().unwrap();
        tables.values().filter_map(|table| table[of].as_u64()).sum()
    };
    assert_eq!(sum("found"), waited, "{salvaged:#}");
    assert_eq!(sum("queued") + sum("superseded"), waited, "{salvaged:#}");
    assert_eq!(sum("unreadable"), 0);
    let status = site.status();
    assert_eq!(queued(&status), sum("queued"));
    assert_eq!(status["accounting_imbalance"], 0);
    assert_sound(&site);
    assert_eq!(stores(&site), ["quarantine-1", "store-2"], "the copy is gone");

    // Again: nothing is queued twice.
    run(&site, &["store", "salvage", "quarantine-1"]);
    assert_eq!(queued(&site.status()), sum("queued"));
    assert_sound(&site);

    site.control.set_fault(Scope::of(Service::Ssm), None);
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
    assert_sound(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_hangs_is_noticed_and_the_process_ends_itself() {
    let site = Site::new(one_lane(69, 20), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    exits_with_zero(daemon);

    // The fortieth commit hangs, and everything before stands.
    let site = site.with(VARIABLE, "committer_hangs:40");
    let mut daemon = site.start();
    rescan(&site.control, 1.0);
    let noticed = daemon.wait_for_health("the hang to show", |code, body| {
        code == 503 && body.contains("the disk hangs")
    });
    assert!(noticed);
    let ended = daemon.ends_within(Duration::from_secs(30)).expect("it ends itself");
    assert_eq!(ended.signal(), Some(6), "{ended}\n{}", daemon.log());
    assert!(daemon.log().contains("a commit hangs"), "{}", daemon.log());
    drop(daemon);

    let site = site.with(VARIABLE, "committer_hangs:1000000");
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
    assert_sound(&site);
}
