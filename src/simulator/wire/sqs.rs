//! SQS: taking messages from a queue, deleting them, hiding them for longer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Outcome, parse};
use crate::simulator::{
    caller::Caller,
    queue::{BadReceipt, Queue, SimQueue},
    reply::ApiError,
    world::{World, lock},
};

pub(super) const RECEIVE: &str = "ReceiveMessage";
const BATCH_ENTRIES_MAX: usize = 10;
const VISIBILITY_SECONDS_DEFAULT: i64 = 30;
const VISIBILITY_SECONDS_MAX: i64 = 43_200;

/// Carries out an operation; `None` if it is unknown.
pub(super) fn call(
    world: &World,
    caller: &Caller,
    operation: &str,
    body: &[u8],
) -> Option<Outcome> {
    let answer = match operation {
        RECEIVE => receive(world, caller, body),
        "DeleteMessageBatch" => delete(world, caller, body),
        "ChangeMessageVisibilityBatch" => change_visibility(world, caller, body),
        "GetQueueAttributes" => attributes(world, caller, body),
        _ => return None,
    };
    Some(answer.map(|answer| answer.to_string().into_bytes()))
}

/// The queue that a receive waits at, and for how long; `None` if it waits for nothing.
pub(super) fn long_poll(caller: &Caller, body: &[u8]) -> Option<(SimQueue, Duration)> {
    let request: Receive = parse(body).ok()?;
    let queue = SimQueue::of_url(&request.queue_url, &caller.region)?;
    Some((queue, Duration::from_secs(request.wait_time_seconds.unwrap_or(0).min(20))))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<u64>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
}

fn receive(world: &World, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let request: Receive = parse(body)?;
    let max = request.max_number_of_messages.unwrap_or(1);
    if !(1..=10).contains(&max) {
        return Err(invalid("MaxNumberOfMessages", "must be between 1 and 10"));
    }
    if request.wait_time_seconds.is_some_and(|seconds| seconds > 20) {
        return Err(invalid("WaitTimeSeconds", "must be between 0 and 20"));
    }
    let visibility_ms = visibility_ms(request.visibility_timeout)?;
    let now_ms = world.now_ms();
    let received = on_queue(world, caller, &request.queue_url, |queue| {
        queue.receive(max, visibility_ms, now_ms)
    })?;
    let asks = |name: &str| {
        request.message_system_attribute_names.iter().any(|asked| asked == name || asked == "All")
    };
    let messages: Vec<Value> = received
        .into_iter()
        .map(|message| {
            let mut attributes = serde_json::Map::new();
            if asks("ApproximateReceiveCount") {
                let receives = json!(message.receives.to_string());
                attributes.insert("ApproximateReceiveCount".into(), receives);
            }
            if asks("SentTimestamp") {
                let sent_at = json!(message.sent_at_ms.to_string());
                attributes.insert("SentTimestamp".into(), sent_at);
            }
            json!({
                "MessageId": message.id,
                "ReceiptHandle": message.receipt,
                "Body": message.body,
                "Attributes": attributes,
            })
        })
        .collect();
    // An empty queue's answer has no Messages at all.
    Ok(if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Batch<E> {
    queue_url: String,
    entries: Vec<E>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteEntry {
    id: String,
    receipt_handle: String,
}

fn delete(world: &World, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let request: Batch<DeleteEntry> = parse(body)?;
    check_batch(&request.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>())?;
    on_queue(world, caller, &request.queue_url, |queue| {
        let entries = request.entries.iter();
        outcome(entries.map(|entry| (entry.id.as_str(), queue.delete(&entry.receipt_handle))))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct VisibilityEntry {
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

fn change_visibility(world: &World, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let request: Batch<VisibilityEntry> = parse(body)?;
    check_batch(&request.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>())?;
    let mut changes = Vec::with_capacity(request.entries.len());
    for entry in &request.entries {
        changes.push((entry, visibility_ms(entry.visibility_timeout)?));
    }
    let now_ms = world.now_ms();
    on_queue(world, caller, &request.queue_url, |queue| {
        outcome(changes.into_iter().map(|(entry, visibility_ms)| {
            let receipt = &entry.receipt_handle;
            (entry.id.as_str(), queue.change_visibility(receipt, visibility_ms, now_ms))
        }))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetAttributes {
    queue_url: String,
    #[serde(default)]
    #[expect(dead_code, reason = "all are given, whichever are asked for")]
    attribute_names: Vec<String>,
}

fn attributes(world: &World, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let request: GetAttributes = parse(body)?;
    let now_ms = world.now_ms();
    let depth = on_queue(world, caller, &request.queue_url, |queue| queue.depth(now_ms))?;
    let arn = SimQueue::of_url(&request.queue_url, &caller.region).map(|queue| queue.arn());
    Ok(json!({"Attributes": {
        "QueueArn": arn,
        "ApproximateNumberOfMessages": depth.visible.to_string(),
        "ApproximateNumberOfMessagesNotVisible": depth.in_flight.to_string(),
        "VisibilityTimeout": VISIBILITY_SECONDS_DEFAULT.to_string(),
    }}))
}

fn on_queue<T>(
    world: &World,
    caller: &Caller,
    url: &str,
    act: impl FnOnce(&mut Queue) -> T,
) -> Result<T, ApiError> {
    let id = SimQueue::of_url(url, &caller.region);
    let known = id.as_ref().and_then(|id| Some((id, world.queues.get(id)?)));
    let Some((id, queue)) = known else {
        return Err(ApiError::new(400, "QueueDoesNotExist", "The specified queue does not exist."));
    };
    if id.account() != caller.account {
        return Err(ApiError::new(
            403,
            "AccessDeniedException",
            format!("Access to the resource {url} is denied."),
        ));
    }
    Ok(act(&mut lock(queue)))
}

fn check_batch(ids: &[&str]) -> Result<(), ApiError> {
    if ids.is_empty() {
        return Err(ApiError::new(400, "EmptyBatchRequest", "There are no entries."));
    }
    if ids.len() > BATCH_ENTRIES_MAX {
        let text = "Maximum number of entries per request are 10.";
        return Err(ApiError::new(400, "TooManyEntriesInBatchRequest", text));
    }
    let distinct: std::collections::BTreeSet<&&str> = ids.iter().collect();
    if distinct.len() < ids.len() {
        return Err(ApiError::new(400, "BatchEntryIdsNotDistinct", "Ids are repeated."));
    }
    Ok(())
}

fn outcome<'a>(done: impl Iterator<Item = (&'a str, Result<(), BadReceipt>)>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in done {
        let (code, message) = match result {
            Ok(()) => {
                successful.push(json!({ "Id": id }));
                continue;
            }
            Err(BadReceipt::Invalid) => {
                ("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
            }
            Err(BadReceipt::NotInFlight) => ("MessageNotInflight", "The message is not in flight."),
        };
        failed.push(json!({"Id": id, "SenderFault": true, "Code": code, "Message": message}));
    }
    json!({"Successful": successful, "Failed": failed})
}

fn visibility_ms(seconds: Option<i64>) -> Result<i64, ApiError> {
    let seconds = seconds.unwrap_or(VISIBILITY_SECONDS_DEFAULT);
    if !(0..=VISIBILITY_SECONDS_MAX).contains(&seconds) {
        return Err(invalid("VisibilityTimeout", "must be between 0 and 43200"));
    }
    Ok(seconds * 1_000)
}

fn invalid(parameter: &str, rule: &str) -> ApiError {
    ApiError::new(400, "InvalidParameterValue", format!("Value for parameter {parameter} {rule}."))
}
