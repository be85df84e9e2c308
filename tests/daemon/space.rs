//! A store that is nearly full: ingest waits, delivery goes on, and both are told; a disk that is
//! really full: exit 75, and nothing is lost.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use patchferry::simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig};
use serde_json::Value;

use super::{assert_true, exits_with_zero, one_lane, rescan};
use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, queued, report, skipped},
};

/// A file system of its own, for as long as this lives.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where nothing may be mounted.
    pub fn mount(at: &Path, size: &str, read_only: bool) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let access = if read_only { "ro" } else { "rw" };
        let options = format!("size={size},mode=0700,{access}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn hub_is_out(site: &Site, is_out: bool) {
    site.control.set_fault(Scope::of(Service::SecurityHub), is_out.then_some(Fault::Outage));
}

fn is_paused(status: &Value, reason: &str) -> bool {
    status["ingest_paused"].as_array().is_some_and(|reasons| reasons.iter().any(|it| it == reason))
}

/// A pause is in the status, in what needs attention, and in the metrics.
fn assert_paused(daemon: &Daemon, reason: &str) {
    let status = daemon.wait_for_status("ingest to pause", |status| is_paused(status, reason));
    let attention = status["attention"].to_string();
    assert!(attention.contains("ingest is paused"), "{attention}");
    let series = format!("patchferry_ingest_paused{{reason=\"{reason}\"}}");
    daemon.wait_for_status("the metric to follow", |_| daemon.metric(&series) > 0.0);
    let line = daemon.wait_for_line(|line| {
        line["level"] == "ERROR"
            && line["message"].as_str().is_some_and(|text| text.starts_with("ingest is paused"))
    });
    assert!(line.is_some(), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_limit_the_store_takes_no_more_and_delivery_makes_room() {
    let fleet = FleetConfig { non_compliant_share: 0.6, ..FleetConfig::of(700) };
    let simulator = SimulatorConfig::new(1).lane(ACCOUNT, REGION, fleet);
    let config = EAGER.replace("[store]\n", "[store]\nmax_bytes = \"1MiB\"\n");
    let site = Site::new(simulator, Some(&config)).await;
    let imports = Scope::of(Service::SecurityHub).operation("BatchImportFindings");
    site.control.set_fault(imports.clone(), Some(Fault::Outage));
    let daemon = site.start();
    assert_paused(&daemon, "live_bytes");
    let paused = daemon.status();
    let waiting = paused["lanes"][0]["outbox_findings"].as_u64();
    assert!(waiting > Some(0), "{paused:#}");
    // One commit may overshoot: what it brought was admitted as a whole.
    assert!(paused["store"]["live_bytes"].as_u64() < Some(2 << 20), "{paused:#}");

    site.control.set_fault(imports, None);
    daemon.settle();
    let status = daemon.status();
    assert!(!is_paused(&status, "live_bytes"), "{status:#}");
    assert_true(&site);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_nearly_full_disk_ingest_waits_and_delivery_goes_on() {
    let site = Site::new(one_lane(2, 100), Some(EAGER)).await;
    // The read-back comes first: with it done, only delivery is left to do.
    let daemon = site.start();
    daemon.settle();
    hub_is_out(&site, true);
    rescan(&site.control, 1.0);
    daemon.wait_for_status("a backlog", |status| queued(status) > 0);
    drop(daemon.kill());
    hub_is_out(&site, false);

    // No disk here has that much.
    let site = site.with("PATCHFERRY_STORE__MIN_FREE_BYTES", "1TiB");
    let daemon = site.start();
    assert_paused(&daemon, "free_space");
    daemon.wait_for_status("the backlog to be delivered", |status| queued(status) == 0);
    let accepted = daemon.status()["accounting"]["accepted"].clone();
    rescan(&site.control, 1.0);
    daemon.wait_for_status("another look at the space", |_| true);
    let status = daemon.status();
    assert_eq!(status["accounting"]["accepted"], accepted, "{status:#}");
    assert!(is_paused(&status, "free_space"));
    exits_with_zero(daemon);

    let site = site.with("PATCHFERRY_STORE__MIN_FREE_BYTES", "1MiB");
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}

/// sled writes behind: whether it meets the full disk at once or only when it next writes is its
/// own affair, so the disk gets room again before the daemon must have noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_exits_75_and_nothing_is_lost() {
    let fleet = FleetConfig { non_compliant_share: 0.7, ..FleetConfig::of(400) };
    let simulator = SimulatorConfig::new(3).lane(ACCOUNT, REGION, fleet);
    let site = Site::new(simulator, Some(EAGER)).await;
    fs::create_dir(site.state_dir()).unwrap();
    let Some(disk) = Tmpfs::mount(&site.state_dir(), "96m", false) else {
        return skipped("no small file system can be mounted here, so no disk gets full");
    };
    let mut daemon = site.start();
    daemon.settle();
    hub_is_out(&site, true);
    let lane = site.control.lanes().remove(0);
    for node in site.control.fleet(&lane).iter().filter(|node| node.is_non_compliant) {
        site.control.make_compliant(&lane, &node.id).unwrap();
    }
    daemon.wait_for_status("a backlog", |status| queued(status) > 200);
    let ballast = site.state_dir().join("ballast");
    fill(&ballast);
    // Delivery writes: what has left must be noted.
    hub_is_out(&site, false);
    let mut ended = daemon.ends_within(Duration::from_secs(8));
    fs::remove_file(&ballast).unwrap();
    if ended.is_none() {
        ended = daemon.ends_within(Duration::from_secs(8));
    }
    match ended {
        Some(status) => {
            let log = daemon.log();
            assert_eq!(status.code(), Some(75), "{status}\n{log}");
            assert!(log.contains("the store has failed") && !log.contains("panicked"), "{log}");
        }
        None => skipped("the store had no need to write while its disk was full: no exit 75"),
    }
    drop(daemon);

    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    assert_eq!(daemon.status()["accounting_imbalance"], 0);
    exits_with_zero(daemon);
    drop(disk);
}

/// The disk fills up while commits are under way, at other instants and with other bytes left each
/// time: whatever a write had got to, the next start opens the store and nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_amid_commits_loses_nothing_and_is_never_taken_for_corruption() {
    const ROUNDS: usize = 6;
    let fleet = FleetConfig { non_compliant_share: 0.6, ..FleetConfig::of(500) };
    let simulator = SimulatorConfig::new(4).lane(ACCOUNT, REGION, fleet);
    let site = Site::new(simulator, Some(EAGER)).await;
    fs::create_dir(site.state_dir()).unwrap();
    let Some(_disk) = Tmpfs::mount(&site.state_dir(), "64m", false) else {
        return skipped("no small file system can be mounted here, so no disk gets full");
    };
    let mut rng = fastrand::Rng::with_seed(4);
    let ballast = site.state_dir().join("ballast");
    let (mut exits, mut acknowledged) = (0, 0);
    for _ in 0..ROUNDS {
        hub_is_out(&site, true);
        let mut daemon = site.start();
        let accepted = |status: &Value| status["accounting"]["accepted"].as_u64().unwrap_or(0);
        let status = daemon.status();
        assert!(accepted(&status) >= acknowledged, "{acknowledged} were accepted: {status:#}");
        rescan(&site.control, 0.8);
        let some = accepted(&status) + rng.u64(100..300);
        let status = daemon.wait_for_status("commits, and a backlog", |status| {
            accepted(status) >= some && queued(status) > 20
        });
        acknowledged = accepted(&status);
        fill(&ballast);
        let left_bytes = rng.u64(0..24_000);
        fs::OpenOptions::new()
            .write(true)
            .open(&ballast)
            .and_then(|file| file.set_len(file.metadata()?.len().saturating_sub(left_bytes)))
            .unwrap();
        // Delivery goes on and writes: what has left must be noted.
        hub_is_out(&site, false);
        let ended = daemon.ends_within(Duration::from_secs(4));
        if let Some(status) = ended {
            exits += 1;
            assert_eq!(status.code(), Some(75), "{status}\n{}", daemon.log());
        }
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        drop(daemon);
        fs::remove_file(&ballast).unwrap();
    }
    hub_is_out(&site, false);
    let daemon = site.start();
    daemon.settle();
    exits_with_zero(daemon);
    site.assert_hub_true();
    let accounting = site.assert_store_true().await;
    assert!(accounting.accepted.unsigned_abs() >= acknowledged, "{accounting:?}");
    report(&format!("full disks: {ROUNDS}, {exits} met by a write (exit 75); nothing was missed"));
}

/// Takes all the space there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut block = vec![7_u8; 1 << 20];
    while !block.is_empty() {
        if file.write_all(&block).is_err() {
            block.truncate(block.len() / 2);
        }
    }
}
