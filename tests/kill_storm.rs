//! The real daemon is killed with SIGKILL over and over, at seeded moments, while its fleet
//! changes and its hub is slow and loses answers; then it is left alone, and everything must be
//! as if nothing had happened.
//!
//! `PATCHFERRY_KILLS=300 cargo test --test suite kill_storm` is the long form.
//!
//! The story of the fault: a kill lands before, in or after every commit, request and answer
//! there is - in the opening of the store, amid a sweep, between an import that the hub took and
//! the settlement of it. What was accepted must be there after it, and nothing may be told twice
//! with other words.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use patchferry::{
    record::UnixMillis,
    simulator::{Control, Fault, FleetConfig, Scope, Service, SimulatorConfig},
};
use serde_json::Value;

use crate::harness::{
    ACCOUNT, REGION,
    child::{self, EAGER, Site},
};

const ROUNDS_VARIABLE: &str = "PATCHFERRY_KILLS";
const ROUNDS_DEFAULT: usize = 60;
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
        match rng.u8(0..8) {
            // While it opens its store, most of the time.
            0 | 1 => Self::AfterStart(Duration::from_micros(rng.u64(500..120_000))),
            2 => Self::AfterStart(Duration::from_millis(rng.u64(100..700))),
            _ => Self::AfterImports(rng.u64(1..5), Duration::from_micros(rng.u64(0..90_000))),
        }
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
async fn kills_at_random_instants_lose_nothing_and_rewrite_nothing() {
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
    for _ in 0..child::rounds(ROUNDS_VARIABLE, ROUNDS_DEFAULT) {
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
    site.assert_store_true().await;
    let Storm { kills, under_way, amid_start, requests_in_flight, .. } = storm;
    assert!(under_way * 3 >= kills, "only {under_way} of {kills} kills left work in the queues");
    assert!(amid_start * 20 >= kills, "only {amid_start} of {kills} kills met a start");
    assert!(
        requests_in_flight * 4 >= kills,
        "only {requests_in_flight} of {kills} kills met requests in flight"
    );
}

#[derive(Default)]
struct Storm {
    kills: usize,
    /// Kills after which the next start found something in its queues.
    under_way: usize,
    /// Kills before the daemon had said that it runs.
    amid_start: usize,
    /// Of them, those after it had read its configuration: it was opening its store.
    amid_open: usize,
    /// Kills while imports were on their way to the hub or back.
    requests_in_flight: usize,
}

impl Storm {
    /// The line `running` tells what the start found in the queues.
    fn note_queued(&mut self, running: &Value) {
        if running["queued"].as_i64().unwrap_or(0) > 0 {
            self.under_way += 1;
        }
    }

    fn report(&self, control: &Control) {
        let stats = control.stats_total();
        let Self { kills, under_way, amid_start, amid_open, requests_in_flight } = self;
        child::report(&format!(
            "kill storm: {kills} kills, {amid_start} amid the start ({amid_open} while it opened \
             its store), {requests_in_flight} with requests in flight, \
             {under_way} that left items in the queues; {} versions taken, {} re-sent \
             and harmless",
            stats.accepted, stats.ignored_updates
        ));
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
    let in_flight = site.control.imports_in_flight();
    let log = daemon.kill();
    storm.kills += 1;
    storm.requests_in_flight += usize::from(in_flight > 0);
    let running = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "running");
    if let Some(running) = running {
        storm.note_queued(&running);
    } else {
        storm.amid_start += 1;
        storm.amid_open += usize::from(log.contains("\"starting\""));
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
