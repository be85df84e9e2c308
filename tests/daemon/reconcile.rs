//! `patchferry reconcile`, with the real binary. What the daemon was told just now is left alone,
//! so what is found here is what it doesn't know.

use std::fs;

use patchferry::simulator::{FleetConfig, HubFinding, SimulatorConfig};
use serde_json::Value;

use super::{assert_true, exits_with_zero};
use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, text},
    finding_of,
};

async fn site(seed: u64) -> Site {
    let fleet = FleetConfig {
        nodes: 20,
        hybrid_share: 0.0,
        non_compliant_share: 0.5,
        never_scanned_share: 0.0,
    };
    Site::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet), Some(EAGER)).await
}

/// An active finding of a compliant node, made of another node's.
fn plant(site: &Site) -> HubFinding {
    let lane = site.control.lanes().remove(0);
    let fleet = site.control.fleet(&lane);
    let open = fleet.iter().find(|node| node.is_non_compliant).unwrap();
    let compliant = fleet.iter().find(|node| !node.is_non_compliant).unwrap();
    let mut finding = finding_of(&site.control, &lane, &open.id).unwrap();
    finding.id = finding.id.replace(&open.id, &compliant.id);
    finding.resource_id = finding.resource_id.replace(&open.id, &compliant.id);
    finding.json = finding.json.replace(&open.id, &compliant.id);
    site.control.put_finding(&lane, finding.clone());
    finding
}

fn reconciled(site: &Site, arguments: &[&str], code: i32) -> Value {
    let output = site.run(&[&["reconcile", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    serde_json::from_str(&text(&output.stdout)).expect("an object for the one lane")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconcile_tells_what_differs_and_repairs_it_when_asked() {
    let site = site(171).await;
    let daemon = site.start();
    daemon.settle();
    let nothing = reconciled(&site, &[], 0);
    assert_eq!(
        (&nothing["missing"], &nothing["hub_findings"]),
        (&0.into(), &nothing["nodes_left_alone"])
    );

    let planted = plant(&site);
    let found = reconciled(&site, &["--lane", &format!("{ACCOUNT}/{REGION}")], 1);
    assert_eq!((&found["orphaned"], &found["repaired"]), (&1.into(), &0.into()));
    assert_eq!(found["differences"][0]["finding_id"], planted.id.as_str());
    let told = site.run(&["reconcile"]);
    let told_text = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1));
    assert!(told_text.contains("1 orphaned") && told_text.contains("--repair"), "{told_text}");
    assert!(!site.state_dir().join("audit.log").exists(), "looking changes nothing");

    let repaired = reconciled(&site, &["--repair"], 0);
    assert_eq!((&repaired["orphaned"], &repaired["repaired"]), (&1.into(), &1.into()));
    let lane = site.control.lanes().remove(0);
    daemon.wait_for_status("the planted one to be resolved", |_| {
        site.control
            .hub(&lane)
            .iter()
            .any(|it| it.id == planted.id && it.record_state == "ARCHIVED")
    });
    daemon.settle();
    assert_true(&site);
    let audit = fs::read_to_string(site.state_dir().join("audit.log")).unwrap();
    assert_eq!(audit.lines().count(), 2);
    assert!(audit.contains("\"command\":\"reconcile\""), "{audit}");
    let status = daemon.status();
    assert!(status["lanes"][0]["last_reconcile_unix_ms"].is_i64(), "{status}");

    let no_lane = site.run(&["reconcile", "--accept-gone"]);
    assert_eq!(no_lane.status.code(), Some(64), "a person means one lane");
    let lane_name = format!("{ACCOUNT}/{REGION}");
    let accepted = reconciled(&site, &["--accept-gone", "--lane", &lane_name], 0);
    assert_eq!(accepted["gone_accepted"], 0, "nothing is withheld");
    let audit = fs::read_to_string(site.state_dir().join("audit.log")).unwrap();
    assert!(audit.contains("\"accept_gone\":true"), "{audit}");

    let unknown = site.run(&["reconcile", "--lane", "999988887777/us-east-1"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).contains("isn't served here"), "{}", text(&unknown.stderr));
    exits_with_zero(daemon);
    let stopped = site.run(&["reconcile", "--lane", &format!("{ACCOUNT}/{REGION}")]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(text(&stopped.stderr).contains("start it first"), "{}", text(&stopped.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_finding_per_run_reconcile_is_refused() {
    let site = site(172).await;
    site.configure(&format!("{EAGER}[finding]\nidentity = \"operation\"\n"));
    let daemon = site.start();
    daemon.settle();
    let refused = site.run(&["reconcile"]);
    assert_eq!(refused.status.code(), Some(64));
    let told = text(&refused.stderr);
    assert!(told.contains("finding.identity"), "{told}");
    exits_with_zero(daemon);
}
