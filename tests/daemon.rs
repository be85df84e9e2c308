//! The real binary as an operator meets it: starting, asking, stopping, and being refused.

mod damage;
mod fsync;
mod http;
mod migration;
mod operator;
mod reconcile;
mod refusals;
mod secrets;
mod shutdown;
pub mod space;
mod store_commands;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use patchferry::simulator::{Control, FleetConfig, SimulatorConfig};
use serde_json::Value;

use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, queued, text},
};

/// A lane of `nodes` nodes, in the caller's own account.
fn one_lane(seed: u64, nodes: usize) -> SimulatorConfig {
    SimulatorConfig::new(seed).lane(ACCOUNT, REGION, FleetConfig::of(nodes))
}

fn rescan(control: &Control, fraction: f64) {
    for lane in control.lanes() {
        control.rescan(&lane, fraction);
    }
}

/// The hub is what the fleet is, and no rule of AWS was broken.
fn assert_true(site: &Site) {
    assert_eq!(site.control.differences_total(), Vec::<String>::new());
    assert_eq!(site.control.stats_total().violations(), Vec::<String>::new());
}

pub fn exits_with_zero(daemon: Daemon) {
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{status}\n{log}");
    assert!(log.contains("everything is on disk"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_configuration_it_serves_the_callers_own_lane_and_goes_on_after_a_stop() {
    let site = Site::new(one_lane(1, 12), None)
        .await
        .with("PATCHFERRY_HTTP__LISTEN", "127.0.0.1:0")
        .with("PATCHFERRY_LOG__FORMAT", "json");
    let mut daemon = site.start();
    let running = daemon.running();
    assert_eq!(running["lanes"], 1);
    assert_eq!(running["first"], format!("{ACCOUNT}/{REGION}"));
    let swept = |status: &Value| {
        status["lanes"][0]["last_complete_sweep_unix_ms"].is_i64() && queued(status) == 0
    };
    daemon.wait_for_status("the first sweep to be delivered", swept);
    assert_true(&site);
    exits_with_zero(daemon);

    let before = site.control.stats_total();
    assert!(before.accepted > 0);
    rescan(&site.control, 1.0);
    let daemon = site.start();
    daemon.wait_for_status("the second sweep to be delivered", swept);
    assert_true(&site);
    assert_eq!(
        site.control.stats_total().requests.get("GetFindings"),
        before.requests.get("GetFindings"),
        "the ledger is there: nothing is read back again"
    );
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_server_answers_reads_and_nobody_elses_names() {
    let site = Site::new(one_lane(2, 20), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    assert!(daemon.get("/").contains("<html"));
    assert!(daemon.get("/healthz").contains("alive"));
    assert!(daemon.get("/readyz").contains("ready"));
    let status = daemon.status();
    assert_eq!(status["accounting_imbalance"], 0);
    assert!(status["accounting"]["delivered"].as_u64() > Some(0), "{status:#}");
    // Gauges and absolute counters follow within seconds.
    daemon.wait_for_status("the metrics to follow", |_| {
        daemon.metric("patchferry_findings_total{outcome=\"delivered\"}") > 0.0
    });
    assert!(daemon.metric("patchferry_accounting_imbalance").abs() < f64::EPSILON);
    assert!(daemon.metric("patchferry_ingest_paused{reason=\"live_bytes\"}").abs() < f64::EPSILON);

    for path in ["/", "/metrics", "/api/v1/status"] {
        let (code, body) = daemon.get_as(path, Some("evil.example"));
        assert_eq!(code, 421, "{path}: {body}");
        assert!(body.contains("http.allowed_hosts") && !body.contains(ACCOUNT), "{body}");
    }
    assert_eq!(daemon.get_as("/metrics", Some("localhost:1")).0, 200);
    assert_eq!(daemon.get_as("/nothing", None).0, 404);
    exits_with_zero(daemon);
}

/// What a status tells of the store; the rest is known only to a running daemon.
fn durable_part(status: &Value) -> Value {
    let lanes = status["lanes"].as_array().expect("lanes").iter();
    let lanes: Vec<Value> = lanes
        .map(|lane| {
            serde_json::json!([lane["lane"], lane["outbox_findings"], lane["open_findings"]])
        })
        .collect();
    serde_json::json!({
        "version": status["version"],
        "accounting": status["accounting"],
        "imbalance": status["accounting_imbalance"],
        "dead_letters": status["dead_letters"],
        "lanes": lanes,
        "queues": queued(status),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_see_the_same_over_the_socket_and_on_the_store() {
    let site = Site::new(one_lane(3, 40), Some(EAGER)).await;
    let lane = site.control.lanes().remove(0);
    let poisoned: Vec<String> = site
        .control
        .fleet(&lane)
        .into_iter()
        .filter(|node| node.is_non_compliant)
        .map(|node| node.id)
        .take(2)
        .collect();
    site.control.poison(&lane, &poisoned);
    let daemon = site.start();
    daemon.settle();

    let run = |arguments: &[&str]| {
        let output = site.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let letters = || {
        [
            run(&["dead", "list"]),
            run(&["dead", "list", "--json"]),
            run(&["dead", "list", "--reason", "no_verdict"]),
            run(&["dead", "show", &poisoned[0]]),
            run(&["dead", "show", &poisoned[1], "--json"]),
        ]
    };
    let (over_socket, status) = (letters(), site.status());
    assert_eq!(durable_part(&status), durable_part(&daemon.status()));
    let text_status = run(&["status"]);
    assert!(!text_status.contains("is not running"), "{text_status}");
    assert!(text_status.contains("2 dead letters"), "{text_status}");
    exits_with_zero(daemon);

    assert_eq!(letters(), over_socket);
    assert_eq!(durable_part(&site.status()), durable_part(&status));
    let text_status = run(&["status"]);
    assert!(text_status.starts_with("patchferry is not running"), "{text_status}");

    let listed: Value = serde_json::from_str(&over_socket[1]).unwrap();
    let mut nodes: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|letter| letter["node"].as_str()).collect();
    nodes.sort_unstable();
    let mut expected = poisoned.clone();
    expected.sort_unstable();
    assert_eq!(nodes, expected);
    assert!(over_socket[3].contains("rejected_by_hub") && over_socket[3].contains("facts:"));
    let absent = site.run(&["dead", "show", "i-00000000"]);
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent.stderr));
    assert!(text(&absent.stderr).contains("patchferry dead list"));
}

/// Calls `visit` with everything below a directory, itself included.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), visit);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_may_read_the_state_or_talk_to_the_socket() {
    let site = Site::new(one_lane(4, 20), Some(EAGER)).await;
    let daemon = site.start();
    daemon.settle();
    let mut wrong = Vec::new();
    let mut met = 0;
    walk(&site.state_dir(), &mut |path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o7777;
        met += 1;
        if mode != expected {
            wrong.push(format!("{}: {mode:o}", path.display()));
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
    assert!(met > 5 && site.state_dir().join("admin.sock").exists());
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_instance_is_told_who_holds_the_state() {
    let site = Site::new(one_lane(5, 5), Some(EAGER)).await;
    let daemon = site.start();
    let second = site.run(&["run"]);
    assert_eq!(second.status.code(), Some(73), "{}", text(&second.stderr));
    let said = text(&second.stderr);
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    assert!(said.contains("stop it first"), "{said}");
    assert!(!site.status()["lanes"].as_array().unwrap().is_empty(), "the first still answers");
    exits_with_zero(daemon);
}
