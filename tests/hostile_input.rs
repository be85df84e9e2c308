//! Input that makes no sense.
//!
//! Here: SSM answers, through the whole product: refused with a reason and kept whole, or put right
//! and counted; never does anything else suffer. In the modules: everything else that comes from
//! outside or from the disk, by the thousand, mutated from what is valid: no panic, ever.

mod answers;
mod configs;
mod findings;
mod lines;
mod messages;
pub mod mutation;
mod records;

use patchferry::{
    app::App,
    queue::DeadFilter,
    record::{DeadLetter, Reason, Stage, dead_letter::DeadItem},
    simulator::{FleetConfig, Nonsense, SeverityCounts, SimLane, SimulatorConfig},
};

use crate::harness::{ACCOUNT, REGION, Rig, finding_of, metric};

const EVERY_NONSENSE: [Nonsense; 9] = [
    Nonsense::BadInstanceId,
    Nonsense::NegativeCount,
    Nonsense::HugeCount,
    Nonsense::UnknownStatus,
    Nonsense::AncientTime,
    Nonsense::FutureTime,
    Nonsense::CountsDisagree,
    Nonsense::UnknownPatchState,
    Nonsense::NoOperation,
];

/// Why a node that is corrupt so is refused; `None` if it is put right.
fn refusal(nonsense: Nonsense) -> Option<Reason> {
    match nonsense {
        Nonsense::BadInstanceId => Some(Reason::InvalidNodeId),
        Nonsense::NegativeCount => Some(Reason::NegativeCount),
        Nonsense::UnknownStatus => Some(Reason::UnknownStatus),
        Nonsense::HugeCount
        | Nonsense::AncientTime
        | Nonsense::FutureTime
        | Nonsense::CountsDisagree
        | Nonsense::UnknownPatchState
        | Nonsense::NoOperation => None,
    }
}

async fn rig(seed: u64, nodes: usize) -> (Rig, SimLane) {
    let fleet = FleetConfig {
        nodes,
        hybrid_share: 0.2,
        non_compliant_share: 1.0,
        never_scanned_share: 0.0,
    };
    let rig = Rig::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, fleet)).await;
    let lane = rig.only_lane();
    (rig.without_quota(), lane)
}

async fn dead_letters(app: &App) -> Vec<DeadLetter> {
    app.queues().dead_letters(DeadFilter::default(), 10_000).await.unwrap()
}

fn corrections(app: &App, kind: &str) -> u64 {
    metric(app, &format!("patchferry_corrections_total{{kind=\"{kind}\"}}"))
}

/// A fleet of ten in which one makes no sense; that one.
async fn one_corrupt_node(nonsense: Nonsense) -> (Rig, SimLane, String, App) {
    let (rig, lane) = rig(101, 10).await;
    let node = rig.control.fleet(&lane)[4].id.clone();
    let severities = SeverityCounts { high: 2, ..SeverityCounts::default() };
    rig.control.make_non_compliant(&lane, &node, 5, severities).unwrap();
    rig.control.corrupt_node(&lane, &node, Some(nonsense)).unwrap();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    (rig, lane, node, app)
}

async fn is_refused(nonsense: Nonsense, shown: &str) {
    let (rig, lane, node, app) = one_corrupt_node(nonsense).await;
    rig.assert_true_with_dead(&app, 1).await;
    let letters = dead_letters(&app).await;
    let letter = &letters[0];
    assert_eq!(Some(letter.reason), refusal(nonsense));
    assert_eq!(letter.stage, Stage::Validate);
    assert!(letter.node.as_str().ends_with(&node), "{letter:?}");
    assert!(letter.message.as_str().contains(shown), "{:?} doesn't say {shown}", letter.message);
    let DeadItem::Observation { observation, .. } = &letter.item else {
        panic!("the observation isn't kept: {letter:?}")
    };
    assert!(observation.compliance.is_some(), "the facts as read aren't kept");
    assert!(finding_of(&rig.control, &lane, &node).is_none());
    assert_eq!(rig.control.stats(&lane).accepted, 9);

    // Seen again unchanged it is no news; mended it is told.
    rig.sweep_and_settle(&app).await;
    rig.control.corrupt_node(&lane, &node, None).unwrap();
    rig.sweep_and_settle(&app).await;
    let dead = app.queues().accounting().dead;
    rig.assert_true_with_dead(&app, dead).await;
    assert!(finding_of(&rig.control, &lane, &node).is_some());
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_id_that_is_none_is_refused() {
    is_refused(Nonsense::BadInstanceId, "no-node").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negative_count_is_refused() {
    is_refused(Nonsense::NegativeCount, "-3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_nobody_knows_is_refused() {
    is_refused(Nonsense::UnknownStatus, "BANANA").await;
}

/// Delivered after all; the finding's JSON.
async fn is_put_right(nonsense: Nonsense, kind: Option<&str>) -> serde_json::Value {
    let (rig, lane, node, app) = one_corrupt_node(nonsense).await;
    rig.assert_true(&app).await;
    if let Some(kind) = kind {
        assert!(corrections(&app, kind) >= 1, "{nonsense:?} isn't counted as {kind}");
    }
    let finding = finding_of(&rig.control, &lane, &node).expect("it is delivered");
    assert_eq!(
        (finding.record_state.as_str(), finding.compliance_status.as_str()),
        ("ACTIVE", "FAILED")
    );
    assert_eq!(finding.severity_label, "HIGH");
    app.shutdown().await.unwrap();
    serde_json::from_str(&finding.json).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_beyond_asff_s_limit_is_clamped_and_counted() {
    let finding = is_put_right(Nonsense::HugeCount, Some("count_clamped")).await;
    assert_eq!(finding["PatchSummary"]["MissingCount"], 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_in_the_future_becomes_the_time_of_reading_and_is_counted() {
    let finding = is_put_right(Nonsense::FutureTime, Some("future_time")).await;
    let end = finding["PatchSummary"]["OperationEndTime"].as_str().unwrap();
    assert!(end < "2999", "{end}");
    assert!(finding["UpdatedAt"].as_str().unwrap() < "2999");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_of_1970_counts_as_not_given() {
    let finding = is_put_right(Nonsense::AncientTime, None).await;
    assert_eq!(finding["PatchSummary"]["OperationEndTime"], serde_json::Value::Null);
    assert!(finding["UpdatedAt"].as_str().unwrap() > "2000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_counts_and_verdict_disagree_the_verdict_wins_and_that_is_counted() {
    let finding = is_put_right(Nonsense::CountsDisagree, Some("counts_overruled")).await;
    assert_eq!(finding["PatchSummary"]["MissingCount"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_state_that_nobody_knows_is_left_out_of_the_list() {
    let finding = is_put_right(Nonsense::UnknownPatchState, None).await;
    assert!(!finding.to_string().contains("Banana"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_state_without_its_operation_is_told_without_it() {
    let finding = is_put_right(Nonsense::NoOperation, None).await;
    assert_eq!(finding["PatchSummary"]["Operation"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_full_of_nonsense_costs_its_sane_nodes_nothing() {
    let (rig, lane) = rig(102, 220).await;
    let nodes: Vec<String> = rig.control.fleet(&lane).into_iter().map(|node| node.id).collect();
    let mut refused = 0;
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| index % 4 != 0) {
        let nonsense = EVERY_NONSENSE[index % EVERY_NONSENSE.len()];
        refused += i64::from(refusal(nonsense).is_some());
        rig.control.corrupt_node(&lane, node, Some(nonsense)).unwrap();
    }
    assert!(refused > 50);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true_with_dead(&app, refused).await;
    let delivered = u64::try_from(220 - refused).unwrap();
    assert_eq!(rig.control.stats(&lane).accepted, delivered);
    assert_eq!(metric(&app, "patchferry_accounting_imbalance"), 0);
    app.shutdown().await.unwrap();
}
