//! `sweep --once` and `run --dry-run`, as cron and an operator meet them: the real binary, once
//! through, with an exit code that says what is left.

use std::fs;

use nix::sys::signal::Signal;
use patchferry::simulator::{
    Control, Fault, FleetConfig, Scope, Service, SimLane, SimulatorConfig,
};
use serde_json::Value;

use crate::harness::{
    ACCOUNT, REGION,
    child::{Daemon, EAGER, Site, text},
    imports,
};

const OTHER_REGION: &str = "eu-west-1";

fn two_lanes(seed: u64) -> SimulatorConfig {
    SimulatorConfig::new(seed).lane(ACCOUNT, REGION, FleetConfig::of(30)).lane(
        ACCOUNT,
        OTHER_REGION,
        FleetConfig::of(20),
    )
}

fn config() -> String {
    format!(
        "{EAGER}[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\", \"{OTHER_REGION}\"]\n"
    )
}

async fn site(seed: u64) -> Site {
    Site::new(two_lanes(seed), Some(&config())).await
}

/// Runs to the end: the exit code, and what was printed as JSON.
fn run_json(site: &Site, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = site.run(arguments);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr))
    });
    (output.status.code(), json)
}

fn lane(region: &str) -> SimLane {
    SimLane::new(ACCOUNT, region)
}

fn imported(control: &Control) -> u64 {
    control.stats_total().requests.get("BatchImportFindings").copied().unwrap_or(0)
}

/// The lane of this Region in a summary.
fn of_region<'a>(round: &'a Value, region: &str) -> &'a Value {
    let lanes = round["lanes"].as_array().unwrap();
    lanes.iter().find(|it| it["lane"] == format!("{ACCOUNT}/{region}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_sweeps_every_lane_delivers_everything_and_the_next_goes_on_from_it() {
    let site = site(701).await;
    let (code, first) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!(code, Some(0), "{first:#}");
    assert_eq!((&first["complete"], &first["ended"]), (&true.into(), &"settled".into()));
    for (region, nodes) in [(REGION, 30), (OTHER_REGION, 20)] {
        let lane = of_region(&first, region);
        assert_eq!((&lane["nodes"], &lane["waiting"]), (&nodes.into(), &0.into()), "{lane:#}");
        assert!(lane["delivered"].as_u64() > Some(0), "{lane:#}");
    }
    site.assert_hub_true();
    site.assert_store_true().await;

    let before = imported(&site.control);
    let (code, second) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!((code, &second["delivered"]), (Some(0), &0.into()), "{second:#}");
    assert_eq!(imported(&site.control), before, "nothing has changed: nothing is sent");

    site.control.rescan(&lane(REGION), 1.0);
    let output = site.run(&["sweep", "--once"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("complete: every lane was swept, everything was acknowledged"), "{said}");
    site.assert_hub_true();
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_told_kept_and_delivered_by_the_next_round() {
    let site = site(702).await;
    site.control.set_fault(imports().lane(&lane(OTHER_REGION)), Some(Fault::AccessDenied));
    let (code, round) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!((code, &round["complete"]), (Some(2), &false.into()), "{round:#}");
    assert_eq!(of_region(&round, REGION)["waiting"], 0);
    let held = of_region(&round, OTHER_REGION);
    assert!(held["waiting"].as_i64() > Some(0) && held["state"] == "held", "{held:#}");
    assert!(held["note"].as_str().unwrap().contains("not authorized"), "{held:#}");
    assert!(site.assert_accounted().await.queued.total() > 0);

    site.control.clear_faults();
    let (code, round) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!(code, Some(0), "{round:#}");
    site.assert_hub_true();
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_waited_for_until_the_time_is_up() {
    let site = site(703).await;
    site.control.set_fault(imports(), Some(Fault::Outage));
    let (code, round) = run_json(&site, &["sweep", "--once", "--json", "--timeout", "2s"]);
    assert_eq!((code, &round["ended"]), (Some(2), &"timed_out".into()), "{round:#}");
    assert_eq!(round["delivered"], 0);

    let mut command = site.command(&["sweep", "--once", "--json"]);
    command.stdout(std::process::Stdio::null());
    let round = Daemon::spawn(command);
    assert!(round.wait_for_text("the hub is unavailable"), "{}", round.log());
    site.control.clear_faults();
    let (status, log) = round.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    site.assert_hub_true();
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_can_t_be_read_is_told_and_the_others_are_done() {
    let site = site(704).await;
    let ssm = Scope::of(Service::Ssm).lane(&lane(OTHER_REGION));
    site.control.set_fault(ssm, Some(Fault::AccessDenied));
    let (code, round) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!(code, Some(2), "{round:#}");
    let (read, unread) = (of_region(&round, REGION), of_region(&round, OTHER_REGION));
    assert!(read["swept"] == true && unread["swept"] == false, "{round:#}");
    assert!(unread["note"].as_str().is_some(), "{unread:#}");
    assert!(!site.control.hub(&lane(REGION)).is_empty());
    site.assert_store_true().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_lanes_that_are_named_are_swept() {
    let site = site(705).await;
    let named = format!("{ACCOUNT}/{OTHER_REGION}");
    let (code, round) = run_json(&site, &["sweep", "--once", "--json", "--lane", &named]);
    assert_eq!((code, round["lanes"].as_array().unwrap().len()), (Some(0), 1), "{round:#}");
    assert!(site.control.hub(&lane(REGION)).is_empty());
    let output = site.run(&["sweep", "--once", "--lane", "999999999999/us-east-1"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("is not served here (served: "), "{output:?}");
    assert_eq!(site.run(&["sweep"]).status.code(), Some(64), "what else it could mean isn't clear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_daemon_it_refuses_with_advice() {
    let site = site(706).await;
    let daemon = site.start();
    daemon.settle();
    let output = site.run(&["sweep", "--once"]);
    assert_eq!(output.status.code(), Some(73));
    let said = text(&output.stderr);
    assert!(said.contains("is in use by") && said.contains("a daemon sweeps by itself"), "{said}");
    daemon.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_it_with_everything_on_disk() {
    let site = site(707).await;
    site.control.set_fault(imports(), Some(Fault::Outage));
    let round = Daemon::spawn(site.command(&["sweep", "--once"]));
    assert!(round.wait_for_text("the hub is unavailable"), "{}", round.log());
    round.signal(Signal::SIGTERM);
    let (status, log) = round.wait();
    assert_eq!(status.code(), Some(2), "{log}");
    site.control.clear_faults();
    let (code, round) = run_json(&site, &["sweep", "--once", "--json"]);
    assert_eq!(code, Some(0), "{round:#}");
    site.assert_hub_true();
    site.assert_store_true().await;
}

/// Findings of a dry run of which this is to be done.
fn to_do<'a>(dry: &'a Value, deed: &str) -> Vec<&'a Value> {
    dry["findings"].as_array().unwrap().iter().filter(|it| it["do"] == deed).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_opens_nothing_and_says_what_it_would() {
    let site = site(711).await;
    let (code, dry) = run_json(&site, &["run", "--dry-run", "--json"]);
    assert_eq!((code, &dry["complete"]), (Some(0), &true.into()), "{dry:#}");
    let non_compliant = [REGION, OTHER_REGION]
        .iter()
        .flat_map(|region| site.control.fleet(&lane(region)))
        .filter(|node| node.is_non_compliant)
        .count();
    assert_eq!(to_do(&dry, "open").len(), non_compliant);
    assert_eq!(dry["counts"]["open"], non_compliant);
    assert_eq!(imported(&site.control), 0);
    assert!(!site.state_dir().exists(), "the state directory isn't touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_field_by_field_what_a_daemon_then_does() {
    let site = site(712).await;
    assert_eq!(site.run(&["sweep", "--once"]).status.code(), Some(0));
    let before = imported(&site.control);
    let same = run_json(&site, &["run", "--dry-run", "--json"]).1;
    assert_eq!(same["counts"]["update"], 0, "{same:#}");
    assert!(same["counts"]["same"].as_u64() > Some(0), "{same:#}");

    site.control.rescan(&lane(REGION), 1.0);
    let store = fingerprint(&site);
    let (code, dry) = run_json(&site, &["run", "--dry-run", "--json"]);
    assert_eq!(code, Some(0), "{dry:#}");
    assert_eq!(imported(&site.control), before, "nothing is sent");
    assert_eq!(fingerprint(&site), store, "nothing in the state directory is touched");
    let said = text(&site.run(&["run", "--dry-run"]).stdout);
    assert!(said.starts_with("dry run: nothing is sent"), "{said}");

    // What a daemon tells the hubs is what was foreseen.
    let told = |control: &Control| control.stats_total().accepted;
    let accepted = told(&site.control);
    assert_eq!(site.run(&["sweep", "--once"]).status.code(), Some(0));
    let foreseen: usize =
        ["open", "update", "resolve", "reopen"].iter().map(|deed| to_do(&dry, deed).len()).sum();
    assert_eq!(told(&site.control) - accepted, foreseen as u64, "{dry:#}");
    for update in to_do(&dry, "update") {
        let differences = update["differences"].as_array().unwrap();
        assert!(differences.iter().any(|it| it["hub"] != it["ours"]), "{update:#}");
        assert!(!differences.iter().any(|it| it["field"] == "Title"), "{update:#}");
    }
    for resolve in to_do(&dry, "resolve") {
        let mut differences = resolve["differences"].as_array().unwrap().iter();
        let state = differences.find(|it| it["field"] == "RecordState").unwrap();
        assert_eq!((&state["hub"], &state["ours"]), (&"ACTIVE".into(), &"ARCHIVED".into()));
    }
    site.assert_hub_true();
}

/// Names, sizes and times of everything in the state directory.
fn fingerprint(site: &Site) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![site.state_dir()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            let path = entry.path();
            found.push(format!("{} {} {:?}", path.display(), metadata.len(), metadata.modified()));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_that_may_not_read_the_hub_says_so() {
    let site = site(713).await;
    let reads = Scope::of(Service::SecurityHub).operation("GetFindings");
    site.control.set_fault(reads, Some(Fault::AccessDenied));
    let (code, dry) = run_json(&site, &["run", "--dry-run", "--json"]);
    assert_eq!((code, &dry["complete"]), (Some(2), &false.into()), "{dry:#}");
    assert!(to_do(&dry, "open").iter().all(|it| it["compared"] == false));
    let said = text(&site.run(&["run", "--dry-run"]).stdout);
    assert!(said.contains("grant securityhub:GetFindings"), "{said}");
    assert_eq!(imported(&site.control), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_goes_on_beside_a_daemon_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let site = site(714).await.with("TMPDIR", temporary.path().to_str().unwrap());
    let daemon = site.start();
    daemon.settle();
    let (code, dry) = run_json(&site, &["run", "--dry-run", "--json"]);
    assert_eq!((code, &dry["counts"]["open"]), (Some(0), &0.into()), "{dry:#}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    daemon.terminate();
    site.assert_hub_true();
}
