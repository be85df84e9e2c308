//! Old formats: a store that was written by the code of its time is opened by today's, and
//! nothing of it is lost or changed. See `README.txt` in `tests/fixtures/store-v1` and `store-v2`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use patchferry::{
    migrations,
    queue::{Accepted, Acked, Desired, Episode, LaneRow, Pause, Queues, Seen, Waiting},
    record::{Assessment, Clock, DeadLetter, PatchDetail, UnixMillis},
    store::{
        self, Backup, FORMAT_VERSION, FormatVersion, OpenOptions, Vacant, codec,
        keys::{Key, Table},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{blobs, open};

/// A state directory that the code of an old format has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fixture {
    V1,
    V2,
}

impl Fixture {
    fn path(self) -> PathBuf {
        let name = match self {
            Self::V1 => "store-v1",
            Self::V2 => "store-v2",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn format(self) -> FormatVersion {
        match self {
            Self::V1 => FormatVersion(1),
            Self::V2 => FormatVersion(2),
        }
    }

    /// Puts a copy where it can be opened.
    fn copy_to(self, to: &Path) {
        copy(&self.path().join("state"), to);
    }

    fn expected(self) -> Value {
        let document = fs::read_to_string(self.path().join("expected.json")).unwrap();
        serde_json::from_str(&document).unwrap()
    }
}

/// A copy of the oldest fixture's state directory, to be opened.
pub fn old_state(to: &Path) {
    Fixture::V1.copy_to(to);
}

/// What is in the oldest fixture.
pub fn expected() -> Value {
    Fixture::V1.expected()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// By table and key: tag and body.
type Dump = BTreeMap<(String, String), (u64, Value)>;

/// What the old store's own code read in it, in today's form.
fn expected_dump(fixture: Fixture) -> Dump {
    let document = fixture.expected();
    let mut dump = Dump::new();
    for (table, rows) in document["tables"].as_object().unwrap() {
        for row in rows.as_array().unwrap() {
            let key = row["key"].as_str().unwrap();
            let (tag, mut body) = (row["tag"].as_u64().unwrap(), row["body"].clone());
            let mut place = (table.clone(), key.to_string());
            match table.as_str() {
                "Meta" => continue,
                _ if fixture == Fixture::V2 => {}
                "Outbox" | "Delayed" => body["failures"] = json!([]),
                "Acked" => body["receipt"]["failures"] = json!([]),
                "Lane" => body["parked"] = json!(0),
                // `Parked`, lane, sequence -> `Assessed`, sequence, lane.
                "Parked" => {
                    let (lane, sequence) = key[2..].split_at(key.len() - 2 - 16);
                    place = ("Assessed".into(), format!("11{sequence}{lane}"));
                }
                _ => {}
            }
            assert!(dump.insert(place, (tag, body)).is_none());
        }
    }
    dump
}

async fn dump(queues: &Queues) -> Dump {
    let read = queues.store().read(|reader| {
        let mut dump = Dump::new();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Meta) {
            let prefix = Key::new(table);
            reader.visit(&prefix, &prefix, |key, value| {
                let row = (codec::tag(value).unwrap(), body(table, value));
                dump.insert((format!("{table:?}"), hex(key)), row);
                true
            })?;
        }
        Ok(dump)
    });
    read.await.unwrap()
}

fn hex(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn body(table: Table, value: &[u8]) -> Value {
    match table {
        Table::Observed => decoded::<Vec<Accepted>>(value),
        Table::Assessed => decoded::<Vec<Assessment>>(value),
        Table::Outbox | Table::Delayed => decoded::<Waiting>(value),
        Table::DelayedIndex => decoded::<UnixMillis>(value),
        Table::Seen => decoded::<Seen>(value),
        Table::Desired => decoded::<Desired>(value),
        Table::Acked => decoded::<Acked>(value),
        Table::Details => {
            let (_, patches) = codec::decode::<Vec<PatchDetail>>(value).unwrap();
            let crc = crc32fast::hash(&value[codec::HEADER_BYTES..]);
            json!({ "patches": patches.len(), "first": patches.first(), "body_crc32": crc })
        }
        Table::Dead => decoded::<DeadLetter>(value),
        Table::Lane => decoded::<LaneRow>(value),
        Table::Parked => decoded::<Assessment>(value),
        Table::DeadHistory => decoded::<Vec<Episode>>(value),
        Table::Pause => decoded::<Pause>(value),
        Table::Meta | Table::Absent | Table::Reopening | Table::LaneCare | Table::Tenure => {
            panic!("no fixture has anything in {table:?} once it is migrated")
        }
    }
}

fn decoded<T: Serialize + DeserializeOwned>(value: &[u8]) -> Value {
    serde_json::to_value(codec::decode::<T>(value).unwrap().1).unwrap()
}

/// The accounting is what it was, but for what format 1 had parked: it is assessed again.
fn expected_accounting(fixture: Fixture) -> Value {
    let mut expected = fixture.expected()["accounting"].clone();
    let queued = &mut expected["queued"];
    let parked = queued["parked"].as_i64().unwrap();
    assert!(parked > 0);
    if fixture == Fixture::V1 {
        queued["assessed"] = json!(queued["assessed"].as_i64().unwrap() + parked);
        queued["parked"] = json!(0);
    }
    expected
}

async fn assert_intact(fixture: Fixture, queues: &Queues) {
    let accounting = queues.accounting();
    let recount = queues.recount().await.unwrap();
    assert_eq!(accounting.imbalance(), 0);
    assert_eq!((recount.queued, recount.dead), (accounting.queued, accounting.dead));
    assert_eq!(serde_json::to_value(accounting).unwrap(), expected_accounting(fixture));

    let (found, expected) = (dump(queues).await, expected_dump(fixture));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (place, row) in expected {
        assert_eq!(found[&place], row, "{place:?}");
    }
    let read = queues.store().read(|reader| {
        let mut bytes = 0;
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Meta) {
            let prefix = Key::new(table);
            reader.visit(&prefix, &prefix, |key, value| {
                bytes += (key.len() + value.len()) as u64;
                true
            })?;
        }
        Ok(bytes)
    });
    let live_bytes = read.await.unwrap();
    // The gate reads the counter with the next group.
    queues.store().commit(store::Commit::durable(0), |_| Ok(())).await.unwrap();
    assert_eq!(queues.store().space().live_bytes, live_bytes);
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.retain(|name| !["reserve", "lock"].contains(&name.as_str()));
    names
}

#[tokio::test]
async fn a_store_of_format_1_is_migrated_and_nothing_of_it_is_lost() {
    is_migrated_whole(Fixture::V1).await;
}

#[tokio::test]
async fn a_store_of_format_2_is_migrated_and_nothing_of_it_is_lost() {
    is_migrated_whole(Fixture::V2).await;
}

async fn is_migrated_whole(fixture: Fixture) {
    let state = tempfile::tempdir().unwrap();
    fixture.copy_to(state.path());
    let queues = open(state.path(), Clock::system());
    assert_intact(fixture, &queues).await;
    assert!(!queues.store().wants_read_back().unwrap());
    queues.close().await.unwrap();
    assert_eq!(names(state.path()), ["CURRENT", "backups", "mark", "store-2"]);
    assert_eq!(blobs(state.path()), Vec::<String>::new());

    // It opens as a current store from now on.
    let queues = open(state.path(), Clock::system());
    assert_intact(fixture, &queues).await;
    queues.close().await.unwrap();
    assert_eq!(names(&state.path().join("backups")).len(), 1, "one migration, one backup");
}

#[tokio::test]
async fn the_backup_before_a_migration_is_the_old_store_and_can_be_restored() {
    for fixture in [Fixture::V1, Fixture::V2] {
        backup_can_be_restored(fixture).await;
    }
}

async fn backup_can_be_restored(fixture: Fixture) {
    let state = tempfile::tempdir().unwrap();
    fixture.copy_to(state.path());
    let options = OpenOptions { state_dir: state.path().to_path_buf() };
    let opened = store::open(&options).unwrap();
    let plan = migrations::plan(&opened).unwrap().expect("there is something to do");
    assert_eq!((plan.from, plan.to), (fixture.format(), FORMAT_VERSION));
    let (_, migrated) = migrations::migrate(opened).unwrap();
    let backup = migrated.expect("it was migrated").backup;

    let backup = Backup::check(&backup.path).unwrap();
    assert_eq!(backup.header().format, fixture.format());
    assert_eq!(backup.contents().entries, plan.entries);
    let elsewhere = tempfile::tempdir().unwrap();
    let vacant = Vacant::lock(elsewhere.path()).unwrap();
    let restored = migrations::restore(vacant, &backup).unwrap();
    assert_eq!(restored.replaced, None);
    let queues = open(elsewhere.path(), Clock::system());
    let accounting = queues.accounting();
    let queued = fixture.expected()["accounting"]["queued"].clone();
    let queued: i64 = queued.as_object().unwrap().values().filter_map(Value::as_i64).sum();
    assert_eq!(accounting.queued.total(), queued);
    assert_eq!(accounting.imbalance(), 0);
    for lane in queues.lanes() {
        let state = queues.read_back_state(&lane).await.unwrap();
        assert_eq!(state, patchferry::queue::ReadBack::Pending, "{lane}");
    }
    queues.close().await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_before_its_files_are_touched() {
    let state = tempfile::tempdir().unwrap();
    old_state(state.path());
    let current = state.path().join("CURRENT");
    let text = format!("store-1\nformat {}\n", FORMAT_VERSION.0 + 1);
    let crc = crc32fast::hash(text.as_bytes());
    fs::write(&current, format!("{text}crc {crc:08x}\n")).unwrap();
    let before = fs::read(state.path().join("store-1/db")).unwrap();
    let options = OpenOptions { state_dir: state.path().to_path_buf() };
    let Err(error) = store::open(&options) else { panic!("it was opened") };
    assert!(error.to_string().contains("install the newer patchferry"), "{error}");
    assert_eq!(fs::read(state.path().join("store-1/db")).unwrap(), before);
    assert_eq!(names(state.path()), ["CURRENT", "store-1"]);
}
