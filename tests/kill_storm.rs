//! The real daemon is killed with SIGKILL over and over, at seeded moments, while its fleet
//! changes and its hub is slow and loses answers; then it is left alone, and everything must be
//! as if nothing had happened.
//!
//! The story of the fault: a kill lands before, in or after every commit, request and answer
//! there is - in the opening of the store, amid a sweep, between an import that the hub took and
//! the settlement of it. What was accepted must be there after it, and nothing may be told twice
//! with other words.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use patchferry::{
    app,
    record::{Clock, UnixMillis},
    simulator::{Control, Fault, FleetConfig, Scope, Service, SimulatorConfig},
    store::SpaceLimits,
};
use serde_json::Value;

use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site},
};

const ROUNDS: usize = 60;
/// Of them, those whose kill must have found something accepted and not settled.
const UNDER_WAY_MIN: usize = ROUNDS / 2;
/// A round that waits for a request and sees none ends after this long.
const ROUND_MAX: Duration = Duration::from_millis(1_500);
const SEED: u64 = 0x6b69_6c6c;

/// When a kill lands.
enum Moment {
    /// This long after the start: opening, reading, accepting.
    AfterStart(Duration),
    /// This long after the n-th import of the round has reached the hub.
    AfterImports(u64, Duration),
}

impl Moment {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let delay = Duration::from_millis(rng.u64(0..90));
        if rng.u8(0..4) == 0 {
            return Self::AfterStart(Duration::from_millis(rng.u64(5..600)));
        }
        Self::AfterImports(rng.u64(1..5), delay)
    }

    /// Blocks until the moment has come: a random one, so time itself is the event.
    #[allow(clippy::disallowed_methods)]
    fn wait(&self, control: &Control, began: Instant) {
        let until = |instant: Instant| {
            std::thread::sleep(instant.saturating_duration_since(Instant::now()));
        };
        match *self {
            Self::AfterStart(delay) => until(began + delay),
            Self::AfterImports(imports, delay) => {
                let wanted = control.stats_total().import_requests + imports;
                while control.stats_total().import_requests < wanted && began.elapsed() < ROUND_MAX
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(delay);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_kills_lose_nothing_and_rewrite_nothing() {
    let fleet = FleetConfig::of(150);
    let simulator = SimulatorConfig::new(SEED).lane(ACCOUNT, REGION, fleet).lane(
        ACCOUNT,
        "eu-central-1",
        fleet,
    );
    let config = format!(
        "{EAGER}[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\", \"eu-central-1\"]\n"
    );
    let site = Site::new(simulator, Some(&config)).await;
    slow_and_lossy(&site.control);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut storm = Storm::default();
    for _ in 0..ROUNDS {
        round(&site, &mut rng, &mut storm);
    }
    site.control.clear_faults();
    let mut daemon = site.start();
    storm.note_queued(&daemon.running());
    rescan(&site.control, 0.2);
    daemon.settle();
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    storm.report(&site.control);

    assert_eq!(site.control.differences_total(), Vec::<String>::new());
    let stats = site.control.stats_total();
    assert_eq!(stats.violations(), Vec::<String>::new());
    assert_history_in_order(&site.control);
    assert_store_true(&site).await;
    assert!(storm.under_way >= UNDER_WAY_MIN, "only {} kills met work under way", storm.under_way);
}

#[derive(Default)]
struct Storm {
    kills: usize,
    /// Kills after which the next start found something in its queues.
    under_way: usize,
    /// Kills before the daemon had said that it runs.
    amid_start: usize,
}

impl Storm {
    /// The line `running` tells what the start found in the queues.
    fn note_queued(&mut self, running: &Value) {
        if running["queued"].as_i64().unwrap_or(0) > 0 {
            self.under_way += 1;
        }
    }

    /// On the terminal itself: a passing test's output is swallowed otherwise.
    fn report(&self, control: &Control) {
        let stats = control.stats_total();
        let Self { kills, under_way, amid_start } = self;
        let _ = writeln!(
            std::io::stderr(),
            "kill storm: {kills} kills, {amid_start} amid the start, {under_way} with items under \
             way; {} versions taken, {} re-sent and harmless",
            stats.accepted,
            stats.ignored_updates
        );
    }
}

fn round(site: &Site, rng: &mut fastrand::Rng, storm: &mut Storm) {
    let moment = Moment::draw(rng);
    rescan(&site.control, 0.1 + 0.4 * rng.f64());
    let began = Instant::now();
    let daemon = site.spawn();
    // Half of the rounds see the fleet change once more while the daemon is at it.
    if rng.bool() {
        rescan(&site.control, 0.1);
    }
    moment.wait(&site.control, began);
    let log = daemon.kill();
    storm.kills += 1;
    let running = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "running");
    match running {
        Some(running) => storm.note_queued(&running),
        None => storm.amid_start += 1,
    }
    assert!(!log.contains("\"ERROR\"") && !log.contains("panicked"), "{log}");
}

fn slow_and_lossy(control: &Control) {
    let latency = Fault::Latency { min: Duration::from_millis(20), max: Duration::from_millis(80) };
    control.set_fault(Scope::of(Service::SecurityHub), Some(latency));
    let imports = Scope::of(Service::SecurityHub).operation("BatchImportFindings");
    control.set_fault(imports, Some(Fault::LostReply { ratio: 0.1 }));
}

fn rescan(control: &Control, fraction: f64) {
    for lane in control.lanes() {
        control.rescan(&lane, fraction);
    }
}

/// Each finding's versions came in the order of `UpdatedAt`, and the newest is what it holds.
fn assert_history_in_order(control: &Control) {
    let mut wrong = String::new();
    for finding in control.lanes().iter().flat_map(|lane| control.hub(lane)) {
        let at = |text: &String| UnixMillis::parse_rfc3339(text).expect("a timestamp");
        let times: Vec<UnixMillis> = finding.history.iter().map(|(time, _)| at(time)).collect();
        let newest = finding.history.back();
        let holds_newest =
            newest == Some(&(finding.updated_at.clone(), finding.record_state.clone()));
        if !times.is_sorted_by(|a, b| a < b) || !holds_newest {
            let _ = writeln!(wrong, "{}: {:?}", finding.id, finding.history);
        }
    }
    assert!(wrong.is_empty(), "out of order:\n{wrong}");
}

/// Nothing is unaccounted for, by the counters and by a count of what is stored.
async fn assert_store_true(site: &Site) {
    let status = site.status();
    assert_eq!(status["accounting_imbalance"], 0, "{status:#}");
    let state_dir = site.state_dir();
    assert!(!state_dir.join("quarantine-1").exists(), "the store was set aside");
    let limits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
    let opened =
        tokio::task::spawn_blocking(move || app::open_queues(&state_dir, limits, Clock::system()));
    let queues = opened.await.unwrap().expect("the store opens");
    let (accounting, recount) = (queues.accounting(), queues.recount().await.unwrap());
    assert_eq!(accounting.imbalance(), 0, "{accounting:?}");
    assert_eq!((recount.queued, recount.dead), (accounting.queued, accounting.dead));
    assert_eq!(recount.queued.total(), 0, "{recount:?}");
    queues.close().await.unwrap();
}
