//! Whatever happens in whatever order, once all is well again the hub holds what the fleet says.

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use patchferry::{
    app::App,
    simulator::{Fault, Scope, Service},
};

use crate::harness::{Rig, imports};

/// Few: each is a whole daemon.
const CASES: u32 = 6;
const SEED: [u8; 32] = *b"patchferry: sequences of trouble";

#[derive(Clone, Debug)]
enum Step {
    Rescan(f64),
    FaultOn(usize),
    FaultsOff,
    Sweep,
    Restart,
}

fn faults() -> Vec<(Scope, Fault)> {
    let partial = |code: &str| Fault::Partial { ratio: 0.3, code: code.into() };
    vec![
        (imports(), Fault::Outage),
        (imports(), Fault::AccessDenied),
        (imports(), Fault::LostReply { ratio: 0.5 }),
        (imports(), Fault::Truncated200),
        (imports(), Fault::Empty200),
        (imports(), partial("InternalFailure")),
        (imports(), Fault::Throttle { ratio: 0.5 }),
        (imports(), Fault::RejectAll),
        (Scope::of(Service::SecurityHub), Fault::HubOff),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0.2_f64..1.0).prop_map(Step::Rescan),
        2 => (0..faults().len()).prop_map(Step::FaultOn),
        1 => Just(Step::FaultsOff),
        3 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 4..9)
}

async fn carry_out(seed: u64, steps: Vec<Step>) {
    let mut rig = Rig::one_lane(seed, 60).await;
    rig.config.ingest.patch_details = false;
    let lane = rig.only_lane();
    let mut app: App = rig.start().await;
    for step in steps {
        match step {
            Step::Rescan(fraction) => {
                rig.control.rescan(&lane, fraction);
            }
            Step::FaultOn(index) => {
                let (scope, fault) = faults().swap_remove(index);
                rig.control.set_fault(scope, Some(fault));
            }
            Step::FaultsOff => rig.control.clear_faults(),
            Step::Sweep => rig.sweep(&app).await,
            Step::Restart => app = rig.restart(app).await,
        }
        assert_eq!(app.queues().accounting().imbalance(), 0);
    }
    rig.control.clear_faults();
    // A sweep that was under way during the last change doesn't know of it; and a hub that was
    // off is told by the sweep after its read-back.
    for _ in 0..2 {
        rig.sweep_and_settle(&app).await;
    }
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[test]
fn any_sequence_of_trouble_ends_with_a_hub_that_holds_what_the_fleet_says() {
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
