//! Two real daemons that divide lanes, are killed at seeded moments, and give each other their
//! lanes, backlogs and all; then they are left alone, and every hub must hold the newest state of
//! each node without ever having gone back.
//!
//! `PATCHFERRY_HANDOVERS=200 cargo test --test suite machines` is the long form.
//!
//! The story of the fault: a machine dies with findings in its queues, its lanes go to the other,
//! which tells the hub of newer scans, and later they come back to the first, whose queues still
//! hold what was true then.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use patchferry::simulator::{Control, Fault, FleetConfig, Scope, Service, SimulatorConfig};
use serde_json::Value;

use super::assert_nothing_went_back;
use crate::harness::{
    ACCOUNT,
    child::{self, Daemon, EAGER, Site, assert_accounted},
};

const ROUNDS_VARIABLE: &str = "PATCHFERRY_HANDOVERS";
const ROUNDS_DEFAULT: usize = 16;
const SEED: u64 = 0x6861_6e64;
const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-central-1", "ap-southeast-2"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Who serves which lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    /// Each has its share.
    AsNumbered,
    /// Each has the other's.
    Swapped,
    /// One has all, the other isn't there.
    Alone(usize),
}

impl Division {
    const ALL: [Self; 4] = [Self::AsNumbered, Self::Swapped, Self::Alone(0), Self::Alone(1)];

    /// The section of machine `machine`'s file; `None` if it isn't there.
    fn shard(self, machine: usize) -> Option<String> {
        let (index, count) = match self {
            Self::AsNumbered => (machine, 2),
            Self::Swapped => (1 - machine, 2),
            Self::Alone(only) if only == machine => (0, 1),
            Self::Alone(_) => return None,
        };
        Some(format!("[shard]\nindex = {index}\ncount = {count}\n"))
    }
}

/// A world with two machines in it.
struct Pair {
    site: Site,
    division: Division,
}

impl Pair {
    async fn new() -> Self {
        let fleet = FleetConfig::of(40);
        let simulator = REGIONS.iter().fold(SimulatorConfig::new(SEED), |simulator, region| {
            simulator.lane(ACCOUNT, region, fleet)
        });
        Self { site: Site::new(simulator, None).await, division: Division::AsNumbered }
    }

    fn state_dir(&self, machine: usize) -> PathBuf {
        self.site.path().join(format!("state-{machine}"))
    }

    /// Starts machine `machine`, if the division has a place for it.
    fn spawn(&self, machine: usize) -> Option<Daemon> {
        let shard = self.division.shard(machine)?;
        let regions = REGIONS.map(|region| format!("\"{region}\"")).join(", ");
        let file = self.site.path().join(format!("machine-{machine}.toml"));
        let lanes = format!("[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [{regions}]\n");
        std::fs::write(&file, format!("{EAGER}{shard}{lanes}")).expect("a file is written");
        let mut command = self.site.command(&["run"]);
        command.env("PATCHFERRY_CONFIG", file).env("PATCHFERRY_STATE_DIR", self.state_dir(machine));
        Some(Daemon::spawn(command))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_are_killed_and_exchange_lanes_take_no_hub_back() {
    let mut pair = Pair::new().await;
    slow_and_lossy(&pair.site.control);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let (mut kills, mut handovers) = (0, 0);
    for _ in 0..child::rounds(ROUNDS_VARIABLE, ROUNDS_DEFAULT) {
        kills += round(&pair, &mut rng);
        if rng.bool() {
            has_landed(&pair.site.control);
            let divisions = Division::ALL.into_iter().filter(|other| *other != pair.division);
            let others: Vec<Division> = divisions.collect();
            pair.division = others[rng.usize(0..others.len())];
            handovers += 1;
        }
    }
    has_landed(&pair.site.control);
    pair.site.control.clear_faults();
    // Both come back to all that they ever had, whatever is in their queues.
    for division in [Division::AsNumbered, Division::Swapped] {
        pair.division = division;
        rescan(&pair.site.control, 0.2);
        ends_true(&pair).await;
    }
    child::report(&format!(
        "machines: {kills} kills, {handovers} handovers, {} versions taken, {} ignored",
        pair.site.control.stats_total().accepted,
        pair.site.control.stats_total().ignored_updates
    ));
}

/// Starts what is to run, has the fleet change, and kills it at a random instant.
fn round(pair: &Pair, rng: &mut fastrand::Rng) -> usize {
    rescan(&pair.site.control, 0.1 + 0.3 * rng.f64());
    let daemons: Vec<Daemon> = (0..2).filter_map(|machine| pair.spawn(machine)).collect();
    let mut killed = 0;
    for daemon in daemons {
        // A random instant is what is wanted: time itself is the event.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_micros(rng.u64(1_000..1_200_000)));
        if rng.bool() {
            rescan(&pair.site.control, 0.1);
        }
        let log = daemon.kill();
        assert!(!log.contains("\"ERROR\"") && !log.contains("panicked"), "{log}");
        killed += 1;
    }
    killed
}

async fn ends_true(pair: &Pair) {
    let mut daemons = Vec::new();
    for machine in 0..2 {
        let mut daemon = pair.spawn(machine).expect("both are there at the end");
        daemon.running();
        daemons.push(daemon);
    }
    for daemon in &daemons {
        sweeps_twice(daemon);
    }
    wait_until(|| pair.site.control.differences_total().is_empty());
    for daemon in &daemons {
        daemon.wait_for_status("nothing to wait in its lanes", |status| {
            own_lanes(status).all(|lane| lane["outbox_findings"] == 0)
        });
    }
    for daemon in daemons {
        let (status, log) = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    pair.site.assert_hub_true();
    assert_nothing_went_back(&pair.site.control);
    for machine in 0..2 {
        assert_accounted(&pair.state_dir(machine)).await;
    }
}

/// The lanes that it serves.
fn own_lanes(status: &Value) -> impl Iterator<Item = &Value> {
    let lanes = status["lanes"].as_array().expect("a status has lanes");
    lanes.iter().filter(|lane| lane["state"] != "orphaned")
}

/// One sweep may have passed what has changed since.
fn sweeps_twice(daemon: &Daemon) {
    for _ in 0..2 {
        let swept = |status: &Value| -> Vec<i64> {
            let at = |lane: &Value| lane["last_complete_sweep_unix_ms"].as_i64().unwrap_or(0);
            own_lanes(status).map(at).collect()
        };
        let before = swept(&daemon.status());
        daemon.wait_for_status("another complete sweep", |status| {
            swept(status).iter().zip(&before).all(|(now, before)| now > before)
        });
    }
}

/// Waits for what the dead have sent: a lane has one owner at a time.
fn has_landed(control: &Control) {
    wait_until(|| control.imports_in_flight() == 0);
}

fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?}");
        // The simulator tells of events only to who can await them.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn slow_and_lossy(control: &Control) {
    let latency = Fault::Latency { min: Duration::from_millis(10), max: Duration::from_millis(60) };
    control.set_fault(Scope::of(Service::SecurityHub), Some(latency));
    let imports = Scope::of(Service::SecurityHub).operation("BatchImportFindings");
    control.set_fault(imports, Some(Fault::LostReply { ratio: 0.1 }));
}

fn rescan(control: &Control, fraction: f64) {
    for lane in control.lanes() {
        control.rescan(&lane, fraction);
    }
}
