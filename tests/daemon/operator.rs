//! What an operator changes, with the real binary: over the socket, and without a daemon.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
};

use patchferry::simulator::{Control, FleetConfig, SeverityCounts, SimulatorConfig};
use serde_json::Value;

use super::{assert_true, exits_with_zero, rescan};
use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, queued, text},
};

const NODES: usize = 20;

/// A lane in which every node has a finding.
async fn site(seed: u64) -> Site {
    let fleet = FleetConfig {
        nodes: NODES,
        hybrid_share: 0.0,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    Site::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet), Some(EAGER)).await
}

fn poison(control: &Control, nodes: &[String]) {
    let lane = control.lanes().remove(0);
    control.poison(&lane, nodes.to_vec());
}

fn first_nodes(site: &Site, count: usize) -> Vec<String> {
    let lane = site.control.lanes().remove(0);
    site.control.fleet(&lane).into_iter().take(count).map(|node| node.id).collect()
}

/// Runs a command that must succeed; what it printed.
fn says(site: &Site, arguments: &[&str]) -> String {
    let output = site.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&says(site, arguments)).expect("--json prints JSON")
}

/// Runs a command that must end with `code`; what it said.
fn fails(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

fn dead_nodes(site: &Site) -> BTreeSet<String> {
    let letters = json(site, &["dead", "list", "--json"]);
    let nodes = letters.as_array().unwrap().iter();
    nodes.filter_map(|letter| letter["node"].as_str()).map(str::to_string).collect()
}

fn audit(site: &Site) -> Vec<Value> {
    let path = site.state_dir().join("audit.log");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let log = fs::read_to_string(path).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_survive_a_kill_and_are_exported_redriven_and_dropped() {
    let site = site(31).await;
    let victims = first_nodes(&site, 3);
    poison(&site.control, &victims);
    let daemon = site.start();
    daemon.settle();
    daemon.kill();
    let daemon = site.start();
    assert_eq!(dead_nodes(&site), victims.iter().cloned().collect());

    let exported = site.path().join("letters.jsonl");
    let exported = exported.to_str().unwrap();
    says(&site, &["dead", "export", "--output", exported]);
    assert_eq!(fs::metadata(exported).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = fs::read_to_string(exported).unwrap();
    assert_eq!(lines, says(&site, &["dead", "export"]));
    for line in lines.lines() {
        let letter: patchferry::queue::CompleteLetter = serde_json::from_str(line).unwrap();
        assert!(!letter.patches.is_empty(), "the patches that make it non-compliant: {line}");
    }
    assert_eq!(lines.lines().count(), 3);
    assert!(fails(&site, &["dead", "export", "-o", exported], 1).contains("can't write"));

    // Nothing happens by asking.
    let told = fails(&site, &["dead", "redrive"], 1);
    assert!(told.contains("3 dead letters can be redriven") && told.contains("--yes"), "{told}");
    let cost = json(&site, &["dead", "redrive", "--dry-run", "--json"]);
    assert_eq!((&cost["findings"], &cost["hub_requests_max"]), (&3.into(), &1.into()));
    assert!(fails(&site, &["dead", "drop"], 1).contains("nothing was changed"));
    assert_eq!(dead_nodes(&site).len(), 3);
    assert!(!site.state_dir().join("audit.log").exists());

    // One that dies again keeps its story.
    says(&site, &["dead", "redrive", "--node", &victims[0], "--yes"]);
    daemon.settle();
    let shown = says(&site, &["dead", "show", &victims[0]]);
    let uid = rustix::process::geteuid().as_raw();
    assert!(shown.contains("earlier letters of this node that were redriven"), "{shown}");
    assert!(shown.contains(&format!("by uid {uid}")), "{shown}");

    // What is dropped is in a file.
    let dropped = json(&site, &["dead", "drop", "--node", &victims[2], "--yes", "--json"]);
    assert_eq!((&dropped["letters"], &dropped["items"]), (&1.into(), &1.into()));
    let file = dropped["file"].as_str().unwrap();
    assert!(file.starts_with(site.state_dir().join("dropped").to_str().unwrap()), "{file}");
    let kept = fs::read_to_string(file).unwrap();
    assert!(kept.contains(&victims[2]) && kept.lines().count() == 1, "{kept}");
    assert_eq!(daemon.status()["accounting"]["dropped"], 1);

    // Healed, the others are delivered.
    poison(&site.control, &[]);
    let redriven = json(&site, &["dead", "redrive", "--yes", "--json"]);
    assert_eq!((&redriven["letters"], &redriven["outbox_items"]), (&2.into(), &2.into()));
    daemon.settle();
    assert_eq!(dead_nodes(&site), BTreeSet::new());
    let lane = site.control.lanes().remove(0);
    let severities = SeverityCounts { critical: 2, ..SeverityCounts::default() };
    site.control.make_non_compliant(&lane, &victims[2], 7, severities).unwrap();
    let status = daemon.settle();
    assert_true(&site);
    assert_eq!(
        (&status["accounting"]["dead"], &status["accounting_imbalance"]),
        (&0.into(), &0.into())
    );
    daemon.wait_for_status("the metric to follow", |_| {
        let metric = "patchferry_dead_letters{stage=\"deliver\",reason=\"rejected_by_hub\"}";
        daemon.metric(metric).abs() < f64::EPSILON
    });

    let log = audit(&site);
    let told: Vec<(&str, &str)> = log
        .iter()
        .map(|line| (line["command"].as_str().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    let twice = |command| [(command, "begun"), (command, "done")];
    let changes = [twice("dead_redrive"), twice("dead_drop"), twice("dead_redrive")];
    assert_eq!(told, changes.concat());
    assert!(log.iter().all(|line| line["uid"] == uid && line["pid"].is_i64()), "{log:?}");
    assert_eq!(log[0]["arguments"]["filter"]["node"], victims[0].as_str());
    assert_eq!(log[5]["answer"]["letters"], 2);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_the_same_commands_work_on_the_store_itself() {
    let site = site(32).await;
    let victims = first_nodes(&site, 2);
    poison(&site.control, &victims);
    let daemon = site.start();
    daemon.settle();
    exits_with_zero(daemon);
    poison(&site.control, &[]);

    assert_eq!(says(&site, &["dead", "export"]).lines().count(), 2);
    // A change that can't be logged isn't made.
    fs::create_dir(site.state_dir().join("audit.log")).unwrap();
    let told = fails(&site, &["dead", "redrive", "--yes"], 1);
    assert!(told.contains("audit log") && told.contains("nothing was changed"), "{told}");
    assert_eq!(dead_nodes(&site).len(), 2);
    fs::remove_dir(site.state_dir().join("audit.log")).unwrap();

    says(&site, &["dead", "drop", "--node", &victims[1], "--yes"]);
    says(&site, &["dead", "redrive", "--yes"]);
    says(&site, &["pause", "ingest", "--reason", "a look at the fleet"]);
    let lane = format!("{ACCOUNT}/{REGION}");
    let status = site.status();
    assert_eq!((&status["accounting"]["dropped"], queued(&status)), (&1.into(), 1));
    assert_eq!(status["pauses"][0]["reason"], "a look at the fleet");
    let receipt = json(&site, &["receipt", &first_nodes(&site, 3)[2], "--json"]);
    assert_eq!(receipt["lanes"][0]["lane"], lane.as_str());
    let told = fails(&site, &["receipt", &victims[0]], 1);
    assert!(told.contains("there is no receipt") && told.contains("waiting      since"), "{told}");
    let log = audit(&site);
    assert_eq!(log.len(), 6);
    assert_ne!(log[0]["pid"], log[2]["pid"], "each command was a process of its own");

    let daemon = site.start();
    daemon.wait_for_status("what was redriven to be delivered", |status| queued(status) == 0);
    says(&site, &["receipt", &victims[0]]);
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_stays_so_over_a_kill_and_sends_nothing_until_it_is_resumed() {
    let site = site(33).await;
    let daemon = site.start();
    daemon.settle();
    says(&site, &["pause", "delivery", "--reason", "change freeze"]);
    let lane_state = |status: &Value| status["lanes"][0]["state"].as_str().map(str::to_string);
    let is_paused = |status: &Value| lane_state(status).as_deref() == Some("paused");
    daemon.wait_for_status("the lane to be paused", is_paused);
    let before = site.control.stats_total();
    rescan(&site.control, 1.0);
    let waits = |status: &Value| is_paused(status) && queued(status) > 0;
    daemon.wait_for_status("findings that wait", waits);
    daemon.kill();

    let daemon = site.start();
    let status = daemon.wait_for_status("the pause to be in force", waits);
    let note = status["lanes"][0]["note"].as_str().unwrap();
    assert!(note.contains("change freeze"), "{note}");
    assert!(status["attention"][0].as_str().unwrap().contains("change freeze"), "{status:#}");
    let state = format!(
        "patchferry_lane_state{{account=\"{ACCOUNT}\",region=\"{REGION}\",state=\"paused\"}}"
    );
    assert!(daemon.metric(&state) > 0.0);
    assert_eq!(daemon.get_as("/readyz", None).0, 200, "a pause is no failure");

    // And nothing is taken in either.
    says(&site, &["pause", "ingest"]);
    assert!(says(&site, &["pause", "ingest"]).contains("was paused already"));
    daemon.kill();
    let reads = |site: &Site| {
        site.control.stats_total().requests.get("DescribeInstanceInformation").copied()
    };
    let swept = reads(&site);
    let daemon = site.start();
    daemon.wait_for_status("the pauses to be in force", |status| {
        waits(status) && status["ingest_paused"] == serde_json::json!(["operator"])
    });
    daemon.wait_for_status("the metric to follow", |_| {
        daemon.metric("patchferry_ingest_paused{reason=\"operator\"}") > 0.0
    });
    assert_eq!(reads(&site), swept, "no sweep has begun");
    let after = site.control.stats_total();
    assert_eq!(after.import_requests, before.import_requests, "nothing was sent");

    let told = says(&site, &["resume", "--lane", &format!("{ACCOUNT}/{REGION}")]);
    assert!(told.contains("nothing was changed") && told.contains("in force: delivery"), "{told}");
    let told = fails(&site, &["pause", "--lane", "111122223333/us-west-1"], 64);
    assert!(told.contains(&format!("there are {ACCOUNT}/{REGION}")), "{told}");
    assert_eq!(json(&site, &["resume", "--json"])["pauses"], serde_json::json!([]));
    daemon.settle();
    assert_true(&site);
    let log = audit(&site);
    assert!(log.iter().any(|line| line["outcome"] == "refused" && line["command"] == "pause"));
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_tells_when_and_how_the_hub_was_told() {
    let site = site(34).await;
    let node = first_nodes(&site, 1).remove(0);
    let daemon = site.start();
    daemon.settle();
    let receipt = json(&site, &["receipt", &node, "--json"]);
    assert_eq!(receipt["schema"], "patchferry.receipt/1");
    assert_eq!(receipt["patchferry_version"], env!("CARGO_PKG_VERSION"));
    let lane = &receipt["lanes"][0];
    let id = format!("patchferry/aws/{REGION}/{ACCOUNT}/{node}/patch-compliance");
    assert_eq!(lane["finding_id"], id.as_str());
    let product = format!("arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default");
    assert_eq!(lane["product_arn"], product.as_str());
    let delivered = &lane["delivered"];
    assert_eq!(
        (&delivered["record_state"], &delivered["is_newest"]),
        (&"ACTIVE".into(), &true.into())
    );
    for time in ["accepted", "first_sent", "acknowledged", "updated_at"] {
        let time = delivered[time].as_str().unwrap();
        assert!(patchferry::record::UnixMillis::parse_rfc3339(time).is_ok(), "{time}");
    }
    assert!(delivered["aws_request_id"].as_str().is_some_and(|id| !id.is_empty()), "{delivered:#}");
    assert_eq!((&lane["waiting"], &lane["dead_letters"]), (&Value::Null, &serde_json::json!([])));

    let told = says(&site, &["receipt", &node, "--lane", &format!("{ACCOUNT}/{REGION}")]);
    for part in [node.as_str(), &id, "AWS request", "desired      what was delivered"] {
        assert!(told.contains(part), "{part} is missing from\n{told}");
    }
    let unknown = fails(&site, &["receipt", "i-0123456789abcdef0"], 1);
    assert!(unknown.contains("nothing is known of i-0123456789abcdef0"), "{unknown}");
    exits_with_zero(daemon);
}

/// What the socket answers to some bytes.
fn answer(site: &Site, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(site.state_dir().join("admin.sock")).unwrap();
    stream.write_all(request).unwrap();
    stream.write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_by_the_socket_and_changes_nothing() {
    let site = site(35).await;
    let daemon = site.start();
    let long = format!(
        "{{\"command\":\"pause\",\"arguments\":{{\"reason\":\"{}\"}}}}",
        "x".repeat(70_000)
    );
    for (request, told) in [
        ("{not json", "makes no sense"),
        (r#"{"command":"format","arguments":{}}"#, "knows no command"),
        // A filter that isn't understood must not become one that admits everything.
        (r#"{"command":"dead_drop","arguments":{"filter":{"nodes":["i-1"]}}}"#, "nodes"),
        (r#"{"command":"dead_page","arguments":{"filter":{},"from":"41"}}"#, "no cursor"),
        (r#"{"command":"dead_page","arguments":{"filter":{},"from":"\u00e9\u00e9"}}"#, "no cursor"),
        (
            r#"{"command":"dead_drop","arguments":{"filter":{},"keep_in":"here.jsonl"}}"#,
            "absolute path",
        ),
        (long.as_str(), "over the limit"),
    ] {
        let line = answer(&site, request.as_bytes());
        let answer: Value = serde_json::from_str(&line).unwrap();
        let text =
            answer["refused"]["text"].as_str().unwrap_or_else(|| panic!("{request}: {line}"));
        assert!(text.contains(told), "{text}");
        assert_eq!(answer["refused"]["kind"], "usage", "{line}");
    }
    let state = fs::read_to_string(site.state_dir().join("audit.log")).unwrap();
    assert_eq!(state.lines().count(), 2, "only what made sense was begun: {state}");
    daemon.settle();
    assert_true(&site);
    exits_with_zero(daemon);
}
