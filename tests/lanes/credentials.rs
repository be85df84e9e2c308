//! Roles, external ids and sessions: each lane works with its own account's credentials, and one
//! that can't harms no other.

use patchferry::{
    metrics::{HoldReason, LaneState},
    simulator::{Fault, Scope, Service, SimLane, SimRole, SimulatorConfig},
};

use super::{OTHER_ACCOUNT, THIRD_ACCOUNT, findings};
use crate::harness::{ACCOUNT, REGION, Rig, metric};

fn lane_of(rig: &Rig, account: &str) -> SimLane {
    rig.control.lanes().into_iter().find(|it| it.account() == account).expect("it was configured")
}

fn role(external_id: &str, trusts: &str) -> SimRole {
    SimRole {
        name: "patchferry".into(),
        external_id: Some(external_id.into()),
        trusts: vec![trusts.into()],
    }
}

/// Gives the lane of `account` an external id.
fn bring(rig: &mut Rig, account: &str, external_id: &str) {
    let text = format!(
        "[[lanes]]\naccount = \"{account}\"\nregions = [\"{REGION}\"]\nrole_name = \"patchferry\"\n\
         external_id = \"{external_id}\"\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    std::fs::write(&path, text).unwrap();
    let options = patchferry::config::LoadOptions {
        config: Some(path),
        state_dir: Some("/nowhere".into()),
        ..Default::default()
    };
    let read = patchferry::config::Config::load(&options).unwrap().lanes.unwrap();
    let lanes = rig.config.lanes.as_mut().unwrap();
    lanes.retain(|it| it.lane.account.as_str() != account);
    lanes.extend(read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_whose_role_cannot_be_assumed_harms_no_other() {
    let simulator = SimulatorConfig::new(411)
        .lane(ACCOUNT, REGION, findings(10))
        .lane(OTHER_ACCOUNT, REGION, findings(10))
        .lane(THIRD_ACCOUNT, REGION, findings(10))
        .role(OTHER_ACCOUNT, role("one", ACCOUNT))
        .role(THIRD_ACCOUNT, role("two", ACCOUNT));
    let mut rig = Rig::new(simulator).await;
    bring(&mut rig, OTHER_ACCOUNT, "one");
    bring(&mut rig, THIRD_ACCOUNT, "wrong");
    let app = rig.start().await;
    let held = lane_of(&rig, THIRD_ACCOUNT);
    rig.wait_for_state(&app, &held, LaneState::Held(HoldReason::Permission)).await;
    for account in [ACCOUNT, OTHER_ACCOUNT] {
        let lane = lane_of(&rig, account);
        rig.wait_for(&app, "the other lanes' findings", |_, control| {
            control.hub(&lane).len() == 10
        })
        .await;
    }
    rig.settle(&app).await;
    assert!(rig.control.hub(&held).is_empty());
    let status = app.status().await;
    let attention = status.attention().join("\n");
    assert!(attention.contains(THIRD_ACCOUNT) && !attention.contains(OTHER_ACCOUNT), "{attention}");
    let note = status.lanes.iter().find_map(|it| it.note.clone()).expect("a reason is shown");
    assert!(note.contains("sts:AssumeRole") && !note.contains("wrong"), "{note}");
    rig.assert_accounted(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_trusts_another_account_is_not_ours_to_assume() {
    let simulator = SimulatorConfig::new(412)
        .lane(OTHER_ACCOUNT, REGION, findings(10))
        .role(OTHER_ACCOUNT, role("one", THIRD_ACCOUNT));
    let mut rig = Rig::new(simulator).await;
    bring(&mut rig, OTHER_ACCOUNT, "one");
    let app = rig.start().await;
    let held = rig.only_lane();
    rig.wait_for_state(&app, &held, LaneState::Held(HoldReason::Permission)).await;
    assert_eq!(app.queues().accounting().accepted, 0);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_renewed_before_it_expires_so_that_no_request_fails() {
    let simulator = SimulatorConfig::new(413).lane(OTHER_ACCOUNT, REGION, findings(60));
    let rig = Rig::new(simulator).await;
    let lane = rig.only_lane();
    let assumed = |rig: &Rig| rig.control.stats_total().requests["AssumeRole"];
    // Within the margin from the first moment on: due for renewal whenever it is used.
    rig.control.set_session_seconds(Some(30));
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let first = assumed(&rig);
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    let second = assumed(&rig);
    assert!(second > first, "{first} sessions, then {second}");

    rig.control.set_session_seconds(None);
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    let third = assumed(&rig);
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    assert_eq!(assumed(&rig), third, "a session that holds is used by all of the lane's clients");
    for operation in ["DescribeInstanceInformation", "ListResourceComplianceSummaries"] {
        let denied = format!(
            "patchferry_ssm_requests_total{{operation=\"{operation}\",outcome=\"denied\"}}"
        );
        assert_eq!(metric(&app, &denied), 0);
    }
    assert_eq!(metric(&app, "patchferry_hub_requests_total{outcome=\"held\"}"), 0);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_at_hand_are_used_while_sts_is_away() {
    let simulator = SimulatorConfig::new(414).lane(OTHER_ACCOUNT, REGION, findings(20));
    let rig = Rig::new(simulator).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.control.set_fault(Scope::of(Service::Sts), Some(Fault::Outage));
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
