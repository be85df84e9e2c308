//! A store whose files were damaged, at random, in every file and in every way that disks, people
//! and backup tools have: it opens with everything in it, or what is gone is told. It never
//! panics, never refuses to begin, and is never silent.
//!
//! `PATCHFERRY_CORRUPTIONS=2000` tries more than the few of the default, `PATCHFERRY_SEED` others.

use std::{
    collections::BTreeMap,
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use patchferry::{
    queue::Queues,
    record::Clock,
    store::{
        Commit, Reader,
        keys::{Key, Table},
    },
};

use super::{LIMITS, format::old_state, get, key, open};
use patchferry::app;

const CASES: u64 = 60;

/// All entries but the store's own: key and checksum of the value.
type Contents = BTreeMap<Vec<u8>, u32>;

async fn contents(queues: &Queues) -> Contents {
    let read = queues.store().read(|reader: &Reader<'_>| {
        let mut contents = Contents::new();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Meta) {
            let prefix = Key::new(table);
            reader.visit(&prefix, &prefix, |key, value| {
                contents.insert(key.to_vec(), crc32fast::hash(value));
                true
            })?;
        }
        Ok(contents)
    });
    read.await.unwrap()
}

/// A store with something in every table, of several of the engine's segments.
async fn whole(state: &Path) -> Contents {
    old_state(state);
    let queues = open(state, Clock::system());
    for round in 0..30_u64 {
        let write = queues.store().commit(Commit::durable(40), move |tx| {
            for number in 0..40 {
                let mut bytes = vec![0; 12_000];
                fastrand::Rng::with_seed(round * 40 + number).fill(&mut bytes);
                tx.put(&key(round / 3 * 40 + number), bytes)?;
            }
            Ok(())
        });
        write.await.unwrap();
    }
    assert!(get(&queues, 399).await.is_some());
    let contents = contents(&queues).await;
    queues.close().await.unwrap();
    contents
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "reserve" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Files of a state directory, the database several times: most is in it.
fn targets(state: &Path) -> Vec<PathBuf> {
    let store = state.join("store-2");
    let mut found: Vec<PathBuf> = vec![store.join("db"); 12];
    for directory in [state, &store, &state.join("backups")] {
        let entries = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.is_file()));
    }
    found
}

/// Does something to one file; what.
fn damage(rng: &mut fastrand::Rng, state: &Path) -> String {
    let mut targets = targets(state);
    targets.sort();
    let path = targets[rng.usize(..targets.len())].clone();
    let name = path.strip_prefix(state).unwrap().display().to_string();
    let length = fs::metadata(&path).unwrap().len();
    let file = || fs::OpenOptions::new().write(true).open(&path).unwrap();
    let write_at = |at: u64, bytes: &[u8]| {
        let mut file = file();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    };
    let at = rng.u64(..length.max(1));
    let some = usize::try_from((length - at).min(rng.u64(1..65_536))).unwrap();
    match rng.u8(..8) {
        0 => {
            file().set_len(at).unwrap();
            format!("{name} cut to {at} of {length}")
        }
        1 => {
            file().set_len(0).unwrap();
            format!("{name} cut to nothing")
        }
        2 => {
            write_at(at, &vec![0; some]);
            format!("{name}: {some} zeros at {at} of {length}")
        }
        3 | 4 => {
            let byte = fs::read(&path).unwrap().get(usize::try_from(at).unwrap()).copied();
            let bit = rng.u8(..8);
            write_at(at, &[byte.unwrap_or(0) ^ (1 << bit)]);
            format!("{name}: bit {bit} at {at} of {length} flipped")
        }
        5 => {
            let mut noise = vec![0; some];
            rng.fill(&mut noise);
            write_at(at, &noise);
            format!("{name}: {some} random bytes at {at} of {length}")
        }
        6 => {
            fs::remove_file(&path).unwrap();
            format!("{name} removed")
        }
        _ => {
            let store = state.join("store-2");
            for leftover in [
                store.join("snap.0000000000000000.generating"),
                store.join("unfinished"),
                state.join("CURRENT.new"),
                state.join("backups/some.pfb.1.partial"),
            ] {
                fs::write(leftover, b"half of someth").unwrap();
            }
            fs::create_dir(state.join("store-9")).unwrap();
            fs::write(state.join("store-9/unfinished"), b"").unwrap();
            "leftovers of everything".into()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Intact,
    Quarantined,
    RolledBack,
}

/// Opens a damaged store; an error says what was wrong with that.
async fn opened(state: &Path, whole: &Contents) -> Result<Outcome, String> {
    let at = state.to_path_buf();
    let opening =
        move || catch_unwind(AssertUnwindSafe(|| app::open_queues(&at, LIMITS, Clock::system())));
    let queues = tokio::task::spawn_blocking(opening).await.unwrap();
    let queues = match queues {
        Ok(Ok(queues)) => queues,
        Ok(Err(error)) => return Err(format!("it can't be opened: {error}")),
        Err(_) => return Err("it panicked".into()),
    };
    let found = contents(&queues).await;
    let alarms = queues.store().alarms().clone();
    let (accounting, recount) = (queues.accounting(), queues.recount().await.unwrap());
    // It works, and what it takes is there when it is opened again.
    let written = queues.store().commit(Commit::durable(1), |tx| tx.put(&key(u64::MAX), vec![7]));
    written.await.map_err(|error| format!("it takes nothing: {error}"))?;
    queues.close().await.map_err(|error| format!("it doesn't close: {error}"))?;
    let again = open(state, Clock::system());
    if get(&again, u64::MAX).await != Some(vec![7]) {
        return Err("what it took is gone".into());
    }
    again.close().await.unwrap();

    let outcome = match (alarms.quarantined, alarms.rolled_back) {
        (Some(_), _) => Outcome::Quarantined,
        (None, Some(_)) => Outcome::RolledBack,
        (None, None) => Outcome::Intact,
    };
    if outcome == Outcome::Intact && found != *whole {
        let gone = whole.iter().filter(|(key, crc)| found.get(*key) != Some(crc)).count();
        return Err(format!("{gone} of {} entries are gone, SILENTLY", whole.len()));
    }
    if accounting.imbalance() != 0 || accounting.queued != recount.queued {
        return Err(format!("the accounting is off: {accounting:?} {recount:?}"));
    }
    Ok(outcome)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_its_files_a_store_opens_whole_or_says_what_is_gone() {
    let cases = from_environment("PATCHFERRY_CORRUPTIONS").unwrap_or(CASES);
    let seed = from_environment("PATCHFERRY_SEED").unwrap_or(1);
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let whole = whole(&original).await;
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in 0..cases {
        let state = directory.path().join("damaged");
        copy(&original, &state);
        let mut rng = fastrand::Rng::with_seed(seed << 32 | case);
        let what = damage(&mut rng, &state);
        match opened(&state, &whole).await {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(why) => wrong.push(format!("case {case}, {what}: {why}")),
        }
        fs::remove_dir_all(&state).unwrap();
    }
    // On the terminal itself: what a passing test prints is swallowed otherwise.
    let _ = writeln!(
        std::io::stderr(),
        "{} of {cases} corruptions survived (seed {seed}): {outcomes:?}",
        cases - wrong.len() as u64
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(outcomes.len(), 3, "every way out was taken: {outcomes:?}");
}

/// What isn't corruption leaves everything as it is.
#[tokio::test]
async fn a_store_that_may_not_be_read_is_never_set_aside() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        return crate::harness::child::skipped("root may read everything");
    }
    let state = tempfile::tempdir().unwrap();
    whole(state.path()).await;
    let store = state.path().join("store-2");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o000)).unwrap();
    let Err(error) = app::open_queues(state.path(), LIMITS, Clock::system()) else {
        panic!("it was opened")
    };
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(error.to_string().contains("run patchferry as"), "{error}");
    assert!(!state.path().join("quarantine-2").exists());
}
