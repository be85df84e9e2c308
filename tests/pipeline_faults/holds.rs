//! Sending can't succeed until somebody acts: the lane is held with its reason, charges nobody,
//! and resumes by itself.

use patchferry::{
    metrics::{HoldReason, LaneState},
    simulator::{Fault, FleetConfig, Scope, Service, SimulatorConfig},
};

use super::{assert_no_attempt_was_charged, rig_of_findings};
use crate::harness::{ACCOUNT, REGION, Rig, hub_requests};

const OTHER_ACCOUNT: &str = "444455556666";

async fn holds_the_lane(fault: Fault, reason: HoldReason) {
    let rig = rig_of_findings(61, 150).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let read_back_before = rig.control.stats(&lane).requests["GetFindings"];

    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(fault.clone()));
    rig.control.rescan(&lane, 0.9);
    rig.sweep(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Held(reason)).await;
    assert!(hub_requests(&app, "held") >= 1);
    let note = app.lanes()[0].view.borrow().note.clone();
    assert!(note.is_some_and(|note| !note.is_empty()), "no reason is shown");
    let waiting = app.queues().accounting().queued.total();
    assert!(waiting > 0);

    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    // A read-back may have nodes observed anew.
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    assert_no_attempt_was_charged(&rig, &app).await;
    let read_back = rig.control.stats(&lane).requests["GetFindings"] > read_back_before;
    assert_eq!(read_back, fault == Fault::HubOff, "read back what the hub holds");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_credentials_hold_the_lane_until_there_are_others() {
    holds_the_lane(Fault::ExpiredToken, HoldReason::Credentials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_holds_the_lane_until_it_is_granted() {
    holds_the_lane(Fault::AccessDenied, HoldReason::Permission).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_off_holds_the_lane_and_is_read_back_when_it_is_on() {
    holds_the_lane(Fault::HubOff, HoldReason::HubOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_forgot_everything_while_it_was_off_is_told_everything() {
    let rig = rig_of_findings(62, 120).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;

    rig.control.set_fault(Scope::of(Service::SecurityHub), Some(Fault::HubOff));
    let first = rig.control.fleet(&lane)[0].id.clone();
    rig.control.make_compliant(&lane, &first).unwrap();
    rig.sweep(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Held(HoldReason::HubOff)).await;
    rig.control.empty_hub(&lane);
    rig.control.clear_faults();
    rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    rig.settle(&app).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    assert_eq!(rig.control.hub(&lane).iter().filter(|it| it.record_state == "ACTIVE").count(), 119);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_another_account_read_nothing_and_send_nothing() {
    let simulator = SimulatorConfig::new(63).lane(OTHER_ACCOUNT, REGION, FleetConfig::of(20)).lane(
        ACCOUNT,
        REGION,
        FleetConfig::of(20),
    );
    let mut rig = Rig::new(simulator).await;
    let lanes = rig.config.lanes.as_mut().unwrap();
    lanes.retain(|config| config.lane.account.as_str() == OTHER_ACCOUNT);
    lanes[0].role = None;
    let app = rig.start().await;
    let foreign = rig
        .control
        .lanes()
        .into_iter()
        .find(|lane| lane.account() == OTHER_ACCOUNT)
        .expect("it was configured");
    rig.wait_for_state(&app, &foreign, LaneState::Held(HoldReason::ForeignAccount)).await;
    let mut sweeps = app.lanes()[0].sweeps.clone();
    sweeps.wait_for(|status| status.failure.is_some()).await.unwrap();

    assert_eq!(app.queues().accounting().accepted, 0);
    let requests = rig.control.stats_total().requests;
    let asked: Vec<&String> = requests.keys().collect();
    assert_eq!(asked, ["GetCallerIdentity"]);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sts_at_the_start_the_lane_backs_off_and_begins_when_it_is_there() {
    let rig = Rig::one_lane(64, 100).await;
    let lane = rig.only_lane();
    rig.control.set_fault(Scope::of(Service::Sts), Some(Fault::Outage));
    let app = rig.start().await;
    rig.wait_for_state(&app, &lane, LaneState::BackingOff).await;
    assert_eq!(app.queues().accounting().accepted, 0);
    assert_eq!(rig.control.stats(&lane).import_requests, 0);
    rig.control.clear_faults();
    rig.sweep_and_settle(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_s_session_that_expires_early_is_renewed() {
    let simulator = SimulatorConfig::new(65).lane(OTHER_ACCOUNT, REGION, FleetConfig::of(100));
    let rig = Rig::new(simulator).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;

    rig.control.expire_sessions();
    rig.control.rescan(&lane, 1.0);
    let mut sweeps = app.lanes()[0].sweeps.clone();
    app.sweep_now();
    sweeps.wait_for(|status| status.failure.is_some()).await.unwrap();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
