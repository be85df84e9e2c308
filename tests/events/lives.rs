//! From an event to the hub, through a node's whole life.

use std::time::Duration;

use patchferry::{
    app::App,
    simulator::{Fault, Scope, Service, SimEvent},
};

use super::{Fed, events, outcomes, requests};
use crate::harness::{finding_of, metric, within};

fn sweeps(app: &App) -> u64 {
    app.lanes()[0].sweeps.borrow().complete
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_brings_a_change_to_the_hub_without_a_sweep() {
    let fed = Fed::new(401, 30).await;
    let app = fed.start().await;
    let node = fed.node(7);
    fed.break_node(&node);
    fed.emit(&node);
    fed.drained(&app).await;
    let finding = finding_of(fed.control(), &fed.lane, &node).expect("a finding");
    assert_eq!(
        (finding.record_state.as_str(), finding.severity_label.as_str()),
        ("ACTIVE", "HIGH")
    );
    assert!(finding.json.contains("NonCompliantHighCount"), "its severities are told");
    assert!(!finding.json.contains("\"CompliantUnspecifiedCount\""), "what wasn't read isn't told");

    fed.control().make_compliant(&fed.lane, &node).unwrap();
    fed.emit(&node);
    fed.drained(&app).await;
    let finding = finding_of(fed.control(), &fed.lane, &node).expect("a finding");
    assert_eq!(finding.record_state, "ARCHIVED");
    assert_eq!(sweeps(&app), 1);
    assert_eq!(events(&app, "accepted"), 2);
    assert_eq!(metric(&app, "patchferry_event_lag_seconds_count"), 2);
    let accepted = "patchferry_observations_total{source=\"event\",outcome=\"accepted\"}";
    assert_eq!(metric(&app, accepted), 2);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_and_the_sweep_after_it_tell_the_hub_once() {
    let fed = Fed::new(402, 20).await;
    let app = fed.start().await;
    for index in 0..20 {
        let node = fed.node(index);
        if index % 2 == 0 {
            fed.break_node(&node);
        }
        fed.emit(&node);
    }
    fed.drained(&app).await;
    let before = fed.control().stats(&fed.lane).accepted;
    assert_eq!(before, 10);
    let delivered = app.queues().accounting().delivered;
    fed.rig.sweep_and_settle(&app).await;
    fed.rig.sweep_and_settle(&app).await;
    assert_eq!(fed.control().stats(&fed.lane).accepted, before, "the sweep told something anew");
    assert_eq!(app.queues().accounting().delivered, delivered);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_through_sns_is_the_same() {
    let fed = Fed::new(403, 10).await;
    fed.control().wrap_in_sns(true);
    let app = fed.start().await;
    let node = fed.node(3);
    fed.break_node(&node);
    fed.emit(&node);
    fed.drained(&app).await;
    assert!(finding_of(fed.control(), &fed.lane, &node).is_some());
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_patch_baseline_document_has_its_node_read_and_other_runs_do_not() {
    let fed = Fed::new(404, 10).await;
    let app = fed.start().await;
    let run = |document: &str, status: &str| SimEvent::CommandInvocation {
        document: document.into(),
        status: status.into(),
    };
    let (one, other, third) = (fed.node(1), fed.node(2), fed.node(3));
    fed.break_node(&one);
    fed.break_node(&third);
    fed.control().emit(&fed.lane, &one, &run("AWS-RunPatchBaseline", "InProgress"));
    fed.control().emit(&fed.lane, &one, &run("AWS-RunPatchBaseline", "Success"));
    fed.control().emit(&fed.lane, &other, &run("AWS-RunShellScript", "Success"));
    let state = SimEvent::AssociationState {
        document: "AWS-RunPatchBaselineAssociation".into(),
        status: "Success".into(),
    };
    fed.control().emit(&fed.lane, &third, &state);
    fed.drained(&app).await;
    assert_eq!((events(&app, "accepted"), events(&app, "ignored")), (2, 2));
    assert!(finding_of(fed.control(), &fed.lane, &one).is_some());
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_instance_and_a_deregistered_node_are_gone_and_a_stopped_one_is_not() {
    let fed = Fed::new(405, 30).await;
    let (ec2, hybrid) = (fed.nodes(false), fed.nodes(true));
    let app = fed.start().await;
    let (terminated, stopped, deregistered) = (&ec2[0], &ec2[1], &hybrid[0]);
    for node in [terminated, stopped, deregistered] {
        fed.break_node(node);
        fed.emit(node);
    }
    fed.drained(&app).await;
    let state = |state: &str| SimEvent::InstanceState(state.into());
    fed.control().stop_node(&fed.lane, stopped).unwrap();
    fed.control().emit(&fed.lane, stopped, &state("stopped"));
    fed.control().emit(&fed.lane, terminated, &state("shutting-down"));
    // SSM goes on telling of a terminated instance for a while.
    fed.control().emit(&fed.lane, terminated, &state("terminated"));
    fed.drained(&app).await;
    let record_state =
        |node: &str| finding_of(fed.control(), &fed.lane, node).unwrap().record_state;
    assert_eq!(record_state(terminated), "ARCHIVED");
    assert_eq!(record_state(stopped), "ACTIVE");

    // An event from before its end must not have it back.
    fed.emit(terminated);
    fed.drained(&app).await;
    assert_eq!(record_state(terminated), "ARCHIVED");
    fed.control().remove_node(&fed.lane, terminated).unwrap();

    fed.control().remove_node(&fed.lane, deregistered).unwrap();
    fed.control().emit(&fed.lane, deregistered, &SimEvent::Deregistered);
    fed.drained(&app).await;
    assert_eq!(record_state(deregistered), "ARCHIVED");
    assert_eq!(outcomes(&app)["gone"], 2);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_still_there_is_not_gone_for_being_called_deregistered() {
    let fed = Fed::new(406, 20).await;
    let node = fed.nodes(true)[0].clone();
    let app = fed.start().await;
    fed.break_node(&node);
    fed.emit(&node);
    fed.drained(&app).await;
    fed.control().emit(&fed.lane, &node, &SimEvent::Deregistered);
    fed.rig.wait_for(&app, "a second look", |_, _| events(&app, "put_back") >= 1).await;
    fed.rig.settle(&app).await;
    assert_eq!(events(&app, "gone"), 0);
    assert_eq!(finding_of(fed.control(), &fed.lane, &node).unwrap().record_state, "ACTIVE");
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_during_a_long_sweep_does_not_wait_for_its_end() {
    let fed = Fed::new(407, 200).await;
    let app = fed.start().await;
    let summaries = "ListResourceComplianceSummaries";
    let slow = Scope::of(Service::Ssm).operation(summaries);
    fed.control().set_fault(slow, Some(Fault::NeverAnswer));
    let asked = requests(fed.control(), summaries);
    app.sweep_now();
    let begun = fed.control().wait_until(|control| requests(control, summaries) > asked);
    within(begun, "a sweep that hangs").await;
    let node = fed.node(50);
    fed.break_node(&node);
    fed.emit(&node);
    fed.drained(&app).await;
    assert!(finding_of(fed.control(), &fed.lane, &node).is_some());
    assert_eq!(sweeps(&app), 1, "the sweep is still under way");
    fed.control().clear_faults();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_tells_of_its_changes_is_followed_without_sweeps() {
    let fed = Fed::new(408, 40).await;
    let app = fed.start().await;
    fed.control().emit_changes(Some(1.0));
    for round in 0..5 {
        for index in (round..40).step_by(5) {
            fed.break_node(&fed.node(index));
        }
        fed.control().make_compliant(&fed.lane, &fed.node(round)).unwrap();
    }
    fed.drained(&app).await;
    fed.rig.assert_true(&app).await;
    assert_eq!(sweeps(&app), 1);

    // Half of them are lost on the way: the next sweep finds what they would have told.
    fed.control().emit_changes(Some(0.5));
    fed.control().rescan(&fed.lane, 1.0);
    fed.drained(&app).await;
    tokio::time::timeout(Duration::from_secs(60), fed.rig.sweep_and_settle(&app)).await.unwrap();
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
