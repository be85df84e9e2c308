//! Findings that the hub calls invalid: only they die, and nobody dies if all are called so.

use patchferry::{
    app::App,
    metrics::{HoldReason, LaneState},
    queue::DeadFilter,
    record::{DeadLetter, Reason, Stage, dead_letter::DeadItem},
    simulator::{Fault, SeverityCounts, SimLane},
};

use super::{assert_no_attempt_was_charged, rig_of_findings};
use crate::harness::{Rig, finding_of, hub_requests, imports};

async fn dead_letters(app: &App) -> Vec<DeadLetter> {
    app.queues().dead_letters(DeadFilter::default(), 1_000).await.unwrap()
}

/// Once the poison is lifted, a changed fact of the node is told.
async fn is_told_again_when_a_fact_changes(rig: &Rig, app: &App, lane: &SimLane, node: &str) {
    let severities = SeverityCounts { critical: 2, ..SeverityCounts::default() };
    rig.control.make_non_compliant(lane, node, 7, severities).unwrap();
    rig.sweep_and_settle(app).await;
    rig.assert_true_with_dead(app, 1).await;
    let finding = finding_of(&rig.control, lane, node).expect("it is delivered after all");
    assert_eq!(finding.severity_label, "CRITICAL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_full_batch_with_one_poisoned_finding_only_that_one_dies() {
    let rig = rig_of_findings(41, 100).await;
    let lane = rig.only_lane();
    let victim = rig.control.fleet(&lane)[57].id.clone();
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "a full batch", |queues, _| queues.accounting().queued.outbox == 100).await;
    rig.control.poison(&lane, [victim.clone()]);
    let denied = rig.control.stats(&lane).import_requests;
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true_with_dead(&app, 1).await;

    let stats = rig.control.stats(&lane);
    assert_eq!(stats.accepted, 99);
    assert_eq!(stats.failed_findings, 2, "once in its batch, once alone");
    assert!(stats.batch_sizes.contains_key(&100), "{stats:?}");
    assert!(stats.import_requests > denied);
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.stage, letter.reason), (Stage::Deliver, Reason::RejectedByHub));
    assert_eq!(letter.node.as_str(), victim);
    assert!(letter.message.as_str().contains("poisoned by the simulation"), "{letter:?}");
    assert!(matches!(&letter.item, DeadItem::Finding(it) if it.node.as_str() == victim));

    rig.control.poison::<String>(&lane, []);
    is_told_again_when_a_fact_changes(&rig, &app, &lane, &victim).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_invalid_as_a_whole_is_halved_until_the_culprit_is_alone() {
    let rig = rig_of_findings(42, 100).await;
    let lane = rig.only_lane();
    let victim = rig.control.fleet(&lane)[3].id.clone();
    let app = rig.start_with_backlog().await;
    rig.wait_for(&app, "a full batch", |queues, _| queues.accounting().queued.outbox == 100).await;
    rig.control.poison_call(&lane, [victim.clone()]);
    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.assert_true_with_dead(&app, 1).await;

    let stats = rig.control.stats(&lane);
    assert_eq!(stats.accepted, 99);
    // 100, 50, 25, 13 or 12, 7 or 6, 4 or 3, 2 or 1, 1.
    let refused = hub_requests(&app, "invalid");
    assert!((7..=8).contains(&refused), "{refused} calls were called invalid");
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].stage, letters[0].reason), (Stage::Deliver, Reason::RejectedByHub));
    assert_eq!(letters[0].node.as_str(), victim);
    assert!(letters[0].message.as_str().contains("InvalidInputException"), "{:?}", letters[0]);

    rig.control.poison_call::<String>(&lane, []);
    is_told_again_when_a_fact_changes(&rig, &app, &lane, &victim).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_poisoned_findings_among_others_die_and_no_other() {
    let rig = rig_of_findings(43, 150).await;
    let lane = rig.only_lane();
    // More than the twenty rejections in a row that make a lane suspect the hub.
    let victims: Vec<String> =
        rig.control.fleet(&lane).into_iter().step_by(5).map(|node| node.id).collect();
    let dead = i64::try_from(victims.len()).unwrap();
    rig.control.poison(&lane, victims);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true_with_dead(&app, dead).await;
    assert_eq!(rig.control.stats(&lane).accepted, 150 - u64::try_from(dead).unwrap());
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_that_each_invalidate_their_whole_call_die_however_many_they_are() {
    let rig = rig_of_findings(45, 150).await;
    let lane = rig.only_lane();
    // More than the twenty in a row that make a lane suspect the hub, and the first in the line.
    let critical = SeverityCounts { critical: 1, ..SeverityCounts::default() };
    let victims: Vec<String> =
        rig.control.fleet(&lane).into_iter().take(60).map(|node| node.id).collect();
    for node in &victims {
        rig.control.make_non_compliant(&lane, node, 1, critical).unwrap();
    }
    rig.control.poison_call(&lane, victims);
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.assert_true_with_dead(&app, 60).await;
    assert_eq!(rig.control.stats(&lane).accepted, 90);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_is_called_invalid_nothing_is_buried_and_the_lane_resumes_by_itself() {
    let rig = rig_of_findings(44, 60).await;
    let lane = rig.only_lane();
    rig.control.set_fault(imports(), Some(Fault::RejectAll));
    let app = rig.start().await;
    rig.wait_for_state(&app, &lane, LaneState::Held(HoldReason::Rejecting)).await;
    let requests = rig.control.stats(&lane).import_requests;
    rig.wait_for(&app, "probes, whole and single", |_, control| {
        control.stats(&lane).import_requests >= requests + 4
    })
    .await;
    rig.wait_for_state(&app, &lane, LaneState::Held(HoldReason::Rejecting)).await;
    assert_eq!(app.queues().accounting().dead, 0);
    assert_eq!(app.queues().accounting().queued.outbox, 60);

    rig.control.clear_faults();
    rig.settle(&app).await;
    rig.wait_for_state(&app, &lane, LaneState::Flowing).await;
    rig.assert_true(&app).await;
    assert_no_attempt_was_charged(&rig, &app).await;
    app.shutdown().await.unwrap();
}
