//! Many events at once, and events between deaths.

use patchferry::simulator::{
    Fault, FleetConfig, Scope, Service, SeverityCounts, SimQueue, SimulatorConfig,
};

use super::{Fed, QUEUE, events, outcomes, requests};
use crate::harness::{
    ACCOUNT, REGION, Rig,
    child::{EAGER, Site, queued},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_events_becomes_a_sweep_that_began_after_them() {
    let mut fed = Fed::new(461, 600).await;
    fed.rig.config.ingest.patch_details = false;
    let app = fed.start().await;
    // The first is slow, so that the others are there together.
    let items = Scope::of(Service::Ssm).operation("ListComplianceItems");
    let slow = std::time::Duration::from_millis(1_500);
    fed.control().set_fault(items, Some(Fault::Latency { min: slow, max: slow }));
    for index in 0..500 {
        let node = fed.node(index);
        fed.break_node(&node);
        fed.emit(&node);
    }
    fed.rig
        .wait_for(&app, "the storm to end", |_, control| control.deleted(&fed.queue) == 500)
        .await;
    fed.rig.settle(&app).await;
    let ends = outcomes(&app);
    assert!(ends["swept"] >= 300, "{ends:?}");
    let read_alone = requests(fed.control(), "ListComplianceItems");
    assert!(read_alone <= 150, "{read_alone} nodes were read one by one");
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_nodes_that_nobody_knows_has_no_sweep_follow_another() {
    let fed = Fed::new(464, 20).await;
    let app = fed.start().await;
    for index in 0..200 {
        let unknown = format!("i-{index:017x}");
        fed.emit(&unknown);
    }
    fed.rig.wait_for(&app, "them to be put back", |_, _| events(&app, "put_back") >= 200).await;
    let sweeps = app.lanes()[0].sweeps.borrow().complete;
    assert!(sweeps <= 5, "{sweeps} sweeps for nodes that no sweep sees");
    assert_eq!(fed.control().deleted(&fed.queue), 0);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_can_not_be_read_takes_no_room_from_another_of_the_same_queue() {
    let fleet = FleetConfig {
        nodes: 30,
        hybrid_share: 0.0,
        non_compliant_share: 0.0,
        never_scanned_share: 0.0,
    };
    let simulator = SimulatorConfig::new(462)
        .lane(ACCOUNT, REGION, fleet)
        .lane("444455556666", REGION, fleet)
        .queue(ACCOUNT, REGION, QUEUE);
    let fed = Fed::of(Rig::new(simulator).await.without_quota());
    let app = fed.start().await;
    let lanes = fed.control().lanes();
    let (out, well) = (lanes[1].clone(), lanes[0].clone());
    fed.control().set_fault(Scope::of(Service::Ssm).lane(&out), Some(Fault::Outage));
    let levels = SeverityCounts { high: 1, ..SeverityCounts::default() };
    for lane in [&out, &well] {
        for node in fed.control().fleet(lane) {
            fed.control().make_non_compliant(lane, &node.id, 2, levels).unwrap();
            fed.control().emit(lane, &node.id, &patchferry::simulator::SimEvent::PatchCompliance);
        }
    }
    fed.rig
        .wait_for(&app, "the other lane's findings", |_, control| control.hub(&well).len() == 30)
        .await;
    assert!(fed.control().hub(&out).is_empty());
    fed.control().clear_faults();
    fed.drained(&app).await;
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_amid_events_loses_none() {
    let fleet = FleetConfig {
        nodes: 40,
        hybrid_share: 0.1,
        non_compliant_share: 0.0,
        never_scanned_share: 0.0,
    };
    let simulator =
        SimulatorConfig::new(463).lane(ACCOUNT, REGION, fleet).queue(ACCOUNT, REGION, QUEUE);
    let queue = SimQueue::new(ACCOUNT, REGION, QUEUE);
    let config = format!(
        "{}\n[[lanes]]\naccount = \"{ACCOUNT}\"\nregions = [\"{REGION}\"]\n\
         [[sqs]]\nurl = \"{}\"\n",
        EAGER.replace("poll_interval = \"1s\"", "poll_interval = \"1h\""),
        queue.url()
    );
    let site = Site::new(simulator, Some(&config)).await;
    let lane = site.control.lanes()[0].clone();
    let mut daemon = site.start();
    let is_swept = |status: &serde_json::Value| {
        status["lanes"][0]["last_complete_sweep_unix_ms"].is_i64() && queued(status) == 0
    };
    daemon.wait_for_status("the first sweep", is_swept);
    site.control.emit_changes(Some(1.0));
    let levels = SeverityCounts { high: 1, ..SeverityCounts::default() };
    let nodes: Vec<String> = site.control.fleet(&lane).into_iter().map(|it| it.id).collect();
    for some in nodes.chunks(10) {
        for node in some {
            site.control.make_non_compliant(&lane, node, 2, levels).unwrap();
        }
        daemon.kill();
        daemon = site.start();
    }
    crate::harness::within(
        site.control.wait_until(|control| control.differences_total().is_empty()),
        "the hub to hold what the fleet is",
    )
    .await;
    daemon.wait_for_status("everything to be settled", |status| queued(status) == 0);
    daemon.kill();
}
