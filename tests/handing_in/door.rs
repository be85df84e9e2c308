//! What is told of each line, with a daemon and without one.

use serde_json::{Value, json};

use super::{held, line, node, site, write};
use crate::{
    daemon::exits_with_zero,
    harness::child::{Site, queued, text},
};

/// Lines of every kind, and which of them are fit.
fn mixed() -> (Vec<String>, Vec<u64>) {
    let lines = vec![
        line(1, 3),
        String::new(),
        "{not json".into(),
        line(2, 1),
        line(3, 1).replace("us-east-1", "eu-west-1"),
        line(4, 1).replace("MissingCount", "MissingCuont"),
        line(5, 1).replace("\"MissingCount\":1", "\"MissingCount\":-1"),
        line(1, 7),
    ];
    (lines, vec![1, 4, 8])
}

fn assert_told(site: &Site, fit: &[u64], file: &str) {
    let output = site.run(&["ingest", "--json", file]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(65), "{out}{err}");
    let told: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(told[0], json!({"line": 1, "accepted": true}));
    let accepted = |told: &&Value| told["accepted"] == true;
    let numbers: Vec<u64> =
        told.iter().filter(accepted).filter_map(|told| told["line"].as_u64()).collect();
    assert_eq!(numbers, fit);
    for (line, reason) in [
        (3, "it is not one JSON object"),
        (5, "lane 111122223333/eu-west-1 is not served here"),
        (6, "MissingCuont: there is no such field; did you mean MissingCount?"),
        (7, "MissingCount: -1 is not a count"),
    ] {
        let told = told.iter().find(|told| told["line"] == line).expect("it is answered");
        assert!(told["reason"].as_str().is_some_and(|said| said.contains(reason)), "{told}");
    }
    assert_eq!(told.len(), 7, "a blank line says nothing");

    let output = site.run(&["ingest", file]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(65), "{out}{err}");
    assert_eq!(out, "3 accepted (on disk), 4 refused, 1 blank\n");
    assert_eq!(err.lines().count(), 4, "{err}");
    assert!(err.starts_with("line 3: refused: it is not one JSON object"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_answers_every_line_and_the_hub_gets_each_nodes_last() {
    let site = site(51, "").await;
    let (lines, fit) = mixed();
    let file = write(&site, &lines);
    let daemon = site.start();
    assert_told(&site, &fit, file.to_str().unwrap());
    daemon.settle();
    assert_eq!(held(&site), [(node(1), 7), (node(2), 1)].into());
    let series = |outcome| {
        daemon.metric(&format!(
            "patchferry_observations_total{{source=\"file\",outcome=\"{outcome}\"}}"
        ))
    };
    assert!((series("accepted") - 6.0).abs() < 0.1 && (series("refused") - 8.0).abs() < 0.1);
    assert_eq!(daemon.status()["accounting_imbalance"], 0);

    let output = site.run(&["ingest", "-v", "--from-line", "8", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "line 8: accepted\n1 accepted (on disk), 0 refused\n",
        "from the line on that was asked for"
    );
    let audit = std::fs::read_to_string(site.state_dir().join("audit.log"));
    let audit = audit.expect("there is an audit log");
    assert!(audit.contains("begin_ingest") && audit.contains("end_ingest"), "{audit}");
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_the_lines_wait_in_the_store_for_the_next_start() {
    let site = site(52, "").await;
    exits_with_zero(site.start());
    let (lines, fit) = mixed();
    let file = write(&site, &lines);
    assert_told(&site, &fit, file.to_str().unwrap());
    let status = site.status();
    assert_eq!(queued(&status), 6, "{status:#}");
    assert_eq!(status["accounting_imbalance"], 0);
    let daemon = site.start();
    daemon.settle();
    assert_eq!(held(&site), [(node(1), 7), (node(2), 1)].into());
    exits_with_zero(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_and_makes_no_sense_becomes_a_dead_letter() {
    let site = site(53, "").await;
    let file = write(&site, &[line(1, 1), line(2, 1).replace("\"Scan\"", "\"Banana\"")]);
    let daemon = site.start();
    let output = site.run(&["ingest", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    daemon.settle();
    let letters = text(&site.run(&["dead", "list"]).stdout);
    assert!(letters.contains(&node(2)) && letters.contains("unknown_operation"), "{letters}");
    assert_eq!(held(&site), [(node(1), 1)].into());
    assert_eq!(daemon.status()["accounting_imbalance"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_not_there_exits_64_and_an_empty_one_0() {
    let site = site(54, "").await;
    let output = site.run(&["ingest", "/nowhere.jsonl"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("can't read /nowhere.jsonl"));
    let _daemon = site.start();
    let output = site.run(&["ingest", "-"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "0 accepted (on disk), 0 refused\n");
}
