//! The whole pipeline against the simulator, through every fault of the outcome table.
//!
//! After each: the accounting balances, the hub holds exactly what the fleet says, nothing was
//! sent beyond quota; and something that only this fault shows proves that it was met.

mod holds;
mod ledger_lost;
mod odd_answers;
mod outage;
mod partial;
mod pauses;
mod poison;
mod quota;
mod restart;
mod sequences;
mod sweeps;

use patchferry::{
    app::App,
    simulator::{FleetConfig, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_fleet_says_is_what_the_hub_holds() {
    let rig = Rig::one_lane(1, 400).await;
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    for lane in rig.control.lanes() {
        rig.control.rescan(&lane, 0.5);
    }
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

/// A fleet in which every node has been scanned and has something missing.
fn all_non_compliant(nodes: usize) -> FleetConfig {
    FleetConfig { nodes, hybrid_share: 0.1, non_compliant_share: 1.0, never_scanned_share: 0.0 }
}

/// One lane in which every node has a finding; patch lists aren't read, which makes it fast.
async fn rig_of_findings(seed: u64, findings: usize) -> Rig {
    let fleet = all_non_compliant(findings);
    let mut rig = Rig::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet)).await;
    rig.config.ingest.patch_details = false;
    rig
}

/// No finding has been charged for what was the hub's fault.
async fn assert_no_attempt_was_charged(rig: &Rig, app: &App) {
    for lane in rig.control.lanes() {
        for receipt in rig.receipts(app, &lane).await {
            assert_eq!(receipt.attempts, 1, "{receipt:?}");
        }
    }
}
