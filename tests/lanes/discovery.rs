//! Lanes of the organization's accounts, as they appear, vanish, and can't be listed.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use patchferry::{
    app::{App, Options, StartError, round::LaneRound},
    config::{Config, LoadOptions},
    metrics::LaneState,
    record::Shard,
    simulator::{Fault, Scope, Service, SimLane, SimOrganization, SimulatorConfig},
};
use tokio_util::sync::CancellationToken;

use super::{OTHER_ACCOUNT, THIRD_ACCOUNT, findings};
use crate::harness::{ACCOUNT, REGION, Rig, lane};

/// Three accounts, two of them active in the organization.
async fn rig(seed: u64) -> Rig {
    let accounts = [(ACCOUNT, "ACTIVE"), (OTHER_ACCOUNT, "ACTIVE"), (THIRD_ACCOUNT, "SUSPENDED")];
    let mut simulator = SimulatorConfig::new(seed);
    for (account, _) in accounts {
        simulator = simulator.lane(account, REGION, findings(8));
    }
    simulator.organization = SimOrganization {
        readers: vec![ACCOUNT.into()],
        accounts: accounts
            .iter()
            .map(|(id, state)| ((*id).to_string(), (*state).to_string()))
            .collect(),
    };
    let mut rig = Rig::new(simulator).await;
    let text = format!(
        "[discovery]\norganization = true\nregions = [\"{REGION}\"]\nrole_name = \"patchferry\"\n\
         interval = \"1s\"\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("patchferry.toml");
    std::fs::write(&path, text).unwrap();
    let options = LoadOptions {
        config: Some(path),
        state_dir: Some("/nowhere".into()),
        ..LoadOptions::default()
    };
    rig.config.discovery = Config::load(&options).unwrap().discovery;
    rig.config.discovery.as_mut().unwrap().interval = Duration::from_millis(50);
    rig.config.lanes = None;
    rig
}

fn in_hub(rig: &Rig, account: &str) -> usize {
    let lane = SimLane::new(account, REGION);
    rig.control.hub(&lane).iter().filter(|finding| finding.record_state == "ACTIVE").count()
}

async fn served(rig: &Rig, app: &App, accounts: &[&str]) {
    rig.wait_for(app, "the lanes of these accounts to be served", |_, _| {
        let lanes = app.lanes();
        let served: Vec<&str> = lanes.iter().map(|it| it.lane.account.as_str()).collect();
        served == accounts
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_appear_get_lanes_and_those_that_vanish_are_orphaned_with_nothing_lost() {
    let rig = rig(431).await;
    let app = rig.start().await;
    served(&rig, &app, &[ACCOUNT, OTHER_ACCOUNT]).await;
    rig.wait_for(&app, "their findings", |_, _| {
        in_hub(&rig, ACCOUNT) == 8 && in_hub(&rig, OTHER_ACCOUNT) == 8
    })
    .await;
    assert_eq!(in_hub(&rig, THIRD_ACCOUNT), 0);

    rig.control.set_account_state(THIRD_ACCOUNT, Some("ACTIVE"));
    served(&rig, &app, &[ACCOUNT, OTHER_ACCOUNT, THIRD_ACCOUNT]).await;
    rig.wait_for(&app, "its findings", |_, _| in_hub(&rig, THIRD_ACCOUNT) == 8).await;

    rig.control.set_account_state(OTHER_ACCOUNT, Some("SUSPENDED"));
    rig.control.set_account_state(THIRD_ACCOUNT, None);
    served(&rig, &app, &[ACCOUNT]).await;
    let status = app.status().await;
    for account in [OTHER_ACCOUNT, THIRD_ACCOUNT] {
        let orphan = status.lanes.iter().find(|it| it.lane.account.as_str() == account).unwrap();
        assert_eq!((orphan.state, orphan.open_findings.total()), (LaneState::Orphaned, 8));
        assert_eq!(in_hub(&rig, account), 8, "nothing is resolved");
    }
    assert!(status.attention().join("\n").contains("patchferry lanes retire"));

    let reads_back = || {
        let stats = rig.control.stats(&SimLane::new(OTHER_ACCOUNT, REGION));
        stats.requests.get("GetFindings").copied().unwrap_or_default()
    };
    let before = reads_back();
    rig.control.set_account_state(OTHER_ACCOUNT, Some("ACTIVE"));
    served(&rig, &app, &[ACCOUNT, OTHER_ACCOUNT]).await;
    rig.wait_for(&app, "its hub to be read back", |_, _| reads_back() > before).await;
    rig.settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_list_serves_while_the_organization_cannot_be_read() {
    let rig = rig(432).await;
    let app = rig.start().await;
    served(&rig, &app, &[ACCOUNT, OTHER_ACCOUNT]).await;
    rig.settle(&app).await;
    app.shutdown().await.unwrap();
    let kept = rig.state_dir().join("discovery.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    rig.control.set_fault(Scope::of(Service::Organizations), Some(Fault::AccessDenied));
    let app = rig.start().await;
    // At once, before anything was asked.
    assert_eq!(app.lanes().len(), 2);
    rig.control.wait_until(|control| control.stats_total().requests["ListAccounts"] >= 3).await;
    rig.wait_for(&app, "the lanes to flow", |_, _| {
        app.lanes().iter().all(|it| it.view.borrow().state == LaneState::Flowing)
    })
    .await;
    let attention = app.status().await.attention().join("\n");
    assert!(attention.contains("accounts can't be listed, the 2 accounts of"), "{attention}");
    rig.control.clear_faults();
    rig.wait_for(&app, "the list to be read again", |_, control| {
        control.stats_total().requests["ListAccounts"] >= 5
    })
    .await;
    rig.sweep_and_settle(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_list_the_first_start_waits_for_one_and_says_so() {
    let rig = rig(433).await;
    rig.control.set_fault(Scope::of(Service::Organizations), Some(Fault::Outage));
    let app = rig.start().await;
    assert!(app.lanes().is_empty());
    rig.control
        .wait_until(|control| {
            control.stats_total().requests.get("ListAccounts").is_some_and(|asked| *asked >= 2)
        })
        .await;
    let attention = app.status().await.attention().join("\n");
    assert!(attention.contains("none is served yet"), "{attention}");
    rig.control.clear_faults();
    served(&rig, &app, &[ACCOUNT, OTHER_ACCOUNT]).await;
    rig.settle(&app).await;
    assert_eq!(app.status().await.discovery.unwrap().accounts, 2);
    let missing = lane(&SimLane::new(THIRD_ACCOUNT, REGION));
    assert!(app.lane(&missing).is_none());
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_accounts_that_are_found_each_machine_serves_its_own() {
    let mut rig = rig(434).await;
    let mut found = Vec::new();
    for index in 0..2 {
        rig.config.state_dir = rig.config.state_dir.with_file_name(format!("machine-{index}"));
        rig.config.shard.shard = Shard::try_new(index, 2).unwrap();
        let lists = || {
            let requests = rig.control.stats_total().requests;
            requests.get("ListAccounts").copied().unwrap_or_default()
        };
        let before = lists();
        let app = rig.start().await;
        rig.wait_for(&app, "the accounts to be listed", |_, _| lists() >= before + 2).await;
        let status = app.status().await;
        assert_eq!(status.discovery.unwrap().accounts, 2);
        let lanes = app.lanes();
        assert!(lanes.iter().all(|it| rig.config.shard.shard.owns(&it.lane)));
        found.extend(lanes.iter().map(|it| it.lane.account.as_str().to_string()));
        drop(lanes);
        app.shutdown().await.unwrap();
    }
    found.sort();
    assert_eq!(found, [ACCOUNT, OTHER_ACCOUNT], "every lane has one machine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_lists_the_accounts_before_it_starts_and_fails_if_there_is_no_list_at_all() {
    let rig = rig(435).await;
    let start = |state_dir: PathBuf| {
        let mut config = rig.config.clone();
        config.state_dir = state_dir;
        let (aws, clock) = (rig.aws(), rig.clock.clone());
        App::start_for_round(Options { config, aws, clock, listen: false })
    };
    rig.control.set_fault(Scope::of(Service::Organizations), Some(Fault::AccessDenied));
    let without_list = start(rig.state_dir().with_file_name("without-list")).await;
    assert!(matches!(without_list.err(), Some(StartError::Organization(_))));
    rig.control.clear_faults();
    for (is_denied, delivered) in [(false, 16), (true, 0)] {
        let fault = is_denied.then_some(Fault::AccessDenied);
        rig.control.set_fault(Scope::of(Service::Organizations), fault);
        let mut app = start(rig.state_dir()).await.unwrap();
        let stop = CancellationToken::new();
        let round = app.round(Duration::from_secs(60), &stop).await.unwrap();
        assert!(round.lanes.iter().all(LaneRound::is_complete), "{round:?}");
        // There may be accounts that it doesn't know of.
        assert_eq!(round.is_complete(), !is_denied, "{round:?}");
        let failure = round.organization_failure.clone().unwrap_or_default();
        assert_eq!(failure.contains("ListAccounts"), is_denied, "{failure}");
        assert_eq!((round.lanes.len(), round.delivered), (2, delivered), "{round:?}");
        app.shutdown().await.unwrap();
    }
}
