//! Takes messages from one SQS queue, hides them while they are worked on, and deletes them.
//!
//! Guarantees: a receive ends within [`RECEIVE_WAIT`] and a few seconds, every other call within
//! half a minute; of a batch, each entry has its own outcome: one bad receipt handle fails alone;
//! nothing is tried again here.
//!
//! Where a request goes is the SDK's to say (Region, `AWS_ENDPOINT_URL`), not the queue URL's host:
//! a queue works behind a VPC endpoint as well.
//!
//! Deliberately doesn't know: what a message says, and what becomes of it.

use std::{fmt, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
    },
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

use super::{
    AwsError, Fault, HoldReason, classify::classify, connect::retry_partition,
    http::CONNECT_TIMEOUT,
};
use crate::record::{Text, UnixMillis};

/// Messages of a receive, and entries of a batch (SQS API Reference).
pub const BATCH_MESSAGES_MAX: usize = 10;
/// The longest long poll that SQS takes.
pub const RECEIVE_WAIT: Duration = Duration::from_secs(20);

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A message as it was received.
#[derive(Clone, PartialEq, Eq)]
pub struct QueueMessage {
    pub body: String,
    pub receipt: Receipt,
    /// Times that it was received, this one included.
    pub receives: u32,
    pub sent_at: Option<UnixMillis>,
}

/// Its body may be anybody's: left out.
impl fmt::Debug for QueueMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueMessage")
            .field("body_bytes", &self.body.len())
            .field("receives", &self.receives)
            .finish_non_exhaustive()
    }
}

/// What deletes a message, or changes how long it is hidden. Whoever has it can: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt(Box<str>);

impl Receipt {
    #[must_use]
    pub fn new(handle: &str) -> Self {
        Self(handle.into())
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// An entry of a batch that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Its place in the batch.
    pub index: usize,
    pub code: Text<128>,
    /// The same entry would fail again.
    pub for_good: bool,
}

/// One queue. Cheap to clone.
#[derive(Clone)]
pub struct Sqs {
    client: Client,
    url: String,
}

impl Sqs {
    pub(super) fn new(config: &SdkConfig, url: &str) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(BATCH_TIMEOUT)
            .operation_timeout(BATCH_TIMEOUT)
            .build();
        let config = aws_sdk_sqs::config::Builder::from(config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .retry_partition(retry_partition("sqs", url))
            .build();
        Self { client: Client::from_conf(config), url: url.to_string() }
    }

    /// Waits for messages, up to [`BATCH_MESSAGES_MAX`] of them, and hides them for `visibility`.
    pub async fn receive(&self, visibility: Duration) -> Result<Vec<QueueMessage>, AwsError> {
        let patience = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(RECEIVE_TIMEOUT)
            .operation_timeout(RECEIVE_TIMEOUT)
            .build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(BATCH_MESSAGES_MAX).unwrap_or(i32::MAX))
            .wait_time_seconds(seconds(RECEIVE_WAIT))
            .visibility_timeout(seconds(visibility))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(patience))
            .send()
            .await
            .map_err(|error| failed("ReceiveMessage", classify(&error)))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Whether messages may be received: asks for one, and hides it for no time if there is one.
    pub async fn try_receive(&self) -> Result<(), AwsError> {
        self.client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(1)
            .wait_time_seconds(0)
            .visibility_timeout(0)
            .send()
            .await
            .map(drop)
            .map_err(|error| failed("ReceiveMessage", classify(&error)))
    }

    /// How many messages wait, roughly. It takes none of them.
    pub async fn waiting_messages(&self) -> Result<u64, AwsError> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(name.clone())
            .send()
            .await
            .map_err(|error| failed("GetQueueAttributes", classify(&error)))?;
        let told = answer.attributes().and_then(|attributes| attributes.get(&name));
        Ok(told.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// Deletes up to [`BATCH_MESSAGES_MAX`] messages; those that were not.
    pub async fn delete(&self, receipts: &[Receipt]) -> Result<Vec<FailedEntry>, AwsError> {
        const OPERATION: &str = "DeleteMessageBatch";
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&*receipt.0)
                .build()
        });
        let entries = entries.collect::<Result<_, _>>().map_err(|it| unbuilt(OPERATION, &it))?;
        let answer = self
            .client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| failed(OPERATION, classify(&error)))?;
        Ok(answer.failed().iter().filter_map(failed_entry).collect())
    }

    /// Hides up to [`BATCH_MESSAGES_MAX`] messages for so long from now on; those that were not.
    pub async fn hide(
        &self,
        receipts: &[(Receipt, Duration)],
    ) -> Result<Vec<FailedEntry>, AwsError> {
        const OPERATION: &str = "ChangeMessageVisibilityBatch";
        let entries = receipts.iter().enumerate().map(|(index, (receipt, visibility))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&*receipt.0)
                .visibility_timeout(seconds(*visibility))
                .build()
        });
        let entries = entries.collect::<Result<_, _>>().map_err(|it| unbuilt(OPERATION, &it))?;
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| failed(OPERATION, classify(&error)))?;
        Ok(answer.failed().iter().filter_map(failed_entry).collect())
    }
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqs").field("url", &self.url).finish_non_exhaustive()
    }
}

/// `None` for one that nobody could delete.
fn message(message: Message) -> Option<QueueMessage> {
    let attribute = |name| message.attributes.as_ref()?.get(&name)?.parse::<i64>().ok();
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    let sent_at = attribute(MessageSystemAttributeName::SentTimestamp);
    Some(QueueMessage {
        receipt: Receipt::new(message.receipt_handle.as_deref()?),
        receives: receives.and_then(|it| u32::try_from(it).ok()).unwrap_or(1).max(1),
        sent_at: sent_at.and_then(|at| UnixMillis(at).given()),
        body: message.body.unwrap_or_default(),
    })
}

fn failed_entry(entry: &BatchResultErrorEntry) -> Option<FailedEntry> {
    Some(FailedEntry {
        index: entry.id().parse().ok()?,
        code: Text::truncated(entry.code()),
        for_good: entry.sender_fault(),
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn failed(operation: &'static str, fault: Fault) -> AwsError {
    AwsError { operation, lane: None, fault }
}

fn unbuilt(operation: &'static str, error: &BuildError) -> AwsError {
    let detail = Text::truncated(&error.to_string());
    failed(operation, Fault::Held { reason: HoldReason::Misconfigured, detail })
}
