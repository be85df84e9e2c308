//! Whatever happens in whatever order, no node that exists is ever resolved as gone, and once all is
//! well again those that are gone are.

use std::{collections::BTreeSet, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use patchferry::simulator::{Fault, Scope};

use super::{Rig, SimLane, cloud_control, rig, ssm};
use crate::harness::{clock::MovableClock, within};

/// Few: each is a whole daemon.
const CASES: u32 = 8;
const NODES: usize = 24;
const SEED: [u8; 32] = *b"patchferry: nodes come and go...";

#[derive(Clone, Debug)]
enum Step {
    Stop(usize),
    Start(usize),
    /// SSM says nothing more of the node, which may or may not run.
    Forget(usize),
    Terminate(usize),
    Remove(usize),
    FaultOn(usize),
    FaultsOff,
    Days(u64),
    Sweep,
    Restart,
}

fn faults() -> Vec<(Scope, Fault)> {
    let information = || ssm().operation("DescribeInstanceInformation");
    let summaries = || ssm().operation("ListResourceComplianceSummaries");
    vec![
        (ssm(), Fault::Empty200),
        (information(), Fault::Empty200),
        (summaries(), Fault::Empty200),
        (information(), Fault::Outage),
        (summaries(), Fault::Truncated200),
        (ssm(), Fault::Throttle { ratio: 0.3 }),
        (cloud_control(), Fault::Outage),
        (cloud_control(), Fault::Empty200),
        (cloud_control(), Fault::Html200),
        (cloud_control(), Fault::Throttle { ratio: 0.5 }),
        (cloud_control(), Fault::AccessDenied),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..NODES).prop_map(Step::Stop),
        2 => (0..NODES).prop_map(Step::Start),
        3 => (0..NODES).prop_map(Step::Forget),
        2 => (0..NODES).prop_map(Step::Terminate),
        1 => (0..NODES).prop_map(Step::Remove),
        4 => (0..faults().len()).prop_map(Step::FaultOn),
        2 => Just(Step::FaultsOff),
        1 => (0_u64..3).prop_map(Step::Days),
        6 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 12..24)
}

/// One sweep, complete or not.
async fn sweep(rig: &Rig, app: &patchferry::app::App) {
    let mut sweeps = app.lanes()[0].sweeps.clone();
    let (complete, failure) = {
        let before = sweeps.borrow_and_update();
        (before.complete, before.failure.clone())
    };
    app.sweep_now();
    let ended = sweeps.wait_for(|now| now.complete > complete || now.failure != failure);
    // One that fails as the one before did shows no end.
    let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
    rig.settle(app).await;
}

/// Nodes of the fleet whose findings are resolved as gone although they exist.
fn wronged(rig: &Rig, lane: &SimLane, gone: &BTreeSet<String>) -> Vec<String> {
    let hub = rig.control.hub(lane).into_iter();
    hub.filter(|finding| finding.compliance_status == "NOT_AVAILABLE")
        .filter_map(|finding| finding.resource_id.rsplit('/').next().map(ToOwned::to_owned))
        .filter(|node| !gone.contains(node))
        .collect()
}

async fn carry_out(seed: u64, steps: Vec<Step>) {
    let clock = MovableClock::default();
    let rig = rig(seed, NODES, 0.4, &clock).await;
    let lane = rig.only_lane();
    let ids: Vec<String> = rig.control.fleet(&lane).into_iter().map(|node| node.id).collect();
    let mut gone = BTreeSet::new();
    let mut app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    for step in steps {
        match step {
            Step::Stop(index) if !gone.contains(&ids[index]) => {
                rig.control.stop_node(&lane, &ids[index]).unwrap();
            }
            Step::Start(index) if !gone.contains(&ids[index]) => {
                rig.control.start_node(&lane, &ids[index]).unwrap();
                rig.control.remember_compliance(&lane, &ids[index]).unwrap();
            }
            Step::Forget(index) => drop(rig.control.forget_compliance(&lane, &ids[index])),
            Step::Terminate(index) if gone.insert(ids[index].clone()) => {
                rig.control.terminate_node(&lane, &ids[index]).unwrap();
            }
            Step::Remove(index) => {
                gone.insert(ids[index].clone());
                drop(rig.control.remove_node(&lane, &ids[index]));
            }
            Step::Stop(_) | Step::Start(_) | Step::Terminate(_) => {}
            Step::FaultOn(index) => {
                let (scope, fault) = faults().swap_remove(index);
                rig.control.set_fault(scope, Some(fault));
            }
            Step::FaultsOff => rig.control.clear_faults(),
            Step::Days(days) => clock.advance(Duration::from_secs(days * 86_400)),
            Step::Sweep => sweep(&rig, &app).await,
            Step::Restart => app = rig.restart(app).await,
        }
        assert_eq!(app.queues().accounting().imbalance(), 0);
        let wronged = wronged(&rig, &lane, &gone);
        assert!(wronged.is_empty(), "resolved as gone, but they exist: {wronged:?}");
    }
    rig.control.clear_faults();
    // A denial is remembered for a day.
    clock.advance(Duration::from_secs(86_400 + 60));
    for _ in 0..3 {
        rig.sweep_and_settle(&app).await;
        app.lanes()[0].accept_gone();
    }
    rig.sweep_and_settle(&app).await;
    assert!(wronged(&rig, &lane, &gone).is_empty());
    rig.assert_true(&app).await;
    within(app.shutdown(), "the end").await.unwrap();
}

#[test]
fn no_node_that_exists_is_ever_resolved_as_gone() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    TestRunner::new_with_rng(config, rng)
        .run(&(0_u64..1_000, steps()), |(seed, steps)| {
            runtime.block_on(carry_out(seed, steps));
            Ok(())
        })
        .unwrap();
}
