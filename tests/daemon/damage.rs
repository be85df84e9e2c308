//! A store that a disk, a person or a backup tool has damaged: set aside loudly or opened, never
//! a crash; and the hub comes together again, since SSM is read anew and the hub is read back.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
};

use patchferry::failpoint::{FailPoint, VARIABLE};

use super::{assert_true, exits_with_zero, one_lane, rescan};
use crate::harness::child::{EAGER, Site, text};

/// Runs a daemon, damages its store while it is down and its fleet changes, runs it again.
async fn survives(seed: u64, damage: impl Fn(&Path)) {
    let site = Site::new(one_lane(seed, 60), Some(EAGER)).await;
    let daemon = site.start();
    let before = daemon.settle();
    exits_with_zero(daemon);
    damage(&site.state_dir().join("store-1"));
    rescan(&site.control, 0.5);

    let daemon = site.start();
    let accepted_at_start = daemon.status()["accounting"]["accepted"].as_u64();
    let log = daemon.log();
    let is_set_aside = log.contains("\"ERROR\"") && log.contains("was set aside");
    let is_rolled_back = log.contains("\"ERROR\"") && log.contains("possible loss");
    let is_kept = accepted_at_start >= before["accounting"]["accepted"].as_u64();
    assert!(
        is_set_aside || is_rolled_back || is_kept,
        "what was there is gone, and nobody is told:\n{log}"
    );
    let alarm = |name: &str| daemon.metric(&format!("patchferry_store_alarm{{alarm=\"{name}\"}}"));
    daemon.wait_for_status("the metric to say so", |_| {
        (alarm("rolled_back") > 0.0) == is_rolled_back
    });
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
    assert_eq!(site.status()["accounting_imbalance"], 0);
    let live = fs::read_to_string(site.state_dir().join("CURRENT")).unwrap();
    if is_set_aside {
        assert!(live.starts_with("store-2\n"), "a name is never used again: {live}");
        let number = usize::from(site.state_dir().join("quarantine-1").exists());
        let was_missing = !site.state_dir().join("store-1").exists();
        assert!(number == 1 || was_missing, "the damaged store is kept");
    }
}

fn database(store: &Path) -> fs::File {
    OpenOptions::new().write(true).open(store.join("db")).expect("the store has a file `db`")
}

fn snapshots(store: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(store).unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_cut_to_nothing_is_survived() {
    survives(1, |store| {
        database(store).set_len(0).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_cut_to_nothing_without_its_snapshot_is_survived() {
    survives(2, |store| {
        database(store).set_len(0).unwrap();
        for snapshot in snapshots(store) {
            fs::remove_file(snapshot).unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_cut_in_the_middle_is_survived() {
    survives(3, |store| {
        let file = database(store);
        let length = file.metadata().unwrap().len();
        file.set_len(length / 3 + 17).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_full_of_zeros_is_survived() {
    survives(4, |store| {
        let file = database(store);
        let length = file.metadata().unwrap().len();
        file.set_len(0).unwrap();
        file.set_len(length).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_overwritten_with_noise_is_survived() {
    survives(5, |store| {
        let mut file = database(store);
        let length = file.metadata().unwrap().len();
        let mut noise = vec![0; 64 * 1024];
        let mut rng = fastrand::Rng::with_seed(5);
        for part in 0..8 {
            rng.fill(&mut noise);
            file.seek(SeekFrom::Start(length / 8 * part)).unwrap();
            file.write_all(&noise).unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_directory_is_gone_is_survived() {
    survives(6, |store| fs::remove_dir_all(store).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_amid_a_snapshot_is_survived_without_a_loss() {
    survives(7, |store| {
        fs::write(store.join("snap.0000000000000000.generating"), b"half a snapsh").unwrap();
    })
    .await;
}

/// Whatever a kill interrupts while a corrupt store is replaced, the next start goes on from there:
/// what was set aside is kept, once, and there is one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_corrupt_store_is_replaced_loses_nothing_of_it() {
    let site = Site::new(one_lane(8, 30), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    exits_with_zero(daemon);
    for (number, point) in (1..).zip([
        FailPoint::QuarantineRenamed,
        FailPoint::StoreCreated,
        FailPoint::FormatRecordWritten,
        FailPoint::CurrentWritten,
    ]) {
        let live = fs::read_to_string(site.state_dir().join("CURRENT")).unwrap();
        let live = live.lines().next().unwrap().to_string();
        database(&site.state_dir().join(&live)).set_len(0).unwrap();
        let killed = site.command(&["status"]).env(VARIABLE, point.name()).output().unwrap();
        let said = text(&killed.stderr);
        assert_eq!(killed.status.signal(), Some(6), "{point:?} wasn't reached: {said}");

        assert_eq!(site.status()["accounting_imbalance"], 0, "{point:?}");
        let names: Vec<String> = fs::read_dir(site.state_dir())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        let quarantine = live.replace("store-", "quarantine-");
        assert!(names.contains(&quarantine), "{point:?}: {quarantine} isn't in {names:?}");
        let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
        assert_eq!((count("store-"), count("quarantine-")), (1, number), "{point:?}: {names:?}");
    }
    let daemon = site.start();
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}
