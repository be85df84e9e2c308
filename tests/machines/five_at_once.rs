//! Five lanes in five kinds of trouble, at once, and three without any: these go on as if they
//! were alone. Then everything heals, and all is true.

use std::collections::BTreeMap;

use patchferry::{
    app::App,
    metrics::LaneState,
    queue::{DeadFilter, ReadBack},
    simulator::{
        Fault, FleetConfig, HubFinding, Quotas, Scope, Service, SimLane, SimulatorConfig, Stats,
    },
};

use crate::harness::{ACCOUNT, Rig, lane as real_lane};

const OTHER_ACCOUNT: &str = "444455556666";
const NODES: usize = 120;
const SEED: u64 = 421;

/// Whose credentials are refused.
const HELD: (&str, &str) = (OTHER_ACCOUNT, "us-east-1");
const OUTAGE: (&str, &str) = (ACCOUNT, "us-east-2");
const THROTTLED: (&str, &str) = (ACCOUNT, "us-west-2");
const POISONED: (&str, &str) = (ACCOUNT, "eu-west-1");
/// Whose hub can't be read back.
const HANGING: (&str, &str) = (ACCOUNT, "eu-west-2");
const HEALTHY: [(&str, &str); 3] =
    [(ACCOUNT, "us-east-1"), (ACCOUNT, "eu-central-1"), (ACCOUNT, "ap-southeast-2")];

fn sim((account, region): (&str, &str)) -> SimLane {
    SimLane::new(account, region)
}

async fn rig() -> Rig {
    let fleet = FleetConfig {
        nodes: NODES,
        hybrid_share: 0.1,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let lanes = [HELD, OUTAGE, THROTTLED, POISONED, HANGING].into_iter().chain(HEALTHY);
    let simulator = lanes.fold(SimulatorConfig::new(SEED), |simulator, (account, region)| {
        simulator.lane(account, region, fleet)
    });
    let mut rig = Rig::new(simulator).await;
    rig.config.ingest.patch_details = false;
    rig
}

fn lay_trouble(rig: &Rig) {
    let control = &rig.control;
    let hub = || Scope::of(Service::SecurityHub);
    control.set_fault(Scope::of(Service::Sts).lane(&sim(HELD)), Some(Fault::AccessDenied));
    control.set_fault(hub().lane(&sim(OUTAGE)), Some(Fault::Outage));
    let imports = hub().operation("BatchImportFindings").lane(&sim(THROTTLED));
    control.set_fault(imports, Some(Fault::Throttle { ratio: 0.95 }));
    let reads = hub().operation("GetFindings").lane(&sim(HANGING));
    control.set_fault(reads, Some(Fault::NeverAnswer));
    let poisoned = control.fleet(&sim(POISONED)).into_iter().take(5).map(|node| node.id);
    control.poison(&sim(POISONED), poisoned);
    control.set_quotas(&sim(THROTTLED), &Quotas::UNLIMITED);
}

/// Until the lanes without trouble have told their hubs everything, and have been read a second
/// time, which the end of a first start's read-back asks for.
async fn until_healthy_are_done(rig: &Rig, app: &App) {
    for name in HEALTHY {
        let lane = sim(name);
        let served = app.lane(&real_lane(&lane)).expect("a lane that is served");
        let mut sweeps = served.sweeps.clone();
        let swept = sweeps.wait_for(|status| status.complete > 0);
        crate::harness::within(swept, "a complete sweep").await.expect("the lane's task lives");
        rig.wait_for(app, "a healthy lane to be done", |_, control| {
            control.differences(&lane).is_empty()
        })
        .await;
    }
}

/// What a lane did, as far as it doesn't depend on which of its own tasks was first: requests to
/// read the fleet, versions that the hub took, and what it holds of each node.
type Doings = (BTreeMap<String, u64>, u64, u64, Vec<(String, String, u32)>);

fn doings(rig: &Rig, lane: &SimLane) -> Doings {
    let Stats { requests, accepted, failed_findings, .. } = rig.control.stats(lane);
    let listed = requests.into_iter().filter(|(operation, _)| operation.starts_with("List"));
    let told = |finding: HubFinding| (finding.id, finding.severity_label, finding.imports);
    let hub = rig.control.hub(lane).into_iter().map(told).collect();
    (listed.collect(), accepted, failed_findings, hub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_beside_five_in_trouble_do_what_they_do_alone() {
    let quiet = rig().await;
    let app = quiet.start().await;
    until_healthy_are_done(&quiet, &app).await;
    let alone: Vec<Doings> = HEALTHY.iter().map(|name| doings(&quiet, &sim(*name))).collect();
    app.shutdown().await.unwrap();

    let rig = rig().await;
    lay_trouble(&rig);
    let app = rig.start().await;
    until_healthy_are_done(&rig, &app).await;
    let beside: Vec<Doings> = HEALTHY.iter().map(|name| doings(&rig, &sim(*name))).collect();
    assert_eq!(beside, alone);
    for name in HEALTHY {
        let served = app.lane(&real_lane(&sim(name))).unwrap();
        assert_eq!(served.view.borrow().state, LaneState::Flowing, "{name:?}");
    }

    // The five are in trouble all the while.
    let state = |name| app.lane(&real_lane(&sim(name))).unwrap().view.clone();
    let held = |state: &LaneState| matches!(state, LaneState::Held(_));
    crate::harness::within(state(HELD).wait_for(|view| held(&view.state)), "a held lane")
        .await
        .unwrap();
    rig.wait_for_state(&app, &sim(OUTAGE), LaneState::BackingOff).await;
    rig.wait_for(&app, "throttled requests", |_, control| {
        control.stats(&sim(THROTTLED)).throttled > 0
    })
    .await;
    rig.wait_for(&app, "dead letters", |queues, _| queues.accounting().dead == 5).await;
    let hanging = app.queues().read_back_state(&real_lane(&sim(HANGING))).await.unwrap();
    assert_eq!(hanging, ReadBack::Pending);
    assert_eq!(rig.control.stats(&sim(HANGING)).import_requests, 0, "sent before it was read back");

    heals(&rig, app).await;
}

async fn heals(rig: &Rig, app: App) {
    rig.control.clear_faults();
    rig.control.poison(&sim(POISONED), Vec::<String>::new());
    let (redriven, _) = app.queues().redrive(DeadFilter::default(), None, 0).await.unwrap();
    assert_eq!(redriven.letters, 5);
    app.sweep_now();
    rig.sweep(&app).await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    super::assert_nothing_went_back(&rig.control);
    app.shutdown().await.unwrap();
}
