//! Messages that are no events, and events of others: each has one clear end, and harms no other.

use std::collections::BTreeMap;

use patchferry::{
    queue::DeadFilter,
    record::{Reason, Stage, dead_letter::DeadItem},
    simulator::{SimEvent, SimLane},
};
use serde_json::json;

use super::{Fed, events, outcomes};
use crate::harness::{finding_of, metric};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_makes_no_sense_is_a_dead_letter_and_holds_up_no_event() {
    let fed = Fed::new(441, 10).await;
    let app = fed.start().await;
    let node = fed.node(4);
    fed.break_node(&node);
    let good = fed.control().event_body(&fed.lane, &node, &SimEvent::PatchCompliance);
    let zoo = [
        "hello".into(),
        String::new(),
        "[]".into(),
        "{\"detail-type\":7}".into(),
        good.replace("\"Patch\"", "{}"),
        good.replace(&node, "no-node"),
        good.replace("us-east-1", "mars"),
        good.replace("\"detail\":{", "\"detail\":7,\"x\":{"),
        good[..good.len() / 2].to_string(),
        "[".repeat(100_000),
        format!("{{\"detail-type\":\"{}\"", "x".repeat((1 << 20) - 100)),
        "y".repeat(1 << 20),
    ];
    for body in &zoo {
        fed.control().send_raw(&fed.queue, body.clone());
    }
    fed.emit(&node);
    fed.drained(&app).await;
    assert_eq!(events(&app, "malformed"), zoo.len() as u64);
    assert!(finding_of(fed.control(), &fed.lane, &node).is_some());
    fed.rig.assert_true_with_dead(&app, i64::try_from(zoo.len()).unwrap()).await;

    let letters = app.queues().dead_letters(DeadFilter::default(), 100).await.unwrap();
    assert_eq!(letters.len(), 1, "one for the queue, which counts: {letters:?}");
    let letter = &letters[0];
    assert_eq!((letter.stage, letter.reason), (Stage::Ingest, Reason::Undecodable));
    assert_eq!(letter.node.as_str(), "(queue patch-events)");
    assert_eq!(letter.lane.to_string(), fed.lane.to_string());
    assert_eq!(letter.count, zoo.len() as u64);
    let DeadItem::Raw { kept, .. } = &letter.item else { panic!("not kept raw: {letter:?}") };
    assert!(kept.len() <= 4 * 1024);
    let dead = "patchferry_dead_letters{stage=\"ingest\",reason=\"undecodable\"}";
    app.refresh_metrics().await;
    assert_eq!(metric(&app, dead), zoo.len() as u64);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_lanes_that_are_not_served_are_counted_and_end() {
    let fed = Fed::new(442, 10).await;
    let app = fed.start().await;
    let elsewhere = SimLane::new("999900001111", fed.lane.region());
    for _ in 0..3 {
        fed.control().emit(&elsewhere, "i-0123456789abcdef0", &SimEvent::PatchCompliance);
    }
    fed.drained(&app).await;
    assert_eq!(outcomes(&app), BTreeMap::from([("foreign", 3)]));
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_no_patches_ends_unread() {
    let fed = Fed::new(443, 10).await;
    let app = fed.start().await;
    let before = fed.control().stats(&fed.lane).requests;
    let other = json!({"detail-type": "Parameter Store Change", "account": 3, "detail": []});
    fed.control().send_raw(&fed.queue, other.to_string());
    fed.drained(&app).await;
    assert_eq!(outcomes(&app), BTreeMap::from([("ignored", 1)]));
    let ssm = |operation: &str| {
        let now = fed.control().stats(&fed.lane).requests;
        (before.get(operation).copied(), now.get(operation).copied())
    };
    for operation in ["DescribeInstanceInformation", "ListComplianceItems"] {
        let (before, after) = ssm(operation);
        assert_eq!(before, after, "{operation}");
    }
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_node_that_ssm_does_not_know_comes_again_later() {
    let fed = Fed::new(444, 10).await;
    let app = fed.start().await;
    fed.emit("i-00000000000000000");
    fed.rig.wait_for(&app, "a message put back", |_, _| events(&app, "put_back") >= 1).await;
    assert_eq!(fed.control().deleted(&fed.queue), 0);
    // It holds up no other.
    let node = fed.node(4);
    fed.break_node(&node);
    fed.emit(&node);
    fed.rig.wait_for(&app, "the other", |_, _| events(&app, "accepted") == 1).await;
    fed.rig.settle(&app).await;
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
