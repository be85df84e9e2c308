//! `patchferry ingest` as a child that is handed line after line, and what it says was accepted.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{ACCOUNT, REGION, child::Site};

/// No node of a simulated fleet is called so.
pub const NODE_PREFIX: &str = "mi-00000000";
const LINES_MAX: usize = 10_000;
/// Some 500 lines a second: many rounds have to fit on the disk.
const LINES_PER_PAUSE: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// A running `ingest`.
pub struct Feeder {
    child: Child,
    round: usize,
    answered: Arc<Mutex<Vec<usize>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Feeder {
    pub fn start(site: &Site, round: usize) -> Self {
        let mut child = site
            .command(&["ingest", "-", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&answered);
        let writer = std::thread::spawn(move || {
            for number in 0..LINES_MAX {
                if writeln!(input, "{}", line(round, number)).is_err() {
                    return;
                }
                if number % LINES_PER_PAUSE == 0 {
                    // Lines come at a pace, so that a cut always meets some.
                    #[allow(clippy::disallowed_methods)]
                    std::thread::sleep(PAUSE);
                }
            }
        });
        let reader = std::thread::spawn(move || {
            for told in output.lines().map_while(Result::ok) {
                let Ok(told) = serde_json::from_str::<Value>(&told) else { continue };
                assert_ne!(told["accepted"], false, "{told}");
                if let (Some(line), Some(true)) =
                    (told["line"].as_u64(), told["accepted"].as_bool())
                {
                    heard.lock().unwrap().push(usize::try_from(line).unwrap() - 1);
                }
            }
        });
        Self { child, round, answered, threads: vec![writer, reader] }
    }

    /// Missing patches by node, of the lines that have been answered by now.
    pub fn answered(&self) -> BTreeMap<String, i64> {
        let numbers = self.answered.lock().unwrap();
        numbers.iter().map(|number| (node(self.round, *number), missing(*number))).collect()
    }

    pub fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for thread in self.threads.drain(..) {
            thread.join().expect("no line is refused");
        }
    }
}

fn node(round: usize, number: usize) -> String {
    format!("{NODE_PREFIX}{round:03}{number:06}")
}

fn missing(number: usize) -> i64 {
    i64::try_from(number % 40).unwrap() + 1
}

fn line(round: usize, number: usize) -> String {
    json!({
        "Account": ACCOUNT, "Region": REGION, "InstanceId": node(round, number),
        "PatchGroup": "handed-in", "BaselineId": "pb-0123456789abcdef0", "Operation": "Scan",
        "OperationStartTime": "2025-11-23T11:00:00Z", "OperationEndTime": "2025-11-23T12:00:00Z",
        "InstalledCount": 30, "MissingCount": missing(number), "ResourceType": "ManagedInstance",
    })
    .to_string()
}

/// Missing patches by node, of those that were handed in, as the hub holds them.
pub fn held(site: &Site) -> BTreeMap<String, i64> {
    let lanes = site.control.lanes();
    lanes
        .iter()
        .flat_map(|lane| site.control.hub(lane))
        .filter_map(|finding| {
            let node = finding.resource_id.rsplit('/').next()?.to_string();
            node.starts_with(NODE_PREFIX).then_some((node, finding.patch_counts[0]))
        })
        .collect()
}
