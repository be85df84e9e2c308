//! What a sweep asks for, counted: of a fleet in which nothing has changed, and of one that
//! associations scan.

use patchferry::simulator::{FleetConfig, SimulatorConfig};

use super::{INVENTORY, SCANS, asked, only_by_association, requests, rig, state, told};
use crate::harness::{ACCOUNT, REGION, Rig};

/// Requests to SSM of all kinds that one more sweep makes, once all is known.
async fn of_an_unchanged_sweep(rig: &Rig) -> Vec<(String, u64)> {
    let lane = rig.only_lane();
    let app = rig.start().await;
    // The read-back of the first start has every node observed once more.
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    let (before, accounting) = (requests(&rig.control, &lane), app.queues().accounting());
    rig.sweep_and_settle(&app).await;
    assert_eq!(app.queues().accounting(), accounting, "nothing is accepted");
    let after = requests(&rig.control, &lane);
    app.shutdown().await.unwrap();
    let more = |(name, count): (String, u64)| {
        let more = count - before.get(&name).copied().unwrap_or(0);
        (more > 0).then_some((name, more))
    };
    after.into_iter().filter_map(more).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_sweep_asks_twice_per_fifty_nodes_and_once_for_associations() {
    let fleet = FleetConfig {
        nodes: 1_000,
        hybrid_share: 0.1,
        non_compliant_share: 0.3,
        never_scanned_share: 0.0,
    };
    let mut rig = Rig::new(SimulatorConfig::new(1_111).lane(ACCOUNT, REGION, fleet)).await;
    rig.config.ingest.patch_details = false;
    let asked = of_an_unchanged_sweep(&rig.without_quota()).await;
    let expected = [
        ("DescribeInstanceInformation", 20),
        ("ListAssociations", 1),
        ("ListResourceComplianceSummaries", 20),
    ];
    assert_eq!(asked, expected.map(|(name, count)| (name.to_string(), count)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_associations_scan_costs_one_more_per_fifty_nodes_and_no_item() {
    let (rig, lane) = rig(1_112, 200).await;
    let (scans, foreign) = (
        rig.control.create_association(&lane, SCANS),
        rig.control.create_association(&lane, INVENTORY),
    );
    for (number, node) in rig.control.fleet(&lane).into_iter().enumerate() {
        if number % 2 == 0 {
            rig.control.forget_scan(&lane, &node.id).unwrap();
        }
        match number % 3 {
            0 => rig.control.association_violated(&lane, &node.id, &scans, "HIGH").unwrap(),
            1 => rig.control.association_violated(&lane, &node.id, &foreign, "HIGH").unwrap(),
            _ => rig.control.association_complies(&lane, &node.id, &scans).unwrap(),
        }
    }
    let asked = of_an_unchanged_sweep(&rig).await;
    let expected = [
        ("DescribeInstanceInformation", 4),
        ("ListAssociations", 1),
        // Half of the nodes have a patch summary, all have associations.
        ("ListResourceComplianceSummaries", 2 + 4),
    ];
    assert_eq!(asked, expected.map(|(name, count)| (name.to_string(), count)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_moves_because_another_association_ran_tells_nothing_and_asks_nothing() {
    let (rig, lane) = rig(1_113, 20).await;
    let node = only_by_association(&rig, &lane);
    let scans = rig.control.create_association(&lane, SCANS);
    let foreign = rig.control.create_association(&lane, INVENTORY);
    rig.control.association_violated(&lane, &node, &scans, "HIGH").unwrap();
    rig.control.association_complies(&lane, &node, &foreign).unwrap();
    let app = rig.start().await;
    let open = told(&rig, &app, &lane, &node).await;
    assert_eq!(state(open.as_ref()), Some(("ACTIVE", "FAILED")));
    // The read-back of the first start has every node observed once more.
    rig.sweep_and_settle(&app).await;
    let accounting = app.queues().accounting();
    for _ in 0..3 {
        rig.control.association_complies(&lane, &node, &foreign).unwrap();
        let more = asked(&rig, &lane, "ListComplianceItems", told(&rig, &app, &lane, &node)).await;
        assert_eq!(more, 0);
    }
    assert_eq!(app.queues().accounting(), accounting);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_conflict_is_never_asked_for_its_times() {
    let (rig, lane) = rig(1_114, 60).await;
    let scans = rig.control.create_association(&lane, SCANS);
    let nodes = rig.control.fleet(&lane);
    for node in &nodes[..50] {
        rig.control.association_complies(&lane, &node.id, &scans).unwrap();
    }
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let asked_for = |operation: &str| requests(&rig.control, &lane).get(operation).copied();
    assert_eq!(asked_for("ListComplianceItems"), None, "both kinds agree");
    rig.control.association_violated(&lane, &nodes[0].id, &scans, "LOW").unwrap();
    rig.sweep_and_settle(&app).await;
    assert_eq!(asked_for("ListComplianceItems"), Some(1));
    assert_eq!(asked_for("DescribeInstanceAssociationsStatus"), Some(1));
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
