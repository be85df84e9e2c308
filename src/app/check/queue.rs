//! The queues of events: whether each may be read, and its messages hidden and deleted.
//!
//! Guarantees: no message is taken from a daemon. Receiving is tried only while none waits, hidden
//! for no time; hiding and deleting, with a receipt that is no message's.

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

/// What may not be done, an item each; or one that says all may.
pub async fn check(aws: &Aws, queue: &QueueConfig) -> Vec<Item> {
    let role = queue.role.as_ref().map(assume_role);
    let sqs = aws.queue(&queue.url, &queue.region, role.as_ref()).await;
    let identity = Identity { role_arn: queue.role.as_ref().map(|role| role.arn.as_str()) };
    let check = format!("queue {}/{}/{}", queue.account, queue.region, queue.name());
    let waiting = sqs.waiting_messages().await;
    let is_reached = waiting.as_ref().map_or_else(AwsError::is_access_denied, |_| true);
    let (count, text) = match &waiting {
        Ok(0) => (Some(0), "no message waits".to_string()),
        Ok(count) => (Some(*count), format!("{count} messages wait: {RECEIVE} was not tried")),
        Err(_) => (None, String::new()),
    };
    let mut items = vec![verdict::of_action(COUNT, waiting.map(|_| text), &identity)];
    if is_reached {
        for (action, tried) in try_others(&sqs, count).await {
            items.push(verdict::of_action(action, tried.map(|()| String::new()), &identity));
        }
    }
    if items.iter().any(|item| item.outcome != Outcome::Ok) {
        items.retain(|item| item.outcome != Outcome::Ok);
    } else {
        items.truncate(1);
    }
    items.into_iter().map(|item| Item { check: check.clone(), ..item }).collect()
}

async fn try_others(sqs: &Sqs, waiting: Option<u64>) -> Vec<(&'static str, Result<(), AwsError>)> {
    let mut tried = Vec::new();
    if waiting == Some(0) {
        tried.push((RECEIVE, sqs.try_receive().await));
    }
    // SQS calls it invalid, once it has found that it may be asked.
    let nobodys = Receipt::new("patchferry-check");
    let hidden = sqs.hide(&[(nobodys.clone(), std::time::Duration::ZERO)]).await;
    tried.push((HIDE, hidden.map(drop)));
    tried.push((DELETE, sqs.delete(&[nobodys]).await.map(drop)));
    tried
}
