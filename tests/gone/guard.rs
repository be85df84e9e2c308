//! Too many nodes gone at once aren't believed, until somebody says that they are.

use patchferry::simulator::SimLane;

use super::{Rig, assert_gone, assert_open, nodes, settled, withheld};
use crate::harness::metric;

fn remove(rig: &Rig, lane: &SimLane, count: usize) -> Vec<String> {
    let removed: Vec<String> = nodes(rig, lane, false).into_iter().take(count).collect();
    assert_eq!(removed.len(), count);
    for node in &removed {
        rig.control.remove_node(lane, node).unwrap();
    }
    removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_may_go_at_once_whatever_their_share() {
    let (rig, app, lane) = settled(721, 12, 0.0).await;
    let removed = remove(&rig, &lane, 10);
    rig.sweep_and_settle(&app).await;
    for node in &removed {
        assert_gone(&rig, &lane, node, "no longer exists");
    }
    assert_eq!(withheld(&app), 0);
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_is_withheld_and_released_by_a_persons_word_once() {
    let (rig, app, lane) = settled(722, 50, 0.0).await;
    let removed = remove(&rig, &lane, 11);
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    for node in &removed {
        assert_open(&rig, &lane, node);
    }
    assert_eq!(withheld(&app), 11);
    let status = app.status().await;
    assert_eq!(status.lanes[0].gone_withheld_nodes, 11);
    let attention = status.attention();
    assert!(attention.iter().any(|it| it.contains("too many nodes gone at once")), "{attention:?}");
    let gauge = format!(
        "patchferry_lane_gone_withheld_nodes{{account=\"{}\",region=\"{}\"}}",
        lane.account(),
        lane.region()
    );
    assert_eq!(metric(&app, &gauge), 11);

    app.lanes()[0].accept_gone();
    rig.sweep_and_settle(&app).await;
    for node in &removed {
        assert_gone(&rig, &lane, node, "no longer exists");
    }
    assert_eq!((withheld(&app), metric(&app, &gauge)), (0, 0));
    rig.assert_true(&app).await;

    // The word was good for one sweep.
    let removed = remove(&rig, &lane, 12);
    rig.sweep_and_settle(&app).await;
    for node in &removed {
        assert_open(&rig, &lane, node);
    }
    assert_eq!(withheld(&app), 12);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_that_is_back_is_withheld_no_longer() {
    let (rig, app, lane) = settled(723, 50, 0.0).await;
    let away: Vec<String> = nodes(&rig, &lane, false).into_iter().take(20).collect();
    for node in &away {
        rig.control.terminate_node(&lane, node).unwrap();
        rig.control.forget_compliance(&lane, node).unwrap();
    }
    rig.sweep_and_settle(&app).await;
    assert_eq!(withheld(&app), 20);
    for node in &away {
        rig.control.start_node(&lane, node).unwrap();
        rig.control.remember_compliance(&lane, node).unwrap();
    }
    rig.sweep_and_settle(&app).await;
    assert_eq!(withheld(&app), 0);
    for node in &away {
        assert_open(&rig, &lane, node);
    }
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_that_takes_two_sweeps_to_ask_about_is_not_resolved_in_parts() {
    let (rig, app, lane) = settled(724, 1_300, 0.0).await;
    let removed = remove(&rig, &lane, 300);
    rig.sweep_and_settle(&app).await;
    assert_eq!(super::asked(&rig.control, &lane), 240, "what one sweep asks about is bounded");
    rig.sweep_and_settle(&app).await;
    assert_eq!(super::asked(&rig.control, &lane), 300, "the next goes on");
    for node in &removed {
        assert_open(&rig, &lane, node);
    }
    assert_eq!(withheld(&app), 300);
    app.lanes()[0].accept_gone();
    rig.sweep_and_settle(&app).await;
    rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
