//! The queues of events: whether each may be read, and its messages hidden and deleted.
//!
//! Guarantees: no message is taken from a daemon. Receiving is tried only while none waits, hidden
//! for no time; hiding and deleting, with a receipt that is no message's.

use std::time::Duration;

use super::{
    lanes::assume_role,
    report::{Item, Outcome},
    verdict::{self, Identity},
};
use crate::{
    aws::{Aws, AwsError, Receipt, Sqs},
    config::QueueConfig,
};

const COUNT: &str = "sqs:GetQueueAttributes";
const RECEIVE: &str = "sqs:ReceiveMessage";
const DELETE: &str = "sqs:DeleteMessage";
const HIDE: &str = "sqs:ChangeMessageVisibility";

/// What the report calls the check of a queue.
pub fn name(queue: &QueueConfig) -> String {
    format!("queue {}/{}/{}", queue.account, queue.region, queue.name())
}

/// An item for each action that can't be taken; or one that says how many messages wait.
pub async fn check(aws: &Aws, queue: &QueueConfig) -> Vec<Item> {
    let role = queue.role.as_ref().map(assume_role);
    let sqs = aws.queue(&queue.url, &queue.region, role.as_ref()).await;
    let identity = Identity { role_arn: queue.role.as_ref().map(|role| role.arn.as_str()) };
    let waiting = sqs.waiting_messages().await;
    let others = match &waiting {
        Ok(count) => try_others(&sqs, *count == 0).await,
        Err(error) if error.is_access_denied() => try_others(&sqs, false).await,
        Err(_) => Vec::new(),
    };
    let counted = verdict::of_action(COUNT, waiting.map(count_text), &identity);
    let others = others
        .into_iter()
        .map(|(action, tried)| {
            verdict::of_action(action, tried.map(|()| "allowed".into()), &identity)
        })
        .filter(|item| item.outcome != Outcome::Ok);
    let mut items = vec![counted];
    items.extend(others);
    if items.len() > 1 {
        items.retain(|item| item.outcome != Outcome::Ok);
    }
    items.into_iter().map(|item| Item { check: name(queue), ..item }).collect()
}

fn count_text(waiting: u64) -> String {
    match waiting {
        0 => "no message waits".into(),
        count => format!("{count} messages wait: {RECEIVE} was not tried"),
    }
}

async fn try_others(sqs: &Sqs, is_empty: bool) -> Vec<(&'static str, Result<(), AwsError>)> {
    let mut tried = Vec::new();
    if is_empty {
        tried.push((RECEIVE, sqs.try_receive().await));
    }
    // SQS calls it invalid, once it has found that it may be asked.
    let nobodys = Receipt::new("patchferry-check");
    let hidden = sqs.hide(&[(nobodys.clone(), Duration::ZERO)]).await;
    tried.push((HIDE, hidden.map(drop)));
    tried.push((DELETE, sqs.delete(&[nobodys]).await.map(drop)));
    tried
}
