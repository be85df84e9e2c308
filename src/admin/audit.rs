//! The audit log: who had what changed, when, and what came of it.
//!
//! `<state_dir>/audit.log`, 0600: a line of JSON when a command is begun, and another, with the
//! same number, when it has ended:
//!
//! ```json
//! {"at":"2026-11-24T02:30:00Z","number":7,"uid":0,"pid":4711,"command":"pause","arguments":{"what":"delivery"},"outcome":"begun"}
//! {"at":"2026-11-24T02:30:00.012Z","number":7,"uid":0,"pid":4711,"command":"pause","arguments":{"what":"delivery"},"outcome":"done","answer":{}}
//! ```
//!
//! Guarantees: a line is on disk (fsynced) when [`Audit::append`] returns; a line that a crash cut
//! short stays as it is and the next one begins on a line of its own; the log is at most
//! [`FILE_BYTES_MAX`] long, and so is the one before it, `audit.log.1`, which the next one replaces.
//!
//! There is one writer: whoever writes holds the store's lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use serde_json::Value;

use super::command::Caller;
use crate::record::UnixMillis;

const FILE_NAME: &str = "audit.log";
/// Bytes after which a new log is begun.
pub const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Bytes of arguments, and of an answer, that a line keeps.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Who asked for what.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub caller: Caller,
    pub command: &'static str,
    pub arguments: Value,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Begun,
    Done(Value),
    Refused(String),
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    /// The same for the two lines of one command.
    number: u64,
    uid: u32,
    pid: Option<i32>,
    command: &'a str,
    arguments: Value,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Notes what was done to a store while nobody served it, once it has ended; an error is its
/// reason. For commands that put another store in its place, and so can't go through a handler.
pub async fn note(
    state_dir: &Path,
    at: UnixMillis,
    command: &'static str,
    arguments: Value,
    ended: Result<Value, String>,
) -> io::Result<()> {
    let entry = Entry { caller: Caller::this_process(), command, arguments };
    let outcome = match ended {
        Ok(answer) => Outcome::Done(answer),
        Err(reason) => Outcome::Refused(reason),
    };
    Audit::new(state_dir).append(at, &entry, None, &outcome).await.map(drop)
}

/// See the module.
pub(super) struct Audit {
    path: PathBuf,
    numbers: AtomicU64,
    file: Arc<Mutex<Option<File>>>,
}

impl Audit {
    /// The log in `state_dir`; opened with the first line.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE_NAME), numbers: AtomicU64::new(0), file: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, under `number` or, if it is the first of a command, under a new one.
    pub async fn append(
        &self,
        at: UnixMillis,
        entry: &Entry,
        number: Option<u64>,
        outcome: &Outcome,
    ) -> io::Result<u64> {
        let number = number.unwrap_or_else(|| self.next_number(at));
        let line = line(at, entry, number, outcome)?;
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let written = write(&path, &mut file, &line);
            if written.is_err() {
                // Opened anew, and looked at, before the next line.
                *file = None;
            }
            written
        });
        written.await.map_err(io::Error::other)??;
        Ok(number)
    }

    /// Numbers begin with the time, so that those of two processes don't meet.
    fn next_number(&self, at: UnixMillis) -> u64 {
        let floor = at.0.unsigned_abs();
        let next = |last: u64| Some(floor.max(last + 1));
        let last = self.numbers.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        floor.max(last.unwrap_or_else(|last| last) + 1)
    }
}

fn line(at: UnixMillis, entry: &Entry, number: u64, outcome: &Outcome) -> io::Result<Vec<u8>> {
    let (name, answer, reason) = match outcome {
        Outcome::Begun => ("begun", None, None),
        Outcome::Done(answer) => ("done", Some(bounded(answer)), None),
        Outcome::Refused(reason) => ("refused", None, Some(reason.as_str())),
    };
    let mut line = serde_json::to_vec(&Line {
        at: at.to_rfc3339(),
        number,
        uid: entry.caller.uid,
        pid: entry.caller.pid,
        command: entry.command,
        arguments: bounded(&entry.arguments),
        outcome: name,
        answer,
        reason,
    })?;
    line.push(b'\n');
    Ok(line)
}

/// The value, or how long it is if that is too long.
fn bounded(value: &Value) -> Value {
    let bytes = value.to_string().len();
    if bytes <= VALUE_BYTES_MAX {
        return value.clone();
    }
    serde_json::json!({ "left_out_bytes": bytes })
}

fn write(path: &Path, slot: &mut Option<File>, line: &[u8]) -> io::Result<()> {
    let mut file = match slot.take() {
        Some(file) => file,
        None => open(path)?,
    };
    let bytes = file.metadata()?.len();
    if bytes > 0 && bytes + line.len() as u64 > FILE_BYTES_MAX {
        fs::rename(path, path.with_extension("log.1"))?;
        file = open(path)?;
    }
    file.write_all(line)?;
    file.sync_data()?;
    *slot = Some(file);
    Ok(())
}

/// Opens the log at its end, on a line of its own.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        // A new name must survive a power cut, too.
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        return Ok(file);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(bytes - 1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn entry(arguments: Value) -> Entry {
        Entry { caller: Caller { uid: 7, pid: Some(8) }, command: "pause", arguments }
    }

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_string).collect()
    }

    #[tokio::test]
    async fn a_command_leaves_two_lines_with_one_number_in_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::new(directory.path());
        let entry = entry(serde_json::json!({"what": "all"}));
        let number = audit.append(UnixMillis(5), &entry, None, &Outcome::Begun).await.unwrap();
        let done = Outcome::Done(serde_json::json!({"n": 1}));
        assert_eq!(audit.append(UnixMillis(6), &entry, Some(number), &done).await.unwrap(), number);
        let other = audit.append(UnixMillis(6), &entry, None, &Outcome::Begun).await.unwrap();
        assert!(other > number);

        let lines: Vec<Value> =
            lines(audit.path()).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["outcome"], "begun");
        assert_eq!(lines[1]["outcome"], "done");
        assert_eq!(lines[1]["answer"]["n"], 1);
        assert_eq!(lines[0]["number"], lines[1]["number"]);
        assert_eq!((&lines[0]["uid"], &lines[0]["pid"]), (&7.into(), &8.into()));
        assert_eq!(lines[0]["at"], "1970-01-01T00:00:00.005Z");
        let mode = fs::metadata(audit.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_short_swallows_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "{\"at\":\"20").unwrap();
        let audit = Audit::new(directory.path());
        audit.append(UnixMillis(5), &entry(Value::Null), None, &Outcome::Begun).await.unwrap();
        let lines = lines(&path);
        assert_eq!(lines[0], "{\"at\":\"20");
        assert!(serde_json::from_str::<Value>(&lines[1]).is_ok());
    }

    #[tokio::test]
    async fn a_full_log_is_set_aside_and_a_long_argument_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "\n".repeat(usize::try_from(FILE_BYTES_MAX).unwrap())).unwrap();
        let audit = Audit::new(directory.path());
        let long = Value::String("x".repeat(VALUE_BYTES_MAX));
        audit.append(UnixMillis(5), &entry(long), None, &Outcome::Begun).await.unwrap();
        let kept = lines(&path);
        assert_eq!(kept.len(), 1);
        assert!(kept[0].contains("left_out_bytes") && kept[0].len() < 400, "{}", kept[0]);
        let before = fs::metadata(directory.path().join("audit.log.1")).unwrap();
        assert_eq!(before.len(), FILE_BYTES_MAX);
    }
}
