//! A disk that fills up under a store that writes behind.

use std::{fs, io::Write as _, time::Duration};

use patchferry::{
    record::Clock,
    store::{Commit, StoreError},
};

use super::{get, key, open};
use crate::{daemon::space::Tmpfs, harness::child::skipped};

/// Longer than a probe's interval and the engine's own together, several times.
const PATIENCE: Duration = Duration::from_secs(60);

fn value(round: u64) -> Vec<u8> {
    let mut bytes = vec![0; 30_000];
    fastrand::Rng::with_seed(round).fill(&mut bytes);
    bytes
}

/// The engine meets the full disk in the background, after the commits were answered: nobody
/// commits any more, and still the store must be known to have failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_noticed_even_if_nobody_commits_any_more() {
    let state = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(state.path(), "48m", false) else {
        return skipped("no small file system can be mounted here, so no disk gets full");
    };
    let queues = open(state.path(), Clock::system());
    let store = queues.store().clone();
    store.commit(Commit::durable(1), |tx| tx.put(&key(1), value(1))).await.unwrap();
    let ballast = state.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let mut block = vec![7_u8; 1 << 20];
    while !block.is_empty() {
        if file.write_all(&block).is_err() {
            block.truncate(block.len() / 2);
        }
    }
    drop(file);
    let mut fatal = store.fatal();
    // Not flushed by anybody. It may fail at once, too.
    let written = store.commit(Commit::hand_off(1), |tx| {
        for number in 2..200 {
            tx.put(&key(number), value(number))?;
        }
        Ok(())
    });
    let _ = written.await;
    let noticed = tokio::time::timeout(PATIENCE, fatal.wait_for(Option::is_some));
    let error = noticed.await.expect("a probe notices").unwrap().clone();
    assert!(matches!(error, Some(StoreError::Io { .. })), "{error:?}");
    drop(store);
    queues.close().await.expect_err("closing tells of it, too");

    fs::remove_file(&ballast).unwrap();
    let queues = open(state.path(), Clock::system());
    assert_eq!(get(&queues, 1).await, Some(value(1)), "what was on disk is there");
    queues.close().await.unwrap();
    drop(disk);
}
