//! The power goes while the daemon works, over and over, on one disk.
//!
//! The story of the fault: unlike a kill, a power cut takes what the kernel had not written and
//! what the disk had not put on its platter. The daemon runs on an ext4 file system on a disk of
//! this test's own (see [`disk`]), whose write cache is lost, kept or torn at the cut, while it
//! sweeps a fleet and `patchferry ingest` hands it lines. Every line that was answered before the
//! cut must be there after it; the store must open as it is, without a blob and with nothing set
//! aside; and in the end the hub holds what the fleet is and what the lines said.
//!
//! Each round also leaves two files beside the store, one fsynced and one not: the first must
//! survive every cut, the second must be missed after some, or the method would find no loss.
//!
//! `PATCHFERRY_POWER_CUTS=50 cargo test --test suite power_cut` is the long form.

mod disk;
mod feeder;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use patchferry::simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig};

use self::{
    disk::{Cache, Disk, Image},
    feeder::Feeder,
};
use crate::harness::{
    ACCOUNT, REGION,
    child::{self, Daemon, EAGER, Site, report, skipped},
};

const ROUNDS_VARIABLE: &str = "PATCHFERRY_POWER_CUTS";
const ROUNDS_DEFAULT: usize = 4;
const DISK_BYTES: u64 = 240 << 20;
const WITNESS_BYTES: usize = 100_000;
const SEED: u64 = 0x6375_7421;
/// How long after its start a daemon may see the power go.
const LIVED_MAX: Duration = Duration::from_millis(1_800);

/// What all rounds came to.
#[derive(Default)]
struct Tally {
    rounds: usize,
    /// Lines that were answered before a cut, in all rounds.
    lines: usize,
    /// Rounds in which some were.
    acknowledged: usize,
    /// Rounds that ended with blocks in the disk's cache.
    unflushed: usize,
    /// Rounds that ended with findings waiting.
    with_backlog: usize,
    writes: u64,
    flushes: u64,
    /// Files without fsync that a cut took, wholly or in part.
    witnesses_lost: usize,
}

struct Rig {
    site: Site,
    directory: tempfile::TempDir,
    rng: fastrand::Rng,
    tally: Tally,
    /// What had been accepted by the daemon's word before the last cut.
    promised: i64,
    /// Missing patches by node: the lines that were answered before a cut.
    lines: BTreeMap<String, i64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("mnt/state");
    let fleet = FleetConfig { non_compliant_share: 0.6, ..FleetConfig::of(700) };
    let simulator = SimulatorConfig::new(SEED).lane(ACCOUNT, REGION, fleet);
    let config = EAGER.replace("[ingest]\n", "[ingest]\npatch_details = false\n")
        + &format!("[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n");
    let site = Site::new(simulator, Some(&config))
        .await
        .with("PATCHFERRY_STATE_DIR", state_dir.to_str().unwrap());
    let Some(mut image) = Image::format(directory.path(), DISK_BYTES) else {
        return skipped("no ext4 can be made here (mkfs.ext4), so no power is cut");
    };
    let rng = fastrand::Rng::with_seed(SEED);
    let tally = Tally::default();
    let mut rig = Rig { site, directory, rng, tally, promised: 0, lines: BTreeMap::new() };
    for round in 0..child::rounds(ROUNDS_VARIABLE, ROUNDS_DEFAULT) {
        let Some(disk) = image.power_on(rig.directory.path()) else {
            return skipped("no FUSE file and loop device can be mounted here, so no power is cut");
        };
        image = rig.round(round, disk, &state_dir).await;
    }
    let Some(disk) = image.power_on(rig.directory.path()) else {
        panic!("the disk of the last cut can't be mounted");
    };
    rig.ends_well(&state_dir).await;
    drop(disk);
    rig.tally.report();
    let Tally { rounds, acknowledged, unflushed, witnesses_lost, .. } = rig.tally;
    assert!(acknowledged * 2 >= rounds, "too few cuts met work: {acknowledged} of {rounds}");
    assert!(witnesses_lost > 0, "no cut took a file that nobody had fsynced: these are no cuts");
    assert!(unflushed * 2 >= rounds, "the disk's cache was mostly empty");
}

impl Rig {
    async fn round(&mut self, round: usize, disk: Disk, state_dir: &Path) -> Image {
        let before = self.check(round, state_dir).await;
        self.site.control.clear_faults();
        // A long outbox, full pages: every other round has no hub, the others a slow one.
        let hub = Scope::of(Service::SecurityHub);
        let slow = Duration::from_millis(30);
        self.site.control.set_fault(
            hub.operation("BatchImportFindings"),
            Some(match round % 2 {
                0 => Fault::Outage,
                _ => Fault::Latency { min: slow, max: slow * 4 },
            }),
        );
        self.site.control.rescan(&self.site.control.lanes()[0], 0.5);
        let daemon = self.site.start();
        let feeder = Feeder::start(&self.site, round);
        lives(&daemon, LIVED_MAX.mul_f64(self.rng.f64()));
        witness(&disk, round, true);
        witness(&disk, round, false);
        let status = daemon.status();
        let answered = feeder.answered();
        // Whatever is being written now is torn.
        let cache = [Cache::Torn, Cache::Lost, Cache::Torn, Cache::Kept][round % 4];
        let cut = disk.cut(self.rng.u64(1..60), cache, &mut self.rng);
        daemon.signal(Signal::SIGKILL);
        let _ = daemon.wait();
        feeder.end();
        self.tally.rounds += 1;
        self.tally.writes += cut.counts.writes;
        self.tally.flushes += cut.counts.flushes;
        self.tally.unflushed += usize::from(cut.counts.unflushed_blocks > 0);
        self.tally.lines += answered.len();
        self.tally.acknowledged += usize::from(!answered.is_empty());
        self.tally.with_backlog += usize::from(child::queued(&status) > 0);
        let accepted = status["accounting"]["accepted"].as_i64().expect("a count");
        let lines = i64::try_from(answered.len()).unwrap();
        // Each was fsynced before it was counted, or answered.
        self.promised = accepted.max(before + lines);
        self.lines.extend(answered);
        cut.into_image()
    }

    /// After the last cut: what was acknowledged is there, the books balance, the fsynced file is
    /// whole. How much has been accepted.
    async fn check(&mut self, round: usize, state_dir: &Path) -> i64 {
        let Some(last) = round.checked_sub(1) else { return 0 };
        let mount = state_dir.parent().unwrap();
        let kept = fs::read(mount.join(format!("fsynced-{last}"))).unwrap_or_default();
        assert_eq!(kept, vec![7; WITNESS_BYTES], "round {last}: what was fsynced is gone");
        let lazy = fs::read(mount.join(format!("written-{last}"))).unwrap_or_default();
        self.tally.witnesses_lost += usize::from(lazy != vec![7; WITNESS_BYTES]);
        for name in ["fsynced", "written"] {
            let _ = fs::remove_file(mount.join(format!("{name}-{last}")));
        }
        let accounting = child::assert_accounted(state_dir).await;
        assert!(
            accounting.accepted >= self.promised,
            "round {last}: {} were acknowledged, {} are there",
            self.promised,
            accounting.accepted
        );
        accounting.accepted
    }

    async fn ends_well(&mut self, state_dir: &Path) {
        self.check(self.tally.rounds, state_dir).await;
        self.site.control.clear_faults();
        let daemon = self.site.start();
        daemon.settle();
        let (status, log) = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
        let fleet = self.site.control.differences_total();
        let fleet: Vec<String> =
            fleet.into_iter().filter(|it| !it.contains(feeder::NODE_PREFIX)).collect();
        assert_eq!(fleet, Vec::<String>::new());
        assert_eq!(self.site.control.stats_total().violations(), Vec::<String>::new());
        let held = feeder::held(&self.site);
        let missed: Vec<_> =
            self.lines.iter().filter(|(node, missing)| held.get(*node) != Some(missing)).collect();
        assert!(missed.is_empty(), "answered, and lost: {missed:?}");
        let accounting = child::assert_accounted(state_dir).await;
        assert_eq!(accounting.queued.total(), 0, "{accounting:?}");
    }
}

/// A random instant is what is wanted: time itself is the event.
#[allow(clippy::disallowed_methods)]
fn lives(daemon: &Daemon, lived: Duration) {
    std::thread::sleep(lived);
    let log = daemon.log();
    assert!(!log.contains("\"ERROR\"") && !log.contains("panicked"), "{log}");
}

/// Leaves a file behind; the one without fsync is what a cut may take.
fn witness(disk: &Disk, round: usize, is_synced: bool) {
    let name = if is_synced { "fsynced" } else { "written" };
    let path = disk.mount_point().join(format!("{name}-{round}"));
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![7; WITNESS_BYTES]).unwrap();
    if is_synced {
        file.sync_all().unwrap();
        File::open(disk.mount_point()).unwrap().sync_all().unwrap();
    }
}

impl Tally {
    fn report(&self) {
        let Self { rounds, lines, acknowledged, unflushed, with_backlog, .. } = self;
        let Self { writes, flushes, witnesses_lost, .. } = self;
        report(&format!(
            "power cuts: {rounds}, {acknowledged} amid lines being answered, {with_backlog} with a \
             backlog, {unflushed} with blocks in the disk's cache ({writes} writes, {flushes} \
             flushes in all); {lines} lines had been answered, none was missed; {witnesses_lost} \
             files that nobody had fsynced were"
        ));
    }
}
