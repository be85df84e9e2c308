//! Lines that are handed in with `patchferry ingest`: each is answered, what is told as accepted
//! is on disk, and the hub holds each node's last line.

mod door;
mod faults;
mod volume;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use patchferry::simulator::{FleetConfig, SimulatorConfig};
use serde_json::{Value, json};

use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site},
};

/// A command that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon for one configured lane in which SSM knows next to no node.
async fn site(seed: u64, extra: &str) -> Site {
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, FleetConfig::of(1));
    let config =
        format!("{EAGER}{extra}[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n");
    Site::new(simulator, Some(&config)).await
}

fn node(number: usize) -> String {
    format!("mi-{number:017}")
}

/// A line about a node that lacks so many patches.
fn line(number: usize, missing: usize) -> String {
    json!({
        "Account": ACCOUNT, "Region": REGION, "InstanceId": node(number),
        "PatchGroup": "handed-in", "BaselineId": "pb-0123456789abcdef0", "Operation": "Scan",
        "OperationStartTime": 1_763_900_000.5, "OperationEndTime": "2025-11-23T12:00:00Z",
        "InstalledCount": 30, "MissingCount": missing, "CriticalNonCompliantCount": missing,
        "ResourceType": "ManagedInstance", "ComputerName": "handed-in.example"
    })
    .to_string()
}

fn write(site: &Site, lines: &[String]) -> PathBuf {
    let path = site.path().join("lines.jsonl");
    fs::write(&path, lines.join("\n") + "\n").expect("the file is written");
    path
}

/// Missing patches by node, as the hub holds them.
fn held(site: &Site) -> BTreeMap<String, i64> {
    let lanes = site.control.lanes();
    lanes
        .iter()
        .flat_map(|lane| site.control.hub(lane))
        .filter_map(|finding| {
            let node = finding.resource_id.rsplit('/').next()?.to_string();
            node.starts_with("mi-0000").then_some((node, finding.patch_counts[0]))
        })
        .collect()
}

/// `patchferry ingest` as a child whose output is read line by line.
struct Ingest {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
    complaints: mpsc::Receiver<String>,
}

impl Ingest {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let mut child = site
            .command(&[&["ingest"], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, complaints) = mpsc::channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, complaints }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is positive")
    }

    fn say(&mut self, lines: &[String]) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all((lines.join("\n") + "\n").as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// The next line that it prints; `None` when it has ended.
    fn told(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).expect("UTF-8");
        (read > 0).then(|| line.trim_end().to_string())
    }

    /// The next line that it complains with.
    fn complaint(&self) -> String {
        self.complaints.recv_timeout(PATIENCE).expect("it complains, or has ended")
    }

    /// How it ended, the rest of what it printed, and what it complained about.
    fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        drop(self.stdin.take());
        let rest = std::iter::from_fn(|| self.told()).collect();
        let status = self.child.wait().expect("it is our child");
        (status, rest, self.complaints.iter().collect::<Vec<_>>().join("\n"))
    }
}

/// The number of an accepted line, from `--json` output.
fn accepted(told: &str) -> Option<usize> {
    let told: Value = serde_json::from_str(told).expect("a JSON object per line");
    let number = usize::try_from(told["line"].as_u64().expect("a line's number")).unwrap();
    told["accepted"].as_bool().expect("a verdict").then_some(number)
}
