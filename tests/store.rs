//! The store and the queues through their public API: against a plain model, and at their limits.

mod corruption;
mod dead;
pub mod format;
mod full_disk;
mod mark;
mod model;

use std::path::Path;

use patchferry::{
    app,
    queue::Queues,
    record::{Clock, UnixMillis},
    store::{
        Commit, CounterId, Reader, SpaceLimits, StoreError, VALUE_BYTES_MAX,
        keys::{Key, Table},
    },
};

const LIMITS: SpaceLimits = SpaceLimits { live_bytes_max: 1 << 30, free_bytes_min: 0 };
/// A counter that the queues leave alone.
const SPARE: CounterId = CounterId(20);

fn open(state_dir: &Path, clock: Clock) -> Queues {
    app::open_queues(state_dir, LIMITS, clock).expect("the store opens")
}

/// Files that sled would never sync.
fn blobs(state_dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for store in std::fs::read_dir(state_dir).unwrap().flatten() {
        if let Ok(blobs) = std::fs::read_dir(store.path().join("blobs")) {
            found.extend(blobs.flatten().map(|blob| blob.path().display().to_string()));
        }
    }
    found
}

fn key(number: u64) -> Key {
    Key::new(Table::Details).text("test").u64(number)
}

async fn get(queues: &Queues, number: u64) -> Option<Vec<u8>> {
    queues.store().read(move |reader: &Reader<'_>| reader.get(&key(number))).await.unwrap()
}

/// Damages a record of several tables behind the store's back: bytes, indexes and counts no
/// longer agree.
pub async fn damage_records(state_dir: &Path) {
    let queues = open(state_dir, Clock::system());
    let damaged = queues.store().commit(Commit::durable(1), |tx| {
        let lane = "111122223333/us-east-1";
        let details = Key::new(Table::Details).text(lane).text("i-00000000").u64(7).u16(0);
        tx.put(&details, patchferry::store::codec::encode(0, &Vec::<u8>::new()))?;
        let outbox = Key::new(Table::Outbox).text(lane).u8(0).u64(u64::MAX);
        tx.put(&outbox, vec![1; 40])?;
        let desired = Key::new(Table::Desired).text(lane).text("i-00000000");
        tx.put(&desired, vec![1; 40])?;
        // The store's own counter of live bytes.
        tx.add(CounterId(30), 5);
        Ok(())
    });
    damaged.await.unwrap();
    queues.close().await.unwrap();
}

/// Removes a store's identity, as damage would: it is set aside at its next opening.
pub async fn lose_identity(state_dir: &Path) {
    let queues = open(state_dir, Clock::system());
    let removed = queues
        .store()
        .commit(Commit::durable(1), |tx| tx.remove(&Key::new(Table::Meta).text("identity")));
    assert!(removed.await.unwrap());
    queues.close().await.unwrap();
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_and_leaves_no_trace() {
    let state = tempfile::tempdir().unwrap();
    let queues = open(state.path(), Clock::system());
    let store = queues.store();
    let refused = store
        .commit(Commit::durable(1), |tx| {
            tx.add(SPARE, 1);
            tx.put(&key(1), vec![1; 10])?;
            tx.put(&key(2), vec![2; VALUE_BYTES_MAX + 1])
        })
        .await;
    assert!(matches!(refused, Err(StoreError::ValueTooLarge { bytes }) if bytes > VALUE_BYTES_MAX));
    assert_eq!(get(&queues, 1).await, None);
    assert_eq!(store.counters()[usize::from(SPARE.0)], 0);

    let taken = store.commit(Commit::durable(1), |tx| {
        tx.add(SPARE, 1);
        tx.put(&key(3), vec![3; VALUE_BYTES_MAX])
    });
    taken.await.expect("the limit itself is allowed, and the store goes on");
    queues.close().await.unwrap();
    let queues = open(state.path(), Clock::system());
    assert_eq!(get(&queues, 3).await, Some(vec![3; VALUE_BYTES_MAX]));
    assert_eq!(queues.store().counters()[usize::from(SPARE.0)], 1);
    queues.close().await.unwrap();
}

#[tokio::test]
async fn the_longest_values_make_no_blobs() {
    let state = tempfile::tempdir().unwrap();
    let queues = open(state.path(), Clock::system());
    for round in 0..20_u64 {
        let write = queues.store().commit(Commit::durable(40), move |tx| {
            for number in 0..40 {
                // Incompressible, and replaced in every second round.
                let mut bytes = vec![0; VALUE_BYTES_MAX];
                fastrand::Rng::with_seed(round * 40 + number).fill(&mut bytes);
                tx.put(&key(round / 2 * 40 + number), bytes)?;
            }
            Ok(())
        });
        write.await.unwrap();
    }
    assert_eq!(blobs(state.path()), Vec::<String>::new());
    queues.close().await.unwrap();
    let queues = open(state.path(), Clock::system());
    assert_eq!(get(&queues, 399).await.map(|bytes| bytes.len()), Some(VALUE_BYTES_MAX));
    queues.close().await.unwrap();
    assert_eq!(blobs(state.path()), Vec::<String>::new());
}

/// A defect in a commit stops the store by design: what it would have written is nowhere, what
/// stood before is all there after the restart.
#[tokio::test]
async fn a_panic_in_a_commit_stops_the_store_and_leaves_no_trace() {
    let state = tempfile::tempdir().unwrap();
    let queues = open(state.path(), Clock::system());
    let store = queues.store().clone();
    let mut fatal = store.fatal();
    store.commit(Commit::durable(1), |tx| tx.put(&key(1), vec![1])).await.unwrap();
    let panicked = store
        .commit(Commit::durable(1), |tx| {
            tx.add(SPARE, 1);
            tx.put(&key(2), vec![2])?;
            assert_eq!(tx.next_sequence(), 0, "a defect, on purpose");
            Ok(())
        })
        .await;
    assert!(
        matches!(&panicked, Err(error @ StoreError::Engine { detail, .. })
            if error.is_fatal() && detail.contains("a defect, on purpose")),
        "{panicked:?}"
    );
    fatal.wait_for(Option::is_some).await.expect("the daemon is told");
    let after = store.commit(Commit::hand_off(1), |tx| tx.put(&key(3), vec![3])).await;
    assert!(matches!(after, Err(StoreError::Poisoned)), "{after:?}");
    drop(store);
    queues.close().await.expect_err("closing tells of it, too");

    let queues = open(state.path(), Clock::system());
    assert_eq!(get(&queues, 1).await, Some(vec![1]));
    assert_eq!(get(&queues, 2).await, None);
    assert_eq!(get(&queues, 3).await, None);
    assert_eq!(queues.store().counters()[usize::from(SPARE.0)], 0);
    queues.close().await.unwrap();
}

#[tokio::test]
async fn a_sequence_never_repeats_across_reopening() {
    let state = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let queues = open(state.path(), Clock::system());
        for _ in 0..5 {
            // A number given in a commit that fails may come again: nobody has it.
            let failed = queues.store().commit(Commit::hand_off(1), |tx| {
                tx.next_sequence();
                tx.put(&key(0), vec![0; VALUE_BYTES_MAX + 1])
            });
            failed.await.unwrap_err();
            let next = queues.store().commit(Commit::hand_off(1), |tx| Ok(tx.next_sequence()));
            let next = next.await.unwrap();
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        queues.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opening_is_told_who_holds_the_store() {
    let state = tempfile::tempdir().unwrap();
    let queues = open(state.path(), Clock::system());
    let Err(error) = app::open_queues(state.path(), LIMITS, Clock::system()) else {
        panic!("two have it open")
    };
    let expected = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    queues.close().await.unwrap();
}

/// A clock that a test moves.
fn moved_clock() -> (Clock, impl Fn(i64)) {
    let now_ms = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(1_700_000_000_000));
    let shared = std::sync::Arc::clone(&now_ms);
    let order = std::sync::atomic::Ordering::SeqCst;
    let clock = Clock::custom(move || UnixMillis(shared.load(order)));
    (clock, move |by_ms| {
        now_ms.fetch_add(by_ms, order);
    })
}
