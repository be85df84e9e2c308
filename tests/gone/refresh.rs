//! Findings of nodes that exist and aren't reported any more: refreshed, lest the hub forget them.

use std::time::Duration;

use super::{asked, assert_open, held, nodes, rig};
use crate::harness::clock::MovableClock;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_is_refreshed_whatever_ssm_still_tells_of_its_node() {
    let clock = MovableClock::default();
    let mut rig = rig(741, 20, 0.5, &clock).await;
    rig.config.finding.refresh_after = 7 * DAY;
    let lane = rig.only_lane();
    let app = rig.start().await;
    rig.sweep_and_settle(&app).await;
    rig.sweep_and_settle(&app).await;
    let (ec2, hybrid) = (nodes(&rig, &lane, false), nodes(&rig, &lane, true));
    let [stopped, forgotten, unreported] = [&ec2[0], &ec2[1], &ec2[2]];
    let lost = &hybrid[0];
    for node in [stopped, forgotten, lost] {
        rig.control.stop_node(&lane, node).unwrap();
    }
    for node in [forgotten, unreported, lost] {
        rig.control.forget_compliance(&lane, node).unwrap();
    }
    clock.advance(6 * DAY);
    rig.sweep_and_settle(&app).await;
    let watched = [stopped, forgotten, unreported, lost];
    let before = watched.map(|node| held(&rig, &lane, node));

    clock.advance(2 * DAY);
    rig.sweep_and_settle(&app).await;
    for (node, then) in watched.into_iter().zip(&before) {
        assert_open(&rig, &lane, node);
        let now = held(&rig, &lane, node);
        assert_eq!((node, now.imports), (node, then.imports + 1));
        assert!(now.updated_at_ms >= then.updated_at_ms + 6 * 86_400_000);
        assert_eq!((&now.created_at, now.patch_counts), (&then.created_at, then.patch_counts));
    }
    let after = watched.map(|node| held(&rig, &lane, node).imports);
    rig.sweep_and_settle(&app).await;
    assert_eq!(watched.map(|node| held(&rig, &lane, node).imports), after, "refreshed twice");
    assert!(asked(&rig.control, &lane) > 0);
    rig.assert_true(&app).await;

    // Back and unchanged: told once more, since what its patches were isn't known any more.
    rig.control.start_node(&lane, forgotten).unwrap();
    rig.control.remember_compliance(&lane, forgotten).unwrap();
    rig.control.rescan(&lane, 1.0);
    rig.sweep_and_settle(&app).await;
    rig.assert_accounted(&app).await;
    rig.assert_rules_kept();
    app.shutdown().await.unwrap();
}
