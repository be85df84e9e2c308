//! `lanes retire`, with the real binary: what waits goes to a file, findings are closed first if
//! asked, and a kill anywhere in between is made good by running the command again.

use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::process::ExitStatusExt as _};

use patchferry::{
    failpoint::{FailPoint, VARIABLE},
    simulator::{Fault, SimLane, SimulatorConfig},
};
use serde_json::Value;

use super::{OTHER_ACCOUNT, findings};
use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, queued, text},
    imports,
};

const NODES: usize = 6;
const NODES_COUNTED: i64 = 6;
const SIGABRT: i32 = 6;

fn own_lane() -> String {
    format!("{EAGER}[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n")
}

fn both_lanes() -> String {
    own_lane()
        + &format!(
            "[[lanes]]\naccount = \"{OTHER_ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
             role_name = \"patchferry\"\n"
        )
}

fn other() -> SimLane {
    SimLane::new(OTHER_ACCOUNT, REGION)
}

/// The other lane was served, and is no longer configured. Nothing runs.
async fn site_with_an_orphan(seed: u64, with_backlog: bool) -> Site {
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, findings(NODES)).lane(
        OTHER_ACCOUNT,
        REGION,
        findings(NODES),
    );
    let site = Site::new(simulator, Some(&both_lanes())).await;
    if with_backlog {
        site.control.set_fault(imports().lane(&other()), Some(Fault::AccessDenied));
    }
    let waiting = if with_backlog { NODES as u64 } else { 0 };
    let daemon = site.start();
    // Both lanes' findings are accepted, and each has gone as far as it can.
    daemon.wait_for_status("all that can be told to be told", |status| {
        let lanes = status["lanes"].as_array().unwrap();
        lanes.len() == 2
            && lanes.iter().all(|lane| lane["last_complete_sweep_unix_ms"].is_i64())
            && queued(status) == waiting
            && status["accounting"]["accepted"].as_u64() >= Some(2 * NODES as u64)
    });
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    site.configure(&own_lane());
    site.control.clear_faults();
    site
}

fn role_arn() -> String {
    format!("arn:aws:iam::{OTHER_ACCOUNT}:role/patchferry")
}

fn retire_arguments(more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["lanes".to_string(), "retire".into(), other().to_string()];
    arguments.extend(more.iter().map(ToString::to_string));
    arguments
}

fn run(site: &Site, arguments: &[String]) -> (i32, String, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = site.run(&arguments);
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn retired(site: &Site, more: &[&str]) -> Value {
    let (code, out, err) = run(site, &retire_arguments(&[&["--yes", "--json"], more].concat()));
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).expect("--json prints JSON")
}

fn lanes(site: &Site) -> Vec<Value> {
    let output = site.run(&["lanes", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

fn open_in_hub(site: &Site) -> usize {
    let hub = site.control.hub(&other());
    hub.iter().filter(|finding| finding.record_state == "ACTIVE").count()
}

/// Lines of all files that retiring has left.
fn exported(site: &Site) -> Vec<Value> {
    let directory = site.state_dir().join("retired");
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let file = fs::read_to_string(path).unwrap();
        lines.extend(file.lines().map(|line| serde_json::from_str(line).unwrap()));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_is_archived_over_its_normal_way_and_forgotten_while_the_daemon_runs() {
    let site = site_with_an_orphan(421, false).await;
    let daemon = site.start();
    daemon.wait_for_status("the lane that is left to be swept", |status| {
        let lanes = status["lanes"].as_array().unwrap();
        queued(status) == 0 && lanes.iter().any(|it| it["last_complete_sweep_unix_ms"].is_i64())
    });
    assert_eq!(open_in_hub(&site), NODES);
    let orphan = lanes(&site).into_iter().find(|lane| lane["lane"] == other().to_string()).unwrap();
    assert_eq!(orphan["state"], "orphaned");
    assert!(orphan["advice"].as_str().unwrap().contains("patchferry lanes retire"));
    let series = format!(
        "patchferry_lane_open_findings{{account=\"{OTHER_ACCOUNT}\",region=\"{REGION}\",severity=\"LOW\"}}"
    );
    assert!(daemon.get("/metrics").contains(&series));

    let (code, out, err) = run(&site, &retire_arguments(&["--archive"]));
    assert!(code == 1 && err.contains("add --yes"), "{code} {out} {err}");
    assert_eq!(open_in_hub(&site), NODES);

    // Without a role these are the credentials of another account: nothing is changed.
    let (code, out, err) = run(&site, &retire_arguments(&["--archive", "--yes"]));
    assert!(code == 1 && err.contains("nothing was changed"), "{code} {out} {err}");
    assert!(err.contains("credentials belong to account"), "{err}");

    let answer =
        retired(&site, &["--archive", "--role-arn", &role_arn(), "--external-id", "s3cr3t"]);
    assert_eq!(answer["closed_findings"], NODES);
    assert_eq!((&answer["open_findings"], &answer["dropped_items"]), (&0.into(), &0.into()));
    let hub = site.control.hub(&other());
    assert_eq!((hub.len(), open_in_hub(&site)), (NODES, 0));
    assert!(hub.iter().all(|finding| finding.compliance_status == "NOT_AVAILABLE"), "{hub:?}");
    assert_eq!(lanes(&site).len(), 1);
    daemon.wait_for_status("it to be gone", |status| {
        status["lanes"].as_array().unwrap().len() == 1
            && status["attention"].as_array().unwrap().is_empty()
    });
    assert!(!fs::read_to_string(site.state_dir().join("audit.log")).unwrap().contains("s3cr3t"));

    let (code, _, err) = run(&site, &retire_arguments(&["--yes"]));
    assert!(code == 1 && err.contains("retired already"), "{err}");
    let (code, _, err) =
        run(&site, &["lanes", "retire", &format!("{ACCOUNT}/{REGION}"), "--yes"].map(String::from));
    assert!(code == 1 && err.contains("take it out of [[lanes]]"), "{err}");
    assert!(daemon.terminate().0.success());
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_an_orphan_is_written_to_a_private_file_before_it_is_dropped() {
    let site = site_with_an_orphan(422, true).await;
    let answer = retired(&site, &[]);
    assert_eq!(answer["dropped_items"], NODES);
    assert_eq!(answer["closed_findings"], 0);
    let lines = exported(&site);
    assert_eq!(lines.len(), NODES);
    for line in &lines {
        assert_eq!(
            (&line["queue"], &line["lane"]),
            (&"outbox".into(), &other().to_string().into())
        );
        assert!(line["item"]["finding"]["node"].as_str().unwrap().starts_with("i-"), "{line}");
        assert!(!line["patches"].as_array().unwrap().is_empty(), "{line}");
    }
    let accounting = site.assert_store_true().await;
    assert_eq!(accounting.dropped, NODES_COUNTED);

    // Configured again, it is read back from its hub and begins anew.
    site.configure(&both_lanes());
    let daemon = site.start();
    daemon.settle();
    assert!(daemon.terminate().0.success());
    site.assert_hub_true();
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_a_lane_that_is_archived_as_it_was_or_the_closes_waiting() {
    let site = site_with_an_orphan(423, false).await;
    site.control.set_fault(imports().lane(&other()), Some(Fault::AccessDenied));
    let arguments = ["--archive", "--yes", "--role-arn", &role_arn()];
    let (code, _, err) = run(&site, &retire_arguments(&arguments));
    assert!(code == 1 && err.contains("run the command again"), "{err}");
    assert_eq!((open_in_hub(&site), lanes(&site).len()), (NODES, 2));
    site.control.clear_faults();
    let answer = retired(&site, &["--archive", "--role-arn", &role_arn()]);
    assert_eq!(answer["dropped_items"], 0, "{answer}");
    assert_eq!((open_in_hub(&site), lanes(&site).len()), (0, 1));
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_anywhere_in_retiring_is_made_good_by_running_it_again() {
    for (number, point, archive) in [
        (0, FailPoint::RetireFileWritten, false),
        (1, FailPoint::RetireClosing, true),
        (2, FailPoint::RetireExported, true),
        (3, FailPoint::RetireForgotten, true),
    ] {
        let site = site_with_an_orphan(424 + number, !archive).await;
        let arn = role_arn();
        let more: &[&str] = if archive { &["--archive", "--role-arn", &arn] } else { &[] };
        let arguments = retire_arguments(&[&["--yes"], more].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let killed = site.command(&arguments).env(VARIABLE, point.name()).output().unwrap();
        assert_eq!(killed.status.signal(), Some(SIGABRT), "{point:?}: {}", text(&killed.stderr));
        if point != FailPoint::RetireForgotten {
            retired(&site, more);
        }
        assert_eq!(lanes(&site).len(), 1, "{point:?}");
        let accounting = site.assert_store_true().await;
        if archive {
            assert_eq!(open_in_hub(&site), 0, "{point:?}");
        } else {
            assert_eq!(accounting.dropped, NODES_COUNTED);
            assert!(exported(&site).len() >= NODES);
        }
    }
}
