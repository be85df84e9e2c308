//! The high-water mark: an older copy of a store opens without a word, and must be told of.

use std::{fs, path::Path};

use patchferry::{
    queue::ReadBack,
    record::{Clock, Lane},
    store::{Commit, RolledBack},
};

use super::{SPARE, open};

fn lane() -> Lane {
    "111122223333/us-east-1".parse().unwrap()
}

/// Makes a store, sets a copy of it aside, goes on, and puts the copy in its place.
async fn rolled_back(state: &Path) {
    let queues = open(state, Clock::system());
    queues.finish_read_back(&lane(), Some(std::collections::HashSet::new())).await.unwrap();
    queues.close().await.unwrap();
    let (store, copy) = (state.join("store-1"), state.join("copy"));
    copy_files(&store, &copy);

    let queues = open(state, Clock::system());
    queues.next_read(&lane()).await.unwrap();
    let added = queues.store().commit(Commit::durable(1), |tx| {
        tx.add(SPARE, 1);
        Ok(())
    });
    added.await.unwrap();
    queues.close().await.unwrap();
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&copy, &store).unwrap();
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        } else {
            copy_files(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

#[tokio::test]
async fn a_store_that_is_older_than_its_mark_is_told_of_and_its_lanes_are_read_back() {
    let state = tempfile::tempdir().unwrap();
    rolled_back(state.path()).await;
    let queues = open(state.path(), Clock::system());
    let Some(RolledBack { commit, marked_commit }) = queues.store().alarms().rolled_back else {
        panic!("nobody noticed")
    };
    assert!(commit < marked_commit);
    assert_eq!(queues.read_back_state(&lane()).await.unwrap(), ReadBack::Pending);
    queues.close().await.unwrap();

    // Once it is on record, the store is what there is.
    let queues = open(state.path(), Clock::system());
    assert_eq!(queues.store().alarms().rolled_back, None);
    assert_eq!(queues.read_back_state(&lane()).await.unwrap(), ReadBack::Pending);
    queues.close().await.unwrap();
}

#[tokio::test]
async fn a_mark_that_is_missing_damaged_older_or_of_another_store_alarms_nobody() {
    for case in ["missing", "cut", "damaged", "older", "of another store"] {
        let state = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let mark = state.path().join("mark");
        let old = {
            let queues = open(state.path(), Clock::system());
            queues.finish_read_back(&lane(), None).await.unwrap();
            queues.close().await.unwrap();
            fs::read(&mark).unwrap()
        };
        let queues = open(state.path(), Clock::system());
        queues.next_read(&lane()).await.unwrap();
        queues.close().await.unwrap();
        let now = fs::read(&mark).unwrap();
        assert_ne!(now, old, "each commit moves it");
        match case {
            "missing" => fs::remove_file(&mark).unwrap(),
            "cut" => fs::write(&mark, &now[..20]).unwrap(),
            "damaged" => {
                let mut damaged = now;
                damaged[27] = 0xff;
                fs::write(&mark, damaged).unwrap();
            }
            "older" => fs::write(&mark, old).unwrap(),
            _ => {
                rolled_back(other.path()).await;
                fs::copy(other.path().join("mark"), &mark).unwrap();
            }
        }
        let queues = open(state.path(), Clock::system());
        assert_eq!(queues.store().alarms().rolled_back, None, "{case}");
        assert!(!queues.store().wants_read_back().unwrap());
        queues.close().await.unwrap();
    }
}
