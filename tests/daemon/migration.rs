//! The real binary over a store of format 1: it migrates by itself, whatever kills it meanwhile,
//! and delivers what waited.

use std::{fs, os::unix::process::ExitStatusExt as _, process::Stdio, time::Instant};

use patchferry::{
    failpoint::{FailPoint, VARIABLE},
    simulator::{FleetConfig, SimulatorConfig},
};
use serde_json::Value;

use super::exits_with_zero;
use crate::{
    harness::{
        ACCOUNT, REGION,
        child::{EAGER, Site, queued, report, rounds, text},
    },
    store::format::{expected, old_state},
};

/// The other lane of the fixture.
const OTHER_ACCOUNT: &str = "444455556666";
const OTHER_REGION: &str = "us-west-2";

const KILLS_PER_ROUND: usize = 3;
/// Rounds go on until a kill has met a migration, but not for ever.
const ROUNDS_MAX: usize = 400;

/// Where a migration can be killed.
const POINTS: [FailPoint; 10] = [
    FailPoint::BackupWritten,
    FailPoint::BackupRenamed,
    FailPoint::MigrationBackedUp,
    FailPoint::StoreDirectoryMade,
    FailPoint::StoreCreated,
    FailPoint::MigrationCopied,
    FailPoint::CurrentWritten,
    FailPoint::MigrationSwapped,
    FailPoint::StoreScrapped,
    FailPoint::MigrationCleaned,
];

async fn site(seed: u64) -> Site {
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, FleetConfig::of(5)).lane(
        OTHER_ACCOUNT,
        OTHER_REGION,
        FleetConfig::of(5),
    );
    let lanes = format!(
        "[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         [[lanes]]\naccount = \"{OTHER_ACCOUNT}\"\nregions = [\"{OTHER_REGION}\"]\n\
         role_arn = \"arn:aws:iam::{OTHER_ACCOUNT}:role/patchferry\"\n"
    );
    // The fixture's nodes are none of the simulated fleet: asked about, they would be gone.
    let eager = EAGER.replace("[ingest]\n", "[ingest]\ncloud_control = false\n");
    let site = Site::new(simulator, Some(&format!("{eager}{lanes}"))).await;
    old_state(&site.state_dir());
    site
}

fn expected_queued() -> u64 {
    let expected = expected();
    let queues = expected["accounting"]["queued"].as_object().unwrap();
    queues.values().filter_map(Value::as_u64).sum()
}

/// Nodes of the fixture that a lane's hub holds an active finding of, by their last two digits.
fn held(site: &Site, account: &str) -> Vec<u64> {
    let lanes = site.control.lanes();
    let lane = lanes.iter().find(|lane| lane.account() == account).unwrap();
    let findings = site.control.hub(lane).into_iter();
    let mut numbers: Vec<u64> = findings
        .filter(|finding| finding.record_state == "ACTIVE")
        .filter_map(|finding| {
            let (_, rest) = finding.resource_id.split_once("i-0fe0fe0fe0fe000")?;
            rest.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_migrates_an_old_store_and_delivers_what_waited_in_it() {
    let site = site(1).await;
    let daemon = site.start();
    assert!(daemon.log().contains("migrating the store"), "{}", daemon.log());
    daemon.settle();
    let status = daemon.status();
    assert_eq!(status["accounting_imbalance"], 0);
    assert_eq!(status["accounting"]["dead"], expected()["accounting"]["dead"]);
    exits_with_zero(daemon);
    // 25 was gone, and told so without ever having been opened.
    let waited: Vec<u64> = (10..=24).chain(40..=42).chain(50..=54).collect();
    assert_eq!(held(&site, ACCOUNT), waited);
    let parked: Vec<u64> = (30..=33).chain([43]).collect();
    assert_eq!(held(&site, OTHER_ACCOUNT), parked);
    assert_eq!(site.control.stats_total().violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_killed_leaves_the_old_store_or_the_new_one() {
    let fresh = site(2).await;
    for point in POINTS {
        let state = fresh.state_dir();
        fs::remove_dir_all(&state).unwrap();
        old_state(&state);
        let killed = fresh.command(&["status"]).env(VARIABLE, point.name()).output().unwrap();
        let said = text(&killed.stderr);
        assert_eq!(killed.status.signal(), Some(6), "{point:?} wasn't reached: {said}");

        is_migrated(&fresh, point.name());
    }
}

/// One live store, everything that waited still does, nothing half-made is left.
fn is_migrated(site: &Site, what: &str) {
    let status = site.status();
    assert_eq!(status["accounting_imbalance"], 0, "{what}");
    assert_eq!(queued(&status), expected_queued(), "{what}");
    let state = site.state_dir();
    let names: Vec<String> = fs::read_dir(&state)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let stores = names.iter().filter(|it| it.starts_with("store-") || it.starts_with("scrap-"));
    assert_eq!(stores.count(), 1, "{what} left {names:?}");
    assert!(!names.iter().any(|name| name.starts_with("quarantine")), "{what}: {names:?}");
    let backups = fs::read_dir(state.join("backups")).unwrap().flatten();
    let partial = backups.filter(|it| it.path().extension().is_some_and(|it| it != "pfb"));
    assert_eq!(partial.count(), 0, "{what}");
}

/// SIGKILL, three times a round: the second and the third meet what the one before left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_killed_at_random_instants_leaves_the_old_store_or_the_new_one() {
    let rounds_min = rounds("PATCHFERRY_MIGRATION_KILLS", 36).div_ceil(KILLS_PER_ROUND);
    let site = site(3).await;
    let state = site.state_dir();
    // What it takes from the start to the end here, where nothing kills it.
    let began = Instant::now();
    is_migrated(&site, "no kill");
    let whole = began.elapsed();
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut kills, mut amid, mut round) = (0, 0, 0);
    while round < rounds_min || (amid == 0 && round < ROUNDS_MAX) {
        fs::remove_dir_all(&state).unwrap();
        old_state(&state);
        for _ in 0..KILLS_PER_ROUND {
            let mut child = site.command(&["status"]).stdout(Stdio::null()).spawn().unwrap();
            // A random instant is what is wanted: time itself is the event.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(whole.mul_f64(rng.f64()));
            child.kill().unwrap();
            let killed = child.wait().unwrap().signal() == Some(9);
            kills += usize::from(killed);
            // It had begun, and the live store is still the old one.
            let current = fs::read_to_string(state.join("CURRENT")).unwrap();
            let begun = state.join("backups").exists();
            amid += usize::from(killed && begun && current.contains("format 1"));
        }
        is_migrated(&site, &format!("round {round}"));
        round += 1;
    }
    report(&format!("migrations: {kills} kills, {amid} of them amid the migration"));
    assert!(amid > 0, "none of {kills} kills met a migration");
}
