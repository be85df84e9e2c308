//! The configuration names findings otherwise than before: what stands under the old name is
//! closed, what is open stands under the new one, and nothing stands twice.

use patchferry::{
    config::Identity,
    record::{Reason, Stage},
    simulator::{Fault, HubFinding, SeverityCounts, SimLane},
};

use crate::harness::{ACCOUNT, REGION, Rig, finding_of, imports};

const OTHER_PRODUCT: &str = "arn:aws:securityhub:us-east-1:111122223333:product/111122223333/other";

fn active(rig: &Rig, lane: &SimLane) -> Vec<HubFinding> {
    let hub = rig.control.hub(lane).into_iter();
    hub.filter(|finding| finding.record_state == "ACTIVE").collect()
}

/// A rig whose findings were told, and the nodes that have one.
async fn told(seed: u64) -> (Rig, SimLane, Vec<String>) {
    let rig = Rig::one_lane(seed, 60).await.without_quota();
    let lane = rig.only_lane();
    rig.control.enable_product(&lane, OTHER_PRODUCT);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
    let fleet = rig.control.fleet(&lane).into_iter();
    let open = fleet.filter(|node| node.is_non_compliant).map(|node| node.id).collect();
    (rig, lane, open)
}

fn default_product() -> String {
    format!("arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_product_closes_what_stood_under_the_old_one_and_opens_it_anew() {
    let (mut rig, lane, open) = told(131).await;
    let created = finding_of(&rig.control, &lane, &open[1]).unwrap().created_at;
    rig.control.make_compliant(&lane, &open[0]).unwrap();
    rig.config.finding.product_arn = Some(OTHER_PRODUCT.into());
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;

    let active = active(&rig, &lane);
    assert_eq!(active.len(), open.len() - 1);
    assert!(
        active.iter().all(|finding| finding.product_arn == OTHER_PRODUCT && finding.imports == 1)
    );
    let renewed = active.iter().find(|finding| finding.resource_id.ends_with(&open[1])).unwrap();
    assert_eq!(renewed.created_at, created, "the same operation is reported");
    let hub = rig.control.hub(&lane);
    let of_old = |node: &str| {
        let mut found = hub.iter().filter(|it| it.resource_id.ends_with(node));
        found.find(|it| it.product_arn == default_product()).unwrap().clone()
    };
    let superseded = of_old(&open[1]);
    assert_eq!(superseded.compliance_status, "NOT_AVAILABLE");
    assert!(superseded.json.contains("Another finding reports"), "{}", superseded.json);
    let healed = of_old(&open[0]);
    assert_eq!(
        (healed.record_state.as_str(), healed.compliance_status.as_str()),
        ("ARCHIVED", "PASSED")
    );
    rig.assert_true(&app).await;

    // Healed under the old name, relapsed under the new one.
    let severities = SeverityCounts { high: 1, ..SeverityCounts::default() };
    rig.control.make_non_compliant(&lane, &open[0], 3, severities).unwrap();
    rig.sweep_and_settle(&app).await;
    let relapsed = self::active(&rig, &lane);
    assert!(
        relapsed
            .iter()
            .any(|it| it.resource_id.ends_with(&open[0]) && it.product_arn == OTHER_PRODUCT)
    );
    let told = rig.control.stats(&lane).accepted;
    rig.sweep_and_settle(&app).await;
    assert_eq!(rig.control.stats(&lane).accepted, told, "told twice");
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_another_product_and_back_ends_where_it_began() {
    let (mut rig, lane, open) = told(132).await;
    for product in [Some(OTHER_PRODUCT.into()), None] {
        rig.config.finding.product_arn = product;
        let app = rig.start().await;
        rig.sweep_and_settle(&app).await;
        rig.assert_true(&app).await;
        app.shutdown().await.unwrap();
    }
    let active = active(&rig, &lane);
    assert_eq!(active.len(), open.len());
    assert!(active.iter().all(|finding| finding.product_arn == default_product()));
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0, "a version was too old for the hub");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_identity_closes_what_the_one_before_opened() {
    let (mut rig, lane, open) = told(133).await;
    for identity in [Identity::Operation, Identity::Node, Identity::Operation] {
        rig.config.finding.identity = identity;
        let app = rig.start().await;
        rig.sweep_and_settle(&app).await;
        let active = active(&rig, &lane);
        assert_eq!(active.len(), open.len(), "{identity:?}");
        let begins =
            if identity == Identity::Node { "patchferry/" } else { "arn:aws:patchmanager:" };
        assert!(active.iter().all(|finding| finding.id.starts_with(begins)), "{identity:?}");
        rig.assert_accounted(&app).await;
        app.shutdown().await.unwrap();
    }
    assert_eq!(rig.control.stats(&lane).ignored_updates, 0, "a version was too old for the hub");
    rig.assert_rules_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_waits_under_the_old_name_is_never_told() {
    let (mut rig, lane, open) = told(134).await;
    rig.control.set_fault(imports(), Some(Fault::Outage));
    let severities = SeverityCounts { critical: 1, ..SeverityCounts::default() };
    for node in &open[..3] {
        rig.control.make_non_compliant(&lane, node, 40, severities).unwrap();
    }
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "a backlog", |queues, _| queues.accounting().queued.outbox == 3).await;
    app.shutdown().await.unwrap();
    rig.config.finding.identity = Identity::Operation;
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "both names to wait", |queues, _| {
        let queued = queues.accounting().queued;
        queued.total() == queued.outbox + queued.delayed
            && queued.total() == 2 * i64::try_from(open.len()).unwrap()
    })
    .await;
    rig.control.clear_faults();
    rig.settle(&app).await;
    for node in &open[..3] {
        let hub = rig.control.hub(&lane).into_iter();
        let of_node: Vec<_> = hub.filter(|it| it.resource_id.ends_with(node)).collect();
        let closed = of_node.iter().find(|it| it.id.starts_with("patchferry/")).unwrap();
        assert_eq!((closed.record_state.as_str(), closed.imports), ("ARCHIVED", 2));
    }
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_product_that_is_mended_leaves_every_finding_under_the_right_one() {
    let (mut rig, lane, open) = told(135).await;
    let mistyped = "arn:aws:securityhub:us-east-1:111122223333:product/111122223333/defualt";
    rig.config.finding.product_arn = Some(mistyped.into());
    let app = rig.start().await;
    rig.sweep(&app).await;
    rig.wait_for(&app, "the old ones to be closed", |_, control| {
        control.hub(&lane).iter().all(|it| it.record_state == "ARCHIVED")
    })
    .await;
    app.shutdown().await.unwrap();
    rig.config.finding.product_arn = None;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    assert_eq!(active(&rig, &lane).len(), open.len());
    // All but the rules: the mistyped product broke them.
    rig.assert_accounted(&app).await;
    let by_hub = (Stage::Deliver, Reason::RejectedByHub);
    assert!(
        app.queues().dead_counts().into_keys().all(|place| place == by_hub),
        "nothing else died"
    );
    assert_eq!(rig.control.differences_total(), Vec::<String>::new());
    app.shutdown().await.unwrap();
}
