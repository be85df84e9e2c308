//! Somebody has set a finding to RESOLVED: a newer scan that still finds its node non-compliant
//! shows it again, by closing and opening it; nothing else does.

use patchferry::{
    failpoint::{FailPoint, VARIABLE},
    simulator::{Fault, FleetConfig, HubFinding, SeverityCounts, SimLane, SimulatorConfig},
};

use super::{Story, told};
use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, queued},
    finding_of, imports, metric,
};

const SEVERITIES: SeverityCounts =
    SeverityCounts { critical: 0, high: 1, medium: 1, low: 0, informational: 0, unspecified: 0 };

/// A node is scanned, with the same outcome each time.
fn scan(story: &Story, node: &str, missing: u32) {
    story.rig.control.make_non_compliant(&story.lane, node, missing, SEVERITIES).unwrap();
}

/// A story with an open finding of `missing` patches that somebody has resolved.
async fn resolved(seed: u64, missing: u32) -> (Story, String) {
    let story = told(seed).await;
    let node = story.nodes(|node| node.is_non_compliant).remove(0);
    scan(&story, &node, missing);
    story.rig.sweep_and_settle(&story.app).await;
    let id = story.finding(&node).id;
    assert!(story.rig.control.set_workflow(&story.lane, &id, "RESOLVED"));
    story.clock.advance(super::SETTLED);
    (story, node)
}

fn reopened(app: &patchferry::app::App) -> u64 {
    metric(app, "patchferry_reopened_by_scan_total")
}

/// Counted once the acknowledgement is committed: just after the queues show it.
async fn wait_until_counted(story: &Story, expected: u64) {
    let what = format!("{expected} reopened");
    story.rig.wait_for(&story.app, &what, |_, _| reopened(&story.app) == expected).await;
}

/// Whether the hub saw it archived and then active, after what it held in `before`.
fn was_closed_and_opened(finding: &HubFinding, before: &HubFinding) -> bool {
    let since = finding.history.iter().skip_while(|(at, _)| *at != before.updated_at).skip(1);
    let states: Vec<&str> = since.map(|(_, state)| state.as_str()).collect();
    states.first() == Some(&"ARCHIVED") && states[1..].iter().all(|state| *state == "ACTIVE")
}

async fn wait_until_shown(story: &Story, node: &str) {
    story
        .rig
        .wait_for(&story.app, "it to be shown again", |queues, control| {
            let finding = finding_of(control, &story.lane, node).unwrap();
            queues.accounting().queued.total() == 0
                && finding.workflow_status == "NEW"
                && finding.record_state == "ACTIVE"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_that_somebody_resolved_is_shown_again_by_a_newer_scan_only() {
    let (story, node) = resolved(151, 5).await;
    let before = story.finding(&node);
    assert_eq!(story.reconcile(true).await.people.watched, 1);
    story.rig.sweep_and_settle(&story.app).await;
    story.reconcile(true).await;
    story.rig.sweep_and_settle(&story.app).await;
    assert_eq!(story.finding(&node), before, "there is no newer scan");

    scan(&story, &node, 5);
    story.rig.sweep(&story.app).await;
    wait_until_shown(&story, &node).await;
    let after = story.finding(&node);
    assert!(was_closed_and_opened(&after, &before), "{:?}", after.history);
    assert_eq!(after.compliance_status, "FAILED");
    wait_until_counted(&story, 1).await;
    assert_eq!(after.created_at, before.created_at);
    story.rig.sweep_and_settle(&story.app).await;
    story.reconcile(true).await;
    scan(&story, &node, 5);
    story.rig.sweep_and_settle(&story.app).await;
    assert_eq!(reopened(&story.app), 1, "reopened twice");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_scan_from_before_the_look_counts_too() {
    let (story, node) = resolved(152, 5).await;
    let before = story.finding(&node);
    scan(&story, &node, 5);
    story.rig.sweep_and_settle(&story.app).await;
    assert_eq!(story.finding(&node), before, "the same facts are no news");
    story.reconcile(false).await;
    wait_until_shown(&story, &node).await;
    assert!(was_closed_and_opened(&story.finding(&node), &before));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_suppressed_or_not_resolved_any_more_is_not_touched() {
    let (story, node) = resolved(153, 5).await;
    let other = story.nodes(|it| it.is_non_compliant && it.id != node).remove(0);
    scan(&story, &other, 4);
    story.rig.sweep_and_settle(&story.app).await;
    let (id, other_id) = (story.finding(&node).id, story.finding(&other).id);
    assert!(story.rig.control.set_workflow(&story.lane, &other_id, "SUPPRESSED"));
    assert_eq!(story.reconcile(true).await.people.watched, 1);
    // Somebody has thought better of it.
    assert!(story.rig.control.set_workflow(&story.lane, &id, "NOTIFIED"));
    let before = [story.finding(&node), story.finding(&other)];
    for node in [&node, &other] {
        scan(&story, node, if *node == other { 4 } else { 5 });
    }
    story.rig.sweep_and_settle(&story.app).await;
    let looked = story.reconcile(true).await.people;
    assert_eq!((looked.watched, looked.closing), (0, 0));
    story.rig.sweep_and_settle(&story.app).await;
    assert_eq!([story.finding(&node), story.finding(&other)], before);
    assert_eq!(reopened(&story.app), 0);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_seen_of_the_node_while_its_finding_is_closed_is_what_it_is_opened_with() {
    for (missing, expected) in [(7, ("ACTIVE", "FAILED")), (0, ("ARCHIVED", "PASSED"))] {
        let (story, node) = resolved(154 + u64::from(missing), 5).await;
        let before = story.finding(&node);
        story.reconcile(false).await;
        story.rig.sweep_and_settle(&story.app).await;
        story.rig.control.set_fault(imports(), Some(Fault::Outage));
        scan(&story, &node, 5);
        story.rig.sweep(&story.app).await;
        story
            .rig
            .wait_for(&story.app, "the closing version to wait", |queues, _| {
                let queued = queues.accounting().queued;
                queued.total() == 1 && queued.outbox + queued.delayed == 1
            })
            .await;
        match missing {
            0 => story.rig.control.make_compliant(&story.lane, &node).unwrap(),
            _ => scan(&story, &node, missing),
        }
        story.rig.sweep(&story.app).await;
        story.rig.assert_accounted(&story.app).await;
        story.rig.control.clear_faults();
        story
            .rig
            .wait_for(&story.app, "it to be told", |queues, control| {
                let finding = finding_of(control, &story.lane, &node).unwrap();
                queues.accounting().queued.total() == 0
                    && (finding.record_state.as_str(), finding.compliance_status.as_str())
                        == expected
                    && finding.imports > before.imports
            })
            .await;
        let after = story.finding(&node);
        if missing > 0 {
            assert!(was_closed_and_opened(&after, &before), "{:?}", after.history);
            assert_eq!((after.patch_counts[0], after.workflow_status.as_str()), (7, "NEW"));
        }
        let expected = u64::from(missing > 0);
        wait_until_counted(&story, expected).await;
        story.rig.sweep_and_settle(&story.app).await;
        assert_eq!(reopened(&story.app), expected);
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_version_that_the_hub_refuses_leaves_the_finding_open() {
    let (story, node) = resolved(163, 5).await;
    story.reconcile(false).await;
    story.rig.sweep_and_settle(&story.app).await;
    story.rig.control.poison(&story.lane, [node.clone()]);
    scan(&story, &node, 5);
    story.rig.sweep(&story.app).await;
    story
        .rig
        .wait_for(&story.app, "a dead letter", |queues, _| {
            let accounting = queues.accounting();
            accounting.dead == 1 && accounting.queued.total() == 0
        })
        .await;
    assert_eq!(story.finding(&node).record_state, "ACTIVE");
    story.rig.control.poison(&story.lane, Vec::<String>::new());
    scan(&story, &node, 6);
    story.rig.sweep_and_settle(&story.app).await;
    let finding = story.finding(&node);
    assert_eq!((finding.record_state.as_str(), finding.patch_counts[0]), ("ACTIVE", 6));
    story.rig.assert_true_with_dead(&story.app, 1).await;
    story.app.shutdown().await.unwrap();
}

fn of(site: &Site, lane: &SimLane, node: &str) -> HubFinding {
    finding_of(&site.control, lane, node).expect("the node has a finding")
}

/// The daemon dies between the two steps, again and again, at the worst places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_between_the_two_steps_leaves_nothing_archived() {
    let fleet = FleetConfig { non_compliant_share: 0.6, ..FleetConfig::of(20) };
    let site = Site::new(SimulatorConfig::new(164).lane(ACCOUNT, REGION, fleet), Some(EAGER)).await;
    let lane = site.control.lanes().remove(0);
    let fleet = site.control.fleet(&lane).into_iter();
    let node = fleet.filter(|node| node.is_non_compliant).map(|node| node.id).next().unwrap();
    let scan = || site.control.make_non_compliant(&lane, &node, 5, SEVERITIES).unwrap();
    scan();
    let daemon = site.start();
    daemon.settle();
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let before = of(&site, &lane, &node);
    assert!(site.control.set_workflow(&lane, &before.id, "RESOLVED"));
    scan();

    let mut daemon = site.spawn_with(VARIABLE, FailPoint::ReopeningClosed.name());
    daemon.running();
    let told = site.run(&["reconcile"]);
    assert!(daemon.wait_for_text("fail point reopening_closed reached"), "{told:?}");
    daemon.wait();
    for point in [FailPoint::DeliverySent, FailPoint::DeliverySettled] {
        let daemon = site.spawn_with(VARIABLE, &format!("{}:1", point.name()));
        assert!(daemon.wait_for_text(&format!("fail point {} reached", point.name())));
        daemon.wait();
        let held = of(&site, &lane, &node);
        assert!(held.imports > before.imports, "the closing version is in the hub: {held:?}");
    }
    let daemon = site.start();
    daemon.wait_for_status("it to be shown again", |status| {
        let finding = of(&site, &lane, &node);
        queued(status) == 0 && finding.record_state == "ACTIVE" && finding.workflow_status == "NEW"
    });
    let after = of(&site, &lane, &node);
    assert!(was_closed_and_opened(&after, &before), "{:?}", after.history);
    assert_eq!(daemon.terminate().0.code(), Some(0));
    site.assert_hub_true();
    site.assert_store_true().await;
}
