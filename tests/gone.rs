//! Nodes that are gone: their findings are resolved once that is proven, and never because a node
//! was merely absent.

mod absent;
mod guard;
mod proof;
mod refresh;
mod sequences;
mod trouble;

use patchferry::{
    app::App,
    record::Lane,
    simulator::{
        Control, FleetConfig, FleetNode, HubFinding, Scope, Service, SimLane, SimulatorConfig,
    },
};

use crate::harness::{ACCOUNT, REGION, Rig, clock::MovableClock, finding_of, lane, metric};

const ASKED: &str = "GetResource";

/// The rig's lane in the product's terms.
fn ours(rig: &Rig) -> Lane {
    lane(&rig.only_lane())
}

/// A rig whose fleet has so many nodes, each of them with a finding.
async fn rig(seed: u64, nodes: usize, hybrid_share: f64, clock: &MovableClock) -> Rig {
    let fleet =
        FleetConfig { nodes, hybrid_share, non_compliant_share: 1.0, never_scanned_share: 0.0 };
    let simulator = SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet);
    let mut rig = Rig::with_clock(simulator, clock).await.without_quota();
    rig.config.ingest.patch_details = false;
    rig
}

/// As [`rig`], started, with every finding told.
async fn settled(seed: u64, nodes: usize, hybrid_share: f64) -> (Rig, App, SimLane) {
    let rig = rig(seed, nodes, hybrid_share, &MovableClock::default()).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    (rig, app, lane)
}

fn nodes(rig: &Rig, lane: &SimLane, are_hybrid: bool) -> Vec<String> {
    let wanted = |node: &FleetNode| node.is_hybrid == are_hybrid;
    rig.control.fleet(lane).into_iter().filter(wanted).map(|node| node.id).collect()
}

fn held(rig: &Rig, lane: &SimLane, node: &str) -> HubFinding {
    finding_of(&rig.control, lane, node).expect("the node has a finding")
}

fn assert_open(rig: &Rig, lane: &SimLane, node: &str) {
    let finding = held(rig, lane, node);
    let state = (finding.record_state.as_str(), finding.compliance_status.as_str());
    assert_eq!(state, ("ACTIVE", "FAILED"), "{node}");
}

/// Resolved as gone, for the reason that `reason` is a part of.
fn assert_gone(rig: &Rig, lane: &SimLane, node: &str, reason: &str) {
    let finding = held(rig, lane, node);
    let state = (finding.record_state.as_str(), finding.compliance_status.as_str());
    assert_eq!(state, ("ARCHIVED", "NOT_AVAILABLE"), "{node}");
    assert!(finding.json.contains("NODE_GONE"), "{}", finding.json);
    assert!(finding.json.contains(reason), "{reason} isn't in {}", finding.json);
}

fn cloud_control() -> Scope {
    Scope::of(Service::CloudControl)
}

fn ssm() -> Scope {
    Scope::of(Service::Ssm)
}

fn asked(control: &Control, lane: &SimLane) -> u64 {
    control.stats(lane).requests.get(ASKED).copied().unwrap_or(0)
}

fn counted(app: &App, outcome: &str) -> u64 {
    metric(app, &format!("patchferry_cloud_control_requests_total{{outcome=\"{outcome}\"}}"))
}

/// What the last complete sweep withheld.
fn withheld(app: &App) -> usize {
    app.lanes()[0].sweeps.borrow().gone.withheld
}
