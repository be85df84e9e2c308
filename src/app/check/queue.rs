//! The queues of events: whether each may be read. Receiving would take messages from a daemon that
//! runs, so a queue is only asked how many wait; the other actions of its statement aren't tried.

use super::{
    lanes::assume_role,
    report::Item,
    verdict::{self, Identity},
};
use crate::{aws::Aws, config::QueueConfig};

/// The one action that is tried.
const ACTION: &str = "sqs:GetQueueAttributes";

pub async fn check(aws: &Aws, queue: &QueueConfig) -> Item {
    let role = queue.role.as_ref().map(assume_role);
    let sqs = aws.queue(&queue.url, &queue.region, role.as_ref()).await;
    let tried = sqs.waiting_messages().await.map(|count| format!("{count} messages wait"));
    let identity = Identity { role_arn: queue.role.as_ref().map(|role| role.arn.as_str()) };
    let item = verdict::of_action(ACTION, tried, &identity);
    let check = format!("queue {}/{}/{}", queue.account, queue.region, queue.name());
    Item { check, ..item }
}
