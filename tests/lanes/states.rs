//! Dormant and orphaned lanes: nobody is called for what is meant to be so, and nothing is lost.

use std::time::Duration;

use patchferry::{
    admin::lanes,
    metrics::LaneState,
    simulator::{Fault, Scope, Service, SimulatorConfig},
};

use super::{OTHER_ACCOUNT, findings};
use crate::harness::{ACCOUNT, REGION, Rig, lane};

const OPT_IN_REGION: &str = "me-south-1";

/// Dormant lanes are asked 60 times more rarely than held ones.
fn soon(mut rig: Rig) -> Rig {
    rig.config.deliver.probe_interval = Duration::from_millis(5);
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_whose_region_is_off_is_dormant_calls_nobody_and_begins_by_itself() {
    let simulator = SimulatorConfig::new(401).lane(ACCOUNT, REGION, findings(30)).lane(
        ACCOUNT,
        OPT_IN_REGION,
        findings(20),
    );
    let rig = soon(Rig::new(simulator).await);
    let off = rig.control.lanes().into_iter().find(|it| it.region() == OPT_IN_REGION).unwrap();
    let on = rig.control.lanes().into_iter().find(|it| it.region() == REGION).unwrap();
    rig.control.set_region_off(&off, true);
    let app = rig.start().await;
    rig.wait_for_state(&app, &off, LaneState::Dormant).await;
    rig.wait_for(&app, "the other lane's findings", |_, control| control.hub(&on).len() == 30)
        .await;
    rig.settle(&app).await;

    let status = app.status().await;
    assert_eq!(status.attention(), Vec::<String>::new());
    let shown = lanes::to_text(&status);
    assert!(shown.contains("dormant") && shown.contains("resumes by itself"), "{shown}");
    app.refresh_metrics().await;
    let series = format!(
        "patchferry_lane_state{{account=\"{ACCOUNT}\",region=\"{OPT_IN_REGION}\",state=\"dormant\"}} 1"
    );
    assert!(app.metrics().render().contains(&series));

    rig.control.set_region_off(&off, false);
    rig.wait_for_state(&app, &off, LaneState::Flowing).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_switched_off_is_found_by_a_sweep_and_its_hub_read_back_afterwards() {
    let rig =
        soon(Rig::new(SimulatorConfig::new(402).lane(ACCOUNT, OPT_IN_REGION, findings(20))).await);
    let off = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;

    rig.control.set_region_off(&off, true);
    app.sweep_now();
    rig.wait_for_state(&app, &off, LaneState::Dormant).await;
    assert_eq!(app.status().await.attention(), Vec::<String>::new());
    rig.control.rescan(&off, 0.5);
    rig.control.set_region_off(&off, false);
    rig.wait_for_state(&app, &off, LaneState::Flowing).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_declared_off_makes_a_dormant_lane_that_nobody_reads_until_the_hub_is_on() {
    let mut rig =
        soon(Rig::new(SimulatorConfig::new(403).lane(ACCOUNT, REGION, findings(20))).await);
    rig.config.lanes.as_mut().unwrap()[0].hub_off = true;
    let only = rig.only_lane();
    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(Fault::HubOff));
    let app = rig.start().await;
    rig.wait_for_state(&app, &only, LaneState::Dormant).await;
    rig.control
        .wait_until(|control| control.stats(&only).requests.contains_key("GetFindings"))
        .await;
    rig.wait_for_state(&app, &only, LaneState::Dormant).await;
    assert_eq!(app.status().await.attention(), Vec::<String>::new());
    let requests = rig.control.stats(&only).requests;
    assert!(!requests.contains_key("DescribeInstanceInformation"), "{requests:?}");

    rig.control.clear_faults();
    rig.wait_for_state(&app, &only, LaneState::Flowing).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_no_longer_configured_is_orphaned_keeps_what_waits_and_goes_on_when_it_is_back() {
    let simulator = SimulatorConfig::new(404).lane(ACCOUNT, REGION, findings(10)).lane(
        OTHER_ACCOUNT,
        REGION,
        findings(15),
    );
    let mut rig = Rig::new(simulator).await;
    let app = rig.start_with_backlog().await;
    app.shutdown().await.unwrap();
    let all = rig.config.lanes.clone();
    rig.config.lanes.as_mut().unwrap().retain(|it| it.lane.account.as_str() == ACCOUNT);
    rig.control.clear_faults();
    let orphan = rig.control.lanes().into_iter().find(|it| it.account() != ACCOUNT).unwrap();

    let app = rig.start().await;
    rig.wait_for(&app, "the lane that is left to be settled", |queues, _| {
        queues.accounting().queued.total() == 15
    })
    .await;
    let status = app.status().await;
    let shown = status.lanes.iter().find(|it| it.lane == lane(&orphan)).expect("it is shown");
    assert_eq!((shown.state, shown.outbox_findings), (LaneState::Orphaned, 15));
    assert!(shown.advice().contains("patchferry lanes retire"), "{}", shown.advice());
    let attention = status.attention().join("\n");
    assert!(attention.contains("patchferry lanes retire") && attention.contains(OTHER_ACCOUNT));
    assert!(rig.control.hub(&orphan).is_empty());
    rig.assert_accounted(&app).await;
    app.shutdown().await.unwrap();

    rig.config.lanes = all;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
