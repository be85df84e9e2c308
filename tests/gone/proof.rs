//! What proves that a node is gone, and what doesn't.

use std::time::Duration;

use patchferry::{
    config::Identity,
    queue::AcceptedNode,
    record::{Observation, Source, observation::RawCompliance},
    simulator::Fault,
};

use super::{
    asked, assert_gone, assert_open, cloud_control, counted, held, nodes, ours, rig, settled,
};
use crate::harness::clock::MovableClock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_ec2_node_is_resolved_by_asking() {
    let (rig, app, lane) = settled(701, 20, 0.2).await;
    assert_eq!(asked(&rig.control, &lane), 0, "nobody was absent");
    let node = &nodes(&rig, &lane, false)[0];
    let open = held(&rig, &lane, node);
    let before = rig.clock.now();
    rig.control.remove_node(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;

    assert_gone(&rig, &lane, node, "no longer exists");
    let gone = held(&rig, &lane, node);
    assert_eq!(gone.severity_label, open.severity_label, "the last severity is kept");
    assert_eq!((&gone.created_at, gone.patch_counts), (&open.created_at, open.patch_counts));
    assert!(gone.updated_at_ms >= before.0, "UpdatedAt is the decision's time");
    assert_eq!((asked(&rig.control, &lane), counted(&app, "ok")), (1, 1));

    rig.sweep_and_settle(&app).await;
    assert_eq!(asked(&rig.control, &lane), 1, "asked again about what is resolved");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_node_stays_while_ssm_tells_of_it_and_goes_when_it_does_not() {
    let (rig, app, lane) = settled(702, 20, 0.2).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.terminate_node(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, node);
    assert_eq!(asked(&rig.control, &lane), 0, "one that is listed is no suspect");

    rig.control.forget_compliance(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, node, "no longer exists");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_is_never_resolved() {
    let clock = MovableClock::default();
    let rig = rig(703, 20, 0.0, &clock).await;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.stop_node(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, node);
    assert_eq!(asked(&rig.control, &lane), 0, "its compliance data remain");

    rig.control.forget_compliance(&lane, node).unwrap();
    for day in 0..40 {
        rig.sweep_and_settle(&app).await;
        assert_open(&rig, &lane, node);
        assert_eq!(asked(&rig.control, &lane), day + 1);
        clock.advance(Duration::from_secs(86_400));
    }
    assert!(app.queues().absences(&ours(&rig)).await.unwrap().is_empty());
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_exists_is_not_asked_about_with_every_sweep() {
    let (rig, app, lane) = settled(704, 20, 0.0).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.stop_node(&lane, node).unwrap();
    rig.control.forget_compliance(&lane, node).unwrap();
    for _ in 0..3 {
        rig.sweep_and_settle(&app).await;
    }
    assert_eq!(asked(&rig.control, &lane), 1);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deregistered_hybrid_node_is_resolved() {
    let (rig, app, lane) = settled(705, 20, 0.5).await;
    let hybrid = nodes(&rig, &lane, true);
    let (removed, terminated) = (&hybrid[0], &hybrid[1]);
    rig.control.remove_node(&lane, removed).unwrap();
    rig.control.terminate_node(&lane, terminated).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, removed, "deregistered");
    assert_open(&rig, &lane, terminated);

    rig.control.forget_compliance(&lane, terminated).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, terminated, "deregistered");
    assert_eq!(asked(&rig.control, &lane), 0, "EC2 knows nothing of hybrid nodes");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hybrid_node_that_has_lost_its_connection_stays() {
    let (rig, app, lane) = settled(706, 20, 0.5).await;
    let node = &nodes(&rig, &lane, true)[0];
    rig.control.stop_node(&lane, node).unwrap();
    rig.control.forget_compliance(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, node);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_reopened_though_its_report_is_the_old_one() {
    let (rig, app, lane) = settled(707, 20, 0.5).await;
    let (ec2, hybrid) = (nodes(&rig, &lane, false)[0].clone(), nodes(&rig, &lane, true)[0].clone());
    let both = [&ec2, &hybrid];
    for node in both {
        rig.control.terminate_node(&lane, node).unwrap();
        rig.control.forget_compliance(&lane, node).unwrap();
    }
    rig.sweep_and_settle(&app).await;
    for node in both {
        assert_eq!(held(&rig, &lane, node).record_state, "ARCHIVED");
        rig.control.start_node(&lane, node).unwrap();
        rig.control.remember_compliance(&lane, node).unwrap();
    }
    rig.sweep_and_settle(&app).await;
    for node in both {
        assert_open(&rig, &lane, node);
        assert_eq!(held(&rig, &lane, node).workflow_status, "NEW");
    }
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_nodes_that_only_a_file_has_told_of_stay() {
    let (rig, app, lane) = settled(708, 10, 0.5).await;
    let nodes = ["i-0feedfeedfeedfeed", "mi-0feedfeedfeedfeed"];
    let ours = ours(&rig);
    let mut accepted = Vec::new();
    for node in nodes {
        let observation = Observation {
            node: node.into(),
            read: app.queues().next_read(&ours).await.unwrap(),
            read_at: rig.clock.now(),
            source: Source::File,
            compliance: Some(RawCompliance {
                status: "NON_COMPLIANT".into(),
                ..RawCompliance::default()
            }),
            patch_state: None,
            node_info: None,
            patches: None,
            gone: None,
        };
        accepted.push(AcceptedNode { observation, seen: None, patches: Vec::new() });
    }
    app.queues().accept(&ours, accepted).await.unwrap();
    rig.settle(&app).await;
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    for node in nodes {
        assert_open(&rig, &lane, node);
    }
    assert_eq!(asked(&rig.control, &lane), 0);
    rig.assert_accounted(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_resolved_nobody_is_asked() {
    let mut rig = rig(709, 10, 0.5, &MovableClock::default()).await;
    rig.config.finding.resolve = false;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.remove_node(&lane, node).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, node);
    assert_eq!(asked(&rig.control, &lane), 0);
    rig.assert_accounted(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_finding_per_operation_the_last_one_of_a_gone_node_is_closed() {
    let mut rig = rig(710, 10, 0.5, &MovableClock::default()).await;
    rig.config.finding.identity = Identity::Operation;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    let (ec2, hybrid) = (nodes(&rig, &lane, false)[0].clone(), nodes(&rig, &lane, true)[0].clone());
    rig.control.remove_node(&lane, &ec2).unwrap();
    rig.control.remove_node(&lane, &hybrid).unwrap();
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, &ec2, "no longer exists");
    assert_gone(&rig, &lane, &hybrid, "deregistered");
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_suspicion_and_proof_loses_neither() {
    let (rig, app, lane) = settled(711, 20, 0.2).await;
    let node = &nodes(&rig, &lane, false)[0];
    rig.control.remove_node(&lane, node).unwrap();
    rig.control.set_fault(cloud_control(), Some(Fault::Outage));
    rig.sweep_and_settle(&app).await;
    assert_open(&rig, &lane, node);
    rig.control.clear_faults();
    let app = rig.restart(app).await;
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    assert_gone(&rig, &lane, node, "no longer exists");
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
