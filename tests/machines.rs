//! Several machines, and machines that come back from the past: whoever owns a lane, its hub ends
//! with the newest state of each node, and never goes back to an older one.

mod five_at_once;
mod model;
mod processes;
mod returning;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use patchferry::{
    app::{App, Options},
    config::Config,
    record::{Clock, UnixMillis},
    simulator::{Control, FleetConfig, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig};

/// Longer than any lease.
const LONG: Duration = Duration::from_secs(3_600);

/// AWS's clock and those of all machines, and what has passed on top of them.
#[derive(Clone, Default)]
struct Time(Arc<AtomicI64>);

impl Time {
    fn now_ms(&self) -> i64 {
        Clock::system().now().0 + self.0.load(Ordering::SeqCst)
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::custom(move || UnixMillis(time.now_ms()))
    }
}

/// A fleet in one lane, every node of which has something missing, and a clock that can be moved.
async fn rig(seed: u64, nodes: usize) -> (Rig, Time) {
    let time = Time::default();
    let fleet = FleetConfig {
        nodes,
        hybrid_share: 0.1,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let mut simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet);
    let theirs = time.clone();
    simulator.clock = Arc::new(move || theirs.now_ms());
    let mut rig = Rig::new(simulator).await.without_quota();
    rig.clock = time.clock();
    rig.config.ingest.patch_details = false;
    (rig, time)
}

/// Another machine in the same world: a state directory of its own.
struct Machine {
    config: Config,
    _state: tempfile::TempDir,
}

impl Machine {
    fn like(rig: &Rig) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let mut config = rig.config.clone();
        config.state_dir = state.path().join("state");
        Self { config, _state: state }
    }

    async fn start(&self, rig: &Rig) -> App {
        start(rig, self.config.clone()).await
    }
}

async fn start(rig: &Rig, config: Config) -> App {
    let options = Options { config, aws: rig.aws(), clock: rig.clock.clone(), listen: false };
    App::start(options).await.expect("the daemon starts")
}

/// Each finding's versions came in the order of `UpdatedAt`, and none tells of an older observation
/// than the one before it.
fn assert_nothing_went_back(control: &Control) {
    let at = |text: &String| UnixMillis::parse_rfc3339(text).expect("a timestamp");
    let mut wrong = String::new();
    for finding in control.lanes().iter().flat_map(|lane| control.hub(lane)) {
        let updated: Vec<UnixMillis> = finding.history.iter().map(|(time, _)| at(time)).collect();
        let observed: Vec<UnixMillis> = finding.observed_history.iter().map(at).collect();
        if !updated.is_sorted_by(|a, b| a < b) || !observed.is_sorted() {
            let (told, seen) = (&finding.history, &finding.observed_history);
            let _ = writeln!(wrong, "{}: {told:?} that observed {seen:?}", finding.id);
        }
    }
    assert!(wrong.is_empty(), "went back:\n{wrong}");
}

/// A whole state directory, its mark included, as an image of the machine has it.
fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
