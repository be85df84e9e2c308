//! Writes to a lane's hub (Security Hub CSPM), and reads from it.
//!
//! Guarantees: one call of ours is one request to AWS (SDK retries are off, the deliver stage's
//! outcome table is the policy); it ends within 15 s; what came of it is an [`ImportReply`], which
//! has a variant for every row of that table.
//!
//! Deliberately doesn't know: batches' limits, rates, and what to do about an outcome.

use std::{fmt, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_securityhub::{
    Client,
    operation::RequestId,
    types::{AwsSecurityFinding, ImportFindingsError},
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

use super::{
    AwsError, Fault, HoldReason, Page, Rendered, Unavailability,
    asff::fields::{Fields, fields},
    classify::{classify, is_not_subscribed},
    connect::retry_partition,
    http::CONNECT_TIMEOUT,
    read_back,
};
use crate::record::{Lane, NodeId, RecordState, Severity, Text, UnixMillis};

/// Findings of one call (`BatchImportFindings`, API Reference).
pub const IMPORT_FINDINGS_MAX: usize = 100;
/// Bytes of one call ("Guidelines for using the `BatchImportFindings` API": 6 MB).
pub const IMPORT_BYTES_MAX: usize = 6_000_000;
/// Values of one filter attribute (`GetFindings`, API Reference).
pub const QUERY_IDS_MAX: usize = 20;
/// Findings of one page (`GetFindings`, API Reference).
const PAGE_FINDINGS_MAX: i32 = 100;

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// What came of one `BatchImportFindings` request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportReply {
    /// AWS answered. An empty answer arrives as zeroes: whether the counts add up to what was
    /// sent is for the caller to see.
    Answered {
        success: u32,
        /// As AWS counts them; not always as many as it lists.
        failed_count: u32,
        failed: Vec<FailedFinding>,
        request_id: Option<Text<128>>,
    },
    /// AWS calls the whole call invalid, or too large.
    CallInvalid {
        code: Text<128>,
        message: Text<1024>,
    },
    Throttled {
        code: Text<128>,
    },
    Unavailable {
        kind: Unavailability,
        detail: Text<512>,
    },
    Held {
        reason: HoldReason,
        detail: Text<512>,
    },
}

/// One finding that AWS refused within an answered call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedFinding {
    pub id: String,
    pub code: Text<128>,
    pub message: Text<1024>,
}

impl FailedFinding {
    /// Whether AWS says by this that the hub is off or the product isn't enabled.
    #[must_use]
    pub fn is_invalid_access(&self) -> bool {
        self.code.as_str().starts_with("InvalidAccess") || is_not_subscribed(self.message.as_str())
    }

    /// Whether AWS calls the finding itself invalid: it stays so however often it is sent.
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        matches!(
            self.code.as_str(),
            "InvalidInput" | "InvalidInputException" | "FindingSizeExceeded"
        )
    }
}

/// Which findings to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubQuery {
    /// All of ours: by product, generator, and how their Ids begin.
    Ours { product_arn: String, id_prefix: String },
    /// Those of ours that somebody set to RESOLVED while they are still ACTIVE.
    OursResolvedByPeople { product_arn: String, id_prefix: String },
    /// Exactly these, at most [`QUERY_IDS_MAX`].
    Ids { product_arn: String, ids: Vec<String> },
}

/// A finding as the hub holds it. `GetFindings` is eventually consistent: it may be an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRecord {
    pub id: String,
    pub product_arn: String,
    /// From our form of Id or AWS's, else from the resource.
    pub node: Option<NodeId>,
    pub created_at: Option<UnixMillis>,
    pub updated_at: Option<UnixMillis>,
    pub first_observed_at: Option<UnixMillis>,
    pub state: RecordState,
    pub severity: Option<Severity>,
    pub workflow: HubWorkflow,
}

/// `Workflow.Status`: what people made of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HubWorkflow {
    New,
    Notified,
    Resolved,
    Suppressed,
    /// Not given, or a status that is newer than this program.
    Other,
}

/// Whether the hub is enabled in an account and Region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HubSwitch {
    On,
    Off,
    /// `securityhub:DescribeHub` isn't granted.
    Denied,
}

/// One lane's hub. Cheap to clone.
#[derive(Clone)]
pub struct SecurityHub {
    pub(super) client: Client,
    pub(super) lane: Arc<Lane>,
}

impl SecurityHub {
    pub(super) fn new(config: &SdkConfig, lane: Lane) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(ATTEMPT_TIMEOUT)
            .build();
        let config = aws_sdk_securityhub::config::Builder::from(config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .retry_partition(retry_partition("hub", &lane.to_string()))
            .build();
        Self { client: Client::from_conf(config), lane: Arc::new(lane) }
    }

    /// Sends a batch: at most [`IMPORT_FINDINGS_MAX`] findings with different Ids.
    pub async fn import(&self, findings: Vec<Rendered>) -> ImportReply {
        debug_assert!((1..=IMPORT_FINDINGS_MAX).contains(&findings.len()), "{}", findings.len());
        let findings = findings.into_iter().map(Rendered::into_asff).collect();
        match self.client.batch_import_findings().set_findings(Some(findings)).send().await {
            Ok(answer) => ImportReply::Answered {
                success: count(answer.success_count()),
                failed_count: count(answer.failed_count()),
                failed: answer.failed_findings().iter().map(failed_finding).collect(),
                request_id: answer.request_id().and_then(Text::non_blank),
            },
            Err(error) => reply_of_fault(classify(&error)),
        }
    }

    /// One page of what the hub holds.
    pub async fn get_findings(
        &self,
        query: &HubQuery,
        from: Option<String>,
    ) -> Result<Page<HubRecord>, AwsError> {
        let answer = self
            .client
            .get_findings()
            .filters(read_back::filters(query))
            .max_results(PAGE_FINDINGS_MAX)
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("GetFindings", classify(&error)))?;
        Ok(Page {
            items: answer.findings().iter().filter_map(read_back::hub_record).collect(),
            next: answer.next_token().filter(|token| !token.is_empty()).map(ToOwned::to_owned),
        })
    }

    /// Ids and fields of the findings that a query for some Ids finds: all of one page.
    pub async fn get_fields(&self, query: &HubQuery) -> Result<Vec<(String, Fields)>, AwsError> {
        let answer = self
            .client
            .get_findings()
            .filters(read_back::filters(query))
            .max_results(PAGE_FINDINGS_MAX)
            .send()
            .await
            .map_err(|error| self.failed("GetFindings", classify(&error)))?;
        let named =
            |finding: &AwsSecurityFinding| Some((finding.id()?.to_owned(), fields(finding)));
        Ok(answer.findings().iter().filter_map(named).collect())
    }

    /// Whether the hub is on.
    pub async fn describe_hub(&self) -> Result<HubSwitch, AwsError> {
        let Err(error) = self.enabled_since().await else {
            return Ok(HubSwitch::On);
        };
        match error.fault {
            Fault::Held { reason: HoldReason::HubOff, .. } => Ok(HubSwitch::Off),
            Fault::Held { reason: HoldReason::AccessDenied, .. } => Ok(HubSwitch::Denied),
            _ => Err(error),
        }
    }

    pub(super) fn failed(&self, operation: &'static str, fault: Fault) -> AwsError {
        AwsError { operation, lane: Some(Lane::clone(&self.lane)), fault }
    }
}

impl fmt::Debug for SecurityHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityHub").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// The outcome table's row for a call that failed as a whole.
///
/// Only what AWS itself calls invalid is: a 4xx without one of these codes comes from something
/// in between, or from a service that will know better later. 413 is the exception, by size.
fn reply_of_fault(fault: Fault) -> ImportReply {
    match fault {
        Fault::Throttled { code } => ImportReply::Throttled { code },
        Fault::Unavailable { kind, detail } => ImportReply::Unavailable { kind, detail },
        Fault::Held { reason, detail } => ImportReply::Held { reason, detail },
        Fault::Refused { status, code, message } => {
            if status == 413 || calls_input_invalid(code.as_str()) {
                return ImportReply::CallInvalid { code, message };
            }
            ImportReply::Unavailable {
                kind: Unavailability::Server { status },
                detail: Text::truncated(&format!("{code} {message}")),
            }
        }
    }
}

fn calls_input_invalid(code: &str) -> bool {
    matches!(
        code,
        "InvalidInputException"
            | "ValidationException"
            | "ValidationError"
            | "SerializationException"
            | "RequestEntityTooLargeException"
            // A malformed AwsAccountId or ProductArn (Security Hub partner FAQ).
            | "AuthorizerConfigurationException"
    )
}

fn count(value: Option<i32>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn failed_finding(failed: &ImportFindingsError) -> FailedFinding {
    FailedFinding {
        id: failed.id().unwrap_or_default().to_owned(),
        code: Text::truncated(failed.error_code().unwrap_or_default()),
        message: Text::truncated(failed.error_message().unwrap_or_default()),
    }
}
