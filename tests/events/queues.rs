//! The queue and what stands between it and the store: a message ends only after what it told of is
//! on disk; whatever comes twice, late or not at all does no harm.

use patchferry::{
    app::App,
    queue::PauseWhat,
    simulator::{Fault, Scope, Service},
};

use super::{Fed, events, outcomes, requests};
use crate::harness::{finding_of, metric, within};

fn sqs_requests(app: &App, operation: &str, outcome: &str) -> u64 {
    let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
    metric(app, &format!("patchferry_sqs_requests_total{labels}"))
}

const DELETE: &str = "DeleteMessageBatch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_ssm_is_out_messages_stay_and_come_again_until_their_node_is_accepted() {
    let fed = Fed::new(421, 10).await;
    let app = fed.start().await;
    let node = fed.node(4);
    fed.break_node(&node);
    fed.control().set_fault(Scope::of(Service::Ssm), Some(Fault::Outage));
    fed.emit(&node);
    fed.rig.wait_for(&app, "a message put back", |_, _| events(&app, "put_back") >= 1).await;
    assert_eq!(fed.control().deleted(&fed.queue), 0, "deleted before it was accepted");
    assert_eq!(fed.control().depth(&fed.queue).total(), 1);
    assert_eq!(app.queues().accounting().accepted, 10);

    fed.control().clear_faults();
    fed.drained(&app).await;
    assert!(finding_of(fed.control(), &fed.lane, &node).is_some());
    assert_eq!(fed.control().deleted(&fed.queue), 1);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_twice_and_in_any_order_do_no_harm() {
    let fed = Fed::new(422, 30).await;
    fed.control().shuffle(&fed.queue);
    fed.control().duplicate_receives(&fed.queue, 6);
    let app = fed.start().await;
    for index in 0..30 {
        let node = fed.node(index);
        fed.break_node(&node);
        fed.emit(&node);
        if index % 3 == 0 {
            fed.control().make_compliant(&fed.lane, &node).unwrap();
            fed.emit(&node);
        }
    }
    fed.drained(&app).await;
    fed.rig.assert_true(&app).await;
    assert_eq!(fed.control().deleted(&fed.queue), 40);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_receipt_handle_fails_alone_and_its_message_comes_again() {
    let fed = Fed::new(423, 10).await;
    for index in 0..10 {
        let node = fed.node(index);
        fed.break_node(&node);
        fed.emit(&node);
    }
    fed.control().spoil_receipts(&fed.queue, 1);
    let app = fed.start().await;
    fed.drained(&app).await;
    assert!(sqs_requests(&app, DELETE, "partial") >= 1, "the bad one was met");
    assert_eq!(sqs_requests(&app, DELETE, "denied"), 0);
    assert_eq!(fed.control().deleted(&fed.queue), 10);
    assert_eq!(metric(&app, "patchferry_event_messages_held"), 0);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_that_fail_for_a_while_are_tried_again() {
    let fed = Fed::new(424, 10).await;
    let app = fed.start().await;
    let deletes = Scope::of(Service::Sqs).operation(DELETE);
    fed.control().set_fault_for_calls(deletes.clone(), Fault::Outage, 2);
    let node = fed.node(4);
    fed.break_node(&node);
    fed.emit(&node);
    fed.drained(&app).await;
    assert_eq!(sqs_requests(&app, DELETE, "failed"), 2);
    assert_eq!(events(&app, "accepted"), 1, "it was told once");
    // The delete was carried out, its answer is lost.
    fed.control().set_fault_for_calls(deletes, Fault::LostReply { ratio: 1.0 }, 1);
    fed.control().make_compliant(&fed.lane, &node).unwrap();
    fed.emit(&node);
    fed.drained(&app).await;
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

async fn shows_and_recovers(seed: u64, fault: Fault, state: &str) {
    let mut fed = Fed::new(seed, 10).await;
    fed.rig.config.deliver.probe_interval = std::time::Duration::from_millis(100);
    fed.control().set_fault(Scope::of(Service::Sqs), Some(fault));
    let app = fed.start().await;
    let node = fed.node(4);
    fed.break_node(&node);
    fed.emit(&node);
    let series = format!("patchferry_event_queues{{state=\"{state}\"}}");
    let shown = async {
        loop {
            app.refresh_metrics().await;
            if metric(&app, &series) == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    within(shown, "the queue's trouble to show").await;
    let status = app.status().await;
    assert_eq!(status.event_queues[0].state, state);
    assert!(status.event_queues[0].note.is_some());
    let attention = status.attention();
    assert!(attention.iter().any(|it| it.contains("queue of events")), "{attention:?}");
    // Sweeps go on.
    fed.rig.sweep_and_settle(&app).await;
    assert!(finding_of(fed.control(), &fed.lane, &node).is_some());

    fed.control().clear_faults();
    fed.drained(&app).await;
    let status = app.status().await;
    assert_eq!(status.event_queues[0].state, "reading");
    assert!(status.attention().is_empty(), "{:?}", status.attention());
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_queue_is_shown_and_ends_by_itself() {
    shows_and_recovers(425, Fault::Outage, "unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_may_not_be_read_is_shown_and_resumes_by_itself() {
    shows_and_recovers(426, Fault::AccessDenied, "held").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_ingest_is_paused_messages_stay_in_the_queue() {
    let fed = Fed::new(427, 10).await;
    let app = fed.start().await;
    let queues = app.queues().clone();
    queues.pause(PauseWhat::Ingest, None, 0, "freeze".into()).await.unwrap();
    let node = fed.node(4);
    fed.break_node(&node);
    fed.emit(&node);
    let mut paused = app.event_queues()[0].status.clone();
    let reached = paused.wait_for(|it| it.state == patchferry::metrics::EventQueueState::Paused);
    within(reached, "the queue to be paused").await.unwrap();
    assert_eq!(fed.control().depth(&fed.queue).total(), 1);
    assert_eq!(app.queues().accounting().accepted, 10);
    queues.resume(PauseWhat::Ingest, None).await.unwrap();
    // What a long poll had got before it knew comes again a little later.
    fed.drained(&app).await;
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_worked_on_for_long_is_hidden_for_as_long() {
    let fed = Fed::new(428, 10).await;
    let app = fed.start().await;
    let items = Scope::of(Service::Ssm).operation("ListComplianceItems");
    fed.control().set_fault(items.clone(), Some(Fault::NeverAnswer));
    let node = fed.node(4);
    fed.break_node(&node);
    fed.emit(&node);
    let hides = "ChangeMessageVisibilityBatch";
    let hidden = fed.control().wait_until(|control| requests(control, hides) >= 1);
    within(hidden, "a message that is hidden anew").await;
    assert_eq!(fed.control().depth(&fed.queue).visible, 0);
    fed.control().clear_faults();
    fed.drained(&app).await;
    assert!(outcomes(&app)["accepted"] >= 1);
    fed.rig.assert_true(&app).await;
    app.shutdown().await.unwrap();
}
