//! The life of a finding, as the hub sees it: opened, told again only when it is worth it,
//! resolved, reopened, refreshed.

use std::time::Duration;

use patchferry::{
    app::App,
    config::Identity,
    queue::Retention,
    record::UnixMillis,
    simulator::{FleetConfig, HubFinding, SeverityCounts, SimLane, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig, clock::MovableClock, finding_of, lane};

fn fleet(nodes: usize) -> FleetConfig {
    FleetConfig { nodes, hybrid_share: 0.2, non_compliant_share: 0.5, never_scanned_share: 0.05 }
}

/// A rig with a fleet, and one scanned node of it.
async fn rig(seed: u64, clock: &MovableClock) -> (Rig, SimLane, String) {
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet(40));
    let rig = Rig::with_clock(simulator, clock).await;
    let lane = rig.only_lane();
    let node = rig.control.fleet(&lane).into_iter().find(|node| node.is_scanned).unwrap().id;
    (rig, lane, node)
}

/// A new scan finds `missing` patches missing; what the hub holds once that has been told.
async fn scanned(
    rig: &Rig,
    app: &App,
    lane: &SimLane,
    node: &str,
    missing: u32,
) -> Option<HubFinding> {
    let severities = SeverityCounts { medium: 1, ..SeverityCounts::default() };
    match missing {
        0 => rig.control.make_compliant(lane, node).unwrap(),
        _ => rig.control.make_non_compliant(lane, node, missing, severities).unwrap(),
    }
    rig.sweep_and_settle(app).await;
    finding_of(&rig.control, lane, node)
}

/// Everything that shows in the hub: none of it may change without a reason.
fn imports(rig: &Rig, lane: &SimLane) -> Vec<(String, u32)> {
    rig.control.hub(lane).into_iter().map(|finding| (finding.id, finding.imports)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_is_opened_updated_resolved_and_reopened_under_one_id() {
    let (rig, lane, node) = rig(111, &MovableClock::default()).await;
    rig.control.make_compliant(&lane, &node).unwrap();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    assert_eq!(finding_of(&rig.control, &lane, &node), None, "nothing to tell of a compliant node");

    let opened = scanned(&rig, &app, &lane, &node, 5).await.unwrap();
    assert_eq!(
        (opened.record_state.as_str(), opened.compliance_status.as_str()),
        ("ACTIVE", "FAILED")
    );
    assert_eq!((opened.severity_label.as_str(), opened.imports), ("MEDIUM", 1));

    let unchanged_before = app.queues().accounting().unchanged;
    let same = scanned(&rig, &app, &lane, &node, 5).await.unwrap();
    assert_eq!(same, opened, "a scan with the same facts is no news");
    assert_eq!(app.queues().accounting().unchanged, unchanged_before + 1);

    let updated = scanned(&rig, &app, &lane, &node, 6).await.unwrap();
    assert_eq!((updated.imports, updated.patch_counts[0]), (2, 6));

    let resolved = scanned(&rig, &app, &lane, &node, 0).await.unwrap();
    assert_eq!(
        (resolved.record_state.as_str(), resolved.compliance_status.as_str()),
        ("ARCHIVED", "PASSED")
    );
    assert_eq!((resolved.severity_label.as_str(), resolved.imports), ("INFORMATIONAL", 3));

    assert!(rig.control.set_workflow(&lane, &resolved.id, "RESOLVED"));
    let reopened = scanned(&rig, &app, &lane, &node, 5).await.unwrap();
    assert_eq!((reopened.record_state.as_str(), reopened.imports), ("ACTIVE", 4));
    assert_eq!(reopened.workflow_status, "NEW", "it is shown again");
    assert_eq!(reopened.created_at, opened.created_at);
    assert_eq!(reopened.id, opened.id);
    let updated_at: Vec<&String> = reopened.history.iter().map(|(at, _)| at).collect();
    assert_eq!(updated_at.len(), 4);
    let millis: Vec<UnixMillis> =
        updated_at.iter().map(|at| UnixMillis::parse_rfc3339(at).unwrap()).collect();
    assert!(millis.is_sorted_by(|one, next| one < next), "UpdatedAt must rise: {updated_at:?}");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_told_even_if_the_nodes_clock_went_backwards() {
    let clock = MovableClock::default();
    let (rig, lane, node) = rig(112, &clock).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    for missing in 3..7 {
        // The simulator's scans end at least a millisecond later than the one before.
        clock.advance(Duration::from_millis(1));
        let told = scanned(&rig, &app, &lane, &node, missing).await.unwrap();
        assert_eq!(told.patch_counts[0], i64::from(missing));
    }
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_nodes_cost_no_detail_call_and_no_write() {
    let (rig, lane, _) = rig(113, &MovableClock::default()).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let (before, held) = (rig.control.stats(&lane), imports(&rig, &lane));
    let accounting = app.queues().accounting();
    rig.sweep_and_settle(&app).await;

    let after = rig.control.stats(&lane);
    for operation in
        ["DescribeInstancePatchStates", "DescribeInstancePatches", "BatchImportFindings"]
    {
        assert_eq!(after.requests.get(operation), before.requests.get(operation), "{operation}");
    }
    let listed =
        |stats: &patchferry::simulator::Stats| stats.requests["ListResourceComplianceSummaries"];
    assert!(listed(&after) > listed(&before));
    assert_eq!(app.queues().accounting(), accounting);
    assert_eq!(imports(&rig, &lane), held);
    let report = app.lanes()[0].sweeps.borrow().last_report;
    assert_eq!((report.accepted, report.unchanged), (0, report.compliant + report.non_compliant));
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_finding_is_refreshed_before_the_hub_forgets_it() {
    let clock = MovableClock::default();
    let (mut rig, lane, _) = rig(114, &clock).await;
    rig.config.finding.refresh_after = Duration::from_secs(7 * 86_400);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    let before = rig.control.hub(&lane);
    clock.advance(Duration::from_secs(6 * 86_400));
    rig.sweep_and_settle(&app).await;
    assert_eq!(rig.control.hub(&lane), before, "not due yet");

    clock.advance(Duration::from_secs(86_400 + 60));
    rig.sweep_and_settle(&app).await;
    let after = rig.control.hub(&lane);
    assert_eq!(after.len(), before.len());
    for (now, then) in after.iter().zip(&before) {
        assert_eq!((now.imports, &now.record_state), (then.imports + 1, &then.record_state));
        assert!(now.updated_at_ms >= then.updated_at_ms + 6 * 86_400_000);
        assert_eq!((&now.created_at, now.patch_counts), (&then.created_at, then.patch_counts));
    }
    rig.sweep_and_settle(&app).await;
    assert_eq!(rig.control.hub(&lane), after, "refreshed twice");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_product_name_is_told_to_every_open_finding_and_no_other() {
    let (mut rig, lane, node) = rig(115, &MovableClock::default()).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    scanned(&rig, &app, &lane, &node, 4).await;
    let archived = scanned(&rig, &app, &lane, &node, 0).await.unwrap();
    let before = rig.control.hub(&lane);
    app.shutdown().await.unwrap();

    rig.config.finding.product_name = Some("Patches of the north".into());
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    for then in before.iter().filter(|finding| finding.record_state == "ACTIVE") {
        let now = rig.control.hub(&lane).into_iter().find(|now| now.id == then.id).unwrap();
        assert_eq!(now.imports, then.imports + 1);
        assert!(now.json.contains("Patches of the north"));
    }
    assert_eq!(finding_of(&rig.control, &lane, &node), Some(archived), "a resolved one was told");
    let told = rig.control.stats(&lane).accepted;
    rig.sweep_and_settle(&app).await;
    assert_eq!(rig.control.stats(&lane).accepted, told, "told twice");
    app.shutdown().await.unwrap();
}

fn findings_of(rig: &Rig, lane: &SimLane, node: &str) -> Vec<HubFinding> {
    let hub = rig.control.hub(lane).into_iter();
    let mut of_node: Vec<_> = hub.filter(|finding| finding.resource_id.ends_with(node)).collect();
    of_node.sort_by_key(|finding| finding.updated_at_ms);
    of_node
}

fn states(findings: &[HubFinding]) -> Vec<&str> {
    let mut states: Vec<&str> = findings.iter().map(|it| it.record_state.as_str()).collect();
    states.sort_unstable();
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_finding_per_operation_each_run_closes_the_one_before() {
    let (mut rig, lane, node) = rig(116, &MovableClock::default()).await;
    rig.config.finding.identity = Identity::Operation;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let before = findings_of(&rig, &lane, &node).len();
    scanned(&rig, &app, &lane, &node, 3).await;
    scanned(&rig, &app, &lane, &node, 3).await;
    let findings = findings_of(&rig, &lane, &node);
    assert_eq!(findings.len(), before + 2, "each run has a finding of its own");
    assert_eq!(states(&findings).iter().filter(|state| **state == "ACTIVE").count(), 1);
    scanned(&rig, &app, &lane, &node, 0).await;
    let findings = findings_of(&rig, &lane, &node);
    assert!(states(&findings).iter().all(|state| *state == "ARCHIVED"), "{findings:?}");
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_aws_s_own_way_each_run_has_its_finding_and_none_is_ever_closed() {
    let (mut rig, lane, node) = rig(117, &MovableClock::default()).await;
    rig.config.finding.identity = Identity::Operation;
    rig.config.finding.resolve = false;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let before = findings_of(&rig, &lane, &node).len();
    for missing in [3, 3, 0] {
        scanned(&rig, &app, &lane, &node, missing).await;
    }
    let findings = findings_of(&rig, &lane, &node);
    assert_eq!(findings.len(), before + 2);
    assert!(rig.control.hub(&lane).iter().all(|it| it.record_state == "ACTIVE" && it.imports == 1));
    assert!(findings.iter().all(|it| it.resource_id == node), "a bare node id, as AWS has it");
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_are_forgotten_but_nothing_of_an_open_finding() {
    let clock = MovableClock::default();
    let (mut rig, sim, node) = rig(117, &clock).await;
    rig.config.finding.refresh_after = Duration::from_secs(3_000 * 86_400);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let open = rig.control.fleet(&sim).into_iter().find(|it| it.is_non_compliant && it.id != node);
    let open = open.expect("the fleet has more than one such node").id;
    scanned(&rig, &app, &sim, &node, 4).await;
    scanned(&rig, &app, &sim, &node, 0).await;
    let (queues, lane) = (app.queues(), lane(&sim));
    let retention = Retention { receipts_kept: Duration::from_secs(400 * 86_400) };

    clock.advance(Duration::from_secs(34 * 86_400));
    assert_eq!(queues.forget_old(&lane, retention).await.unwrap(), 0);

    clock.advance(Duration::from_secs(2 * 86_400));
    assert!(queues.forget_old(&lane, retention).await.unwrap() > 0);
    let (desired, acked) = queues.ledger(&lane, &node).await.unwrap();
    assert!(desired.is_none() && acked.is_some(), "the receipt is kept longer");

    clock.advance(Duration::from_secs(365 * 86_400));
    assert!(queues.forget_old(&lane, retention).await.unwrap() > 0);
    let (_, acked) = queues.ledger(&lane, &node).await.unwrap();
    assert!(acked.is_none(), "receipts are kept for 400 days, not for ever");
    let (desired, acked) = queues.ledger(&lane, &open).await.unwrap();
    assert!(desired.is_some() && acked.is_some(), "an open finding keeps its rows");
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
