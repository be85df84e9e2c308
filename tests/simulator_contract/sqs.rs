//! A queue hides what it gives, gives it again in time, counts how often, and lets nobody else in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageSystemAttributeName,
    },
};
use patchferry::simulator::{SimQueue, system_clock};

use super::rig::{ACCOUNT, OTHER_ACCOUNT, REGION, Rig, config, long_term};

const URL: &str = "https://sqs.us-east-1.amazonaws.com/111122223333/events";

/// A rig with a queue, and a clock that can be put forward by so many milliseconds.
async fn rig() -> (Rig, SimQueue, Arc<AtomicI64>) {
    let mut config = config(1).queue(ACCOUNT, REGION, "events");
    config.callers.push(OTHER_ACCOUNT.into());
    let (ahead, system) = (Arc::new(AtomicI64::new(0)), system_clock());
    let moved = Arc::clone(&ahead);
    config.clock = Arc::new(move || system() + moved.load(Ordering::Relaxed));
    (Rig::start(config).await, SimQueue::new(ACCOUNT, REGION, "events"), ahead)
}

fn client(rig: &Rig) -> Client {
    Client::new(&rig.sdk(long_term(ACCOUNT), REGION))
}

async fn receive(client: &Client, wait_seconds: i32) -> Vec<Message> {
    let receive = client
        .receive_message()
        .queue_url(URL)
        .max_number_of_messages(10)
        .visibility_timeout(60)
        .wait_time_seconds(wait_seconds)
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
    receive.send().await.unwrap().messages.unwrap_or_default()
}

fn receives(message: &Message) -> &str {
    let attributes = message.attributes.as_ref().unwrap();
    attributes[&MessageSystemAttributeName::ApproximateReceiveCount].as_str()
}

#[tokio::test]
async fn what_is_received_is_hidden_until_its_time_is_up_or_it_is_deleted() {
    let (rig, queue, ahead) = rig().await;
    let client = client(&rig);
    for body in ["a", "b"] {
        rig.control.send_raw(&queue, body);
    }
    let first = receive(&client, 0).await;
    assert_eq!(first.len(), 2);
    assert!(receive(&client, 0).await.is_empty());
    let entry = |message: &Message, id: &str| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(id);
        entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap()
    };
    let bad = DeleteMessageBatchRequestEntry::builder().id("1").receipt_handle("x");
    let batch = client.delete_message_batch().queue_url(URL);
    let batch = batch.entries(entry(&first[0], "0")).entries(bad.build().unwrap());
    let answer = batch.send().await.unwrap();
    assert_eq!((answer.successful().len(), answer.failed().len()), (1, 1));
    assert_eq!(answer.failed()[0].code(), "ReceiptHandleIsInvalid");

    let longer = ChangeMessageVisibilityBatchRequestEntry::builder().id("0");
    let longer = longer.receipt_handle(first[1].receipt_handle().unwrap()).visibility_timeout(600);
    let change = client.change_message_visibility_batch().queue_url(URL);
    change.entries(longer.build().unwrap()).send().await.unwrap();
    ahead.store(61_000, Ordering::Relaxed);
    assert!(receive(&client, 0).await.is_empty());
    ahead.store(601_000, Ordering::Relaxed);
    let again = receive(&client, 0).await;
    assert_eq!((again[0].body(), receives(&again[0])), (Some("b"), "2"));
    assert_eq!(rig.control.deleted(&queue), 1);
}

#[tokio::test]
async fn a_long_poll_is_answered_as_soon_as_there_is_something() {
    let (rig, queue, _) = rig().await;
    let client = client(&rig);
    let (received, ()) = tokio::join!(receive(&client, 20), async {
        let asked =
            rig.control.wait_until(|it| it.stats_total().requests.contains_key("ReceiveMessage"));
        tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
        rig.control.send_raw(&queue, "late");
    });
    assert_eq!(received[0].body(), Some("late"));
}

#[tokio::test]
async fn a_queue_that_is_not_there_or_another_s_is_refused() {
    let (rig, _, _) = rig().await;
    let none = client(&rig).receive_message().queue_url(format!("{URL}-2")).send().await;
    assert_eq!(none.unwrap_err().code(), Some("QueueDoesNotExist"));
    let other = Client::new(&rig.sdk(long_term(OTHER_ACCOUNT), REGION));
    let denied = other.receive_message().queue_url(URL).send().await;
    assert_eq!(denied.unwrap_err().code(), Some("AccessDeniedException"));
}
