//! Scans by associations: only those of `AWS-RunPatchBaselineAssociation` count, in the node's one
//! finding, by their real executions, and at a bounded cost.

mod cost;

use std::collections::BTreeMap;

use patchferry::{
    app::App,
    simulator::{
        Control, Fault, FleetConfig, HubFinding, Scope, Service, SeverityCounts, SimLane,
        SimulatorConfig,
    },
};

use crate::harness::{ACCOUNT, REGION, Rig, finding_of};

const SCANS: &str = "AWS-RunPatchBaselineAssociation";
const INVENTORY: &str = "AWS-GatherSoftwareInventory";

/// A lane of compliant EC2 nodes, all scanned for patches.
async fn rig(seed: u64, nodes: usize) -> (Rig, SimLane) {
    let fleet = FleetConfig {
        nodes,
        hybrid_share: 0.0,
        non_compliant_share: 0.0,
        never_scanned_share: 0.0,
    };
    let rig = Rig::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet)).await;
    let lane = rig.only_lane();
    (rig.without_quota(), lane)
}

/// Its first node, without a patch state.
fn only_by_association(rig: &Rig, lane: &SimLane) -> String {
    let node = rig.control.fleet(lane)[0].id.clone();
    rig.control.forget_scan(lane, &node).unwrap();
    node
}

async fn told(rig: &Rig, app: &App, lane: &SimLane, node: &str) -> Option<HubFinding> {
    rig.sweep_and_settle(app).await;
    finding_of(&rig.control, lane, node)
}

fn requests(control: &Control, lane: &SimLane) -> BTreeMap<String, u64> {
    control.stats(lane).requests
}

/// Requests of a kind that `action` has made.
async fn asked<T>(
    rig: &Rig,
    lane: &SimLane,
    operation: &str,
    action: impl Future<Output = T>,
) -> u64 {
    let count = || requests(&rig.control, lane).get(operation).copied().unwrap_or(0);
    let before = count();
    action.await;
    count() - before
}

fn state(finding: Option<&HubFinding>) -> Option<(&str, &str)> {
    finding.map(|it| (it.record_state.as_str(), it.compliance_status.as_str()))
}

fn document(finding: &HubFinding) -> String {
    let json: serde_json::Value = serde_json::from_str(&finding.json).unwrap();
    json["ProductFields"]["patchferry/document"].as_str().unwrap_or_default().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_only_an_association_has_scanned_gets_its_finding_which_says_so() {
    let (rig, lane) = rig(1_101, 20).await;
    let node = only_by_association(&rig, &lane);
    let scans = rig.control.create_association(&lane, SCANS);
    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    let app = rig.start().await;
    let opened = told(&rig, &app, &lane, &node).await.expect("a finding");
    assert_eq!(state(Some(&opened)), Some(("ACTIVE", "FAILED")));
    assert_eq!(opened.severity_label, "HIGH", "the item's severity");
    assert_eq!(document(&opened), SCANS);
    let json: serde_json::Value = serde_json::from_str(&opened.json).unwrap();
    let details = &json["Resources"][0]["Details"]["AwsSsmPatchCompliance"]["Patch"];
    assert_eq!(details["ComplianceSummary"]["ComplianceType"], "Association");
    assert_eq!(json.get("PatchSummary"), None);
    rig.assert_true(&app).await;

    rig.control.association_complies(&lane, &node, &scans).unwrap();
    let healed = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(state(Some(&healed)), Some(("ARCHIVED", "PASSED")));
    rig.assert_true(&app).await;

    rig.control.association_violated(&lane, &node, &scans, "").unwrap();
    let reopened = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(state(Some(&reopened)), Some(("ACTIVE", "FAILED")));
    assert_eq!((reopened.severity_label.as_str(), reopened.imports), ("LOW", 3));
    assert_eq!(reopened.id, opened.id);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_of_any_other_document_is_ignored_whatever_it_finds() {
    let (rig, lane) = rig(1_102, 20).await;
    let bare = only_by_association(&rig, &lane);
    let scanned = rig.control.fleet(&lane)[1].id.clone();
    let foreign = rig.control.create_association(&lane, INVENTORY);
    let scans = rig.control.create_association(&lane, SCANS);
    for node in [&bare, &scanned] {
        rig.control.association_violated(&lane, node, &foreign, "CRITICAL").unwrap();
    }
    // The lane has scans by association, so that it is looked at all.
    let other = rig.control.fleet(&lane)[2].id.clone();
    rig.control.association_complies(&lane, &other, &scans).unwrap();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    assert!(rig.control.hub(&lane).is_empty(), "nothing is missing anywhere");

    // Nor does its compliance heal anything.
    rig.control.association_violated(&lane, &bare, &scans, "HIGH").unwrap();
    rig.control.association_complies(&lane, &bare, &foreign).unwrap();
    let open = told(&rig, &app, &lane, &bare).await.unwrap();
    assert_eq!(state(Some(&open)), Some(("ACTIVE", "FAILED")));
    rig.control.association_complies(&lane, &bare, &foreign).unwrap();
    assert_eq!(told(&rig, &app, &lane, &bare).await, Some(open));
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_real_execution_wins_in_both_directions() {
    let (rig, lane) = rig(1_103, 20).await;
    let node = rig.control.fleet(&lane)[0].id.clone();
    let foreign = rig.control.create_association(&lane, INVENTORY);
    let scans = rig.control.create_association(&lane, SCANS);
    let app = rig.start().await;
    let missing = |count| {
        let severities = SeverityCounts { medium: 1, ..SeverityCounts::default() };
        rig.control.make_non_compliant(&lane, &node, count, severities).unwrap();
    };

    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    let opened = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(
        (state(Some(&opened)), document(&opened).as_str()),
        (Some(("ACTIVE", "FAILED")), SCANS)
    );
    rig.assert_true(&app).await;

    rig.control.make_compliant(&lane, &node).unwrap();
    // An association's time moves with another's run; that is no execution of its own.
    rig.control.association_complies(&lane, &node, &foreign).unwrap();
    let healed = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(state(Some(&healed)), Some(("ARCHIVED", "PASSED")), "by the newer patch scan");
    rig.assert_true(&app).await;

    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    let again = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(state(Some(&again)), Some(("ACTIVE", "FAILED")), "by the association's newer run");
    rig.assert_true(&app).await;

    missing(3);
    let detailed = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(
        (document(&detailed).as_str(), detailed.patch_counts[0]),
        ("AWS-RunPatchBaseline", 3)
    );
    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    assert_eq!(told(&rig, &app, &lane, &node).await, Some(detailed), "it agrees: no news");
    rig.assert_true(&app).await;

    rig.control.association_complies(&lane, &node, &scans).unwrap();
    let healed = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!(state(Some(&healed)), Some(("ARCHIVED", "PASSED")), "the association ran later");
    missing(2);
    let open = told(&rig, &app, &lane, &node).await.unwrap();
    assert_eq!((state(Some(&open)), open.patch_counts[0]), (Some(("ACTIVE", "FAILED")), 2));
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_associations_that_scan_the_newest_run_counts() {
    let (rig, lane) = rig(1_104, 20).await;
    let node = only_by_association(&rig, &lane);
    let quick_setup = rig.control.create_association(&lane, SCANS);
    let explorer = rig.control.create_association(&lane, SCANS);
    rig.control.association_violated(&lane, &node, &quick_setup, "HIGH").unwrap();
    rig.control.association_complies(&lane, &node, &explorer).unwrap();
    let app = rig.start().await;
    assert_eq!(told(&rig, &app, &lane, &node).await, None);
    rig.control.association_violated(&lane, &node, &quick_setup, "HIGH").unwrap();
    let open = told(&rig, &app, &lane, &node).await;
    assert_eq!(state(open.as_ref()), Some(("ACTIVE", "FAILED")));
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hybrid_nodes_are_left_out_as_the_document_leaves_them_out() {
    let fleet = FleetConfig {
        nodes: 10,
        hybrid_share: 1.0,
        non_compliant_share: 0.0,
        never_scanned_share: 0.0,
    };
    let rig = Rig::new(SimulatorConfig::new(1_105).lane(ACCOUNT, REGION, fleet)).await;
    let lane = rig.only_lane();
    let scans = rig.control.create_association(&lane, SCANS);
    for node in rig.control.fleet(&lane) {
        assert!(node.is_hybrid);
        rig.control.association_violated(&lane, &node.id, &scans, "HIGH").unwrap();
    }
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    assert!(rig.control.hub(&lane).is_empty());
    assert_eq!(requests(&rig.control, &lane).get("ListComplianceItems"), None);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_read_associations_patch_states_are_told_all_the_same() {
    let (rig, lane) = rig(1_106, 20).await;
    let nodes = rig.control.fleet(&lane);
    let scans = rig.control.create_association(&lane, SCANS);
    rig.control.association_violated(&lane, &nodes[0].id, &scans, "HIGH").unwrap();
    rig.control.make_non_compliant(&lane, &nodes[1].id, 3, SeverityCounts::default()).unwrap();
    let list = Scope::of(Service::Ssm).operation("ListAssociations");
    rig.control.set_fault(list, Some(Fault::AccessDenied));
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    assert_eq!(finding_of(&rig.control, &lane, &nodes[0].id), None);
    let finding = finding_of(&rig.control, &lane, &nodes[1].id);
    assert_eq!(state(finding.as_ref()), Some(("ACTIVE", "FAILED")));
    let again = asked(&rig, &lane, "ListAssociations", rig.sweep_and_settle(&app)).await;
    assert_eq!(again, 0, "it was denied a moment ago");
    assert_eq!(app.lanes()[0].sweeps.borrow().failure, None);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_off_nothing_is_asked_of_associations_and_nothing_told() {
    let (mut rig, lane) = rig(1_107, 20).await;
    rig.config.ingest.associations = false;
    let node = rig.control.fleet(&lane)[0].id.clone();
    let scans = rig.control.create_association(&lane, SCANS);
    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    let app = rig.start().await;
    assert_eq!(told(&rig, &app, &lane, &node).await, None);
    assert_eq!(requests(&rig.control, &lane).get("ListAssociations"), None);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_healed_while_the_ledger_was_lost_is_resolved_all_the_same() {
    let (rig, lane) = rig(1_108, 20).await;
    let node = only_by_association(&rig, &lane);
    let scans = rig.control.create_association(&lane, SCANS);
    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    let app = rig.start().await;
    let open = told(&rig, &app, &lane, &node).await;
    assert_eq!(state(open.as_ref()), Some(("ACTIVE", "FAILED")));
    app.shutdown().await.unwrap();
    std::fs::remove_dir_all(rig.state_dir()).unwrap();
    rig.control.association_complies(&lane, &node, &scans).unwrap();

    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let healed = told(&rig, &app, &lane, &node).await;
    assert_eq!(state(healed.as_ref()), Some(("ARCHIVED", "PASSED")));
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
