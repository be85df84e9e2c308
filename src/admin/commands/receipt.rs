//! `receipt`: proof of what the hub was told of a node, and of what it is still to be told.
//!
//! The answer is evidence for auditors: its field names are stable, its times are RFC 3339 in
//! UTC, and states are in the hub's own terms. New fields may be added; none changes its meaning
//! without another [`SCHEMA`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    admin::{
        command::{Caller, Command, Refusal},
        handler::Admin,
    },
    config::Config,
    queue::{Desired, NodeRecord, Waiting},
    record::{Attempts, FindingId, Lane, NodeId, Receipt, RecordState, UnixMillis},
};

/// Of the answer.
pub const SCHEMA: &str = "patchferry.receipt/1";

/// What is known of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetReceipt {
    pub node: String,
    /// `None`: all lanes.
    pub lane: Option<Lane>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReceipts {
    pub schema: String,
    pub patchferry_version: String,
    /// When this was true.
    pub at: String,
    pub node: String,
    /// Those in which anything is known of the node.
    pub lanes: Vec<LaneReceipt>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneReceipt {
    pub lane: Lane,
    pub account: String,
    pub region: String,
    pub finding_id: Option<String>,
    pub product_arn: String,
    /// When ingest last accepted an observation of the node.
    pub last_observed: Option<String>,
    /// The last version that the hub acknowledged.
    pub delivered: Option<Delivered>,
    /// What the hub should hold.
    pub desired: Option<Wanted>,
    /// The version that waits for delivery.
    pub waiting: Option<Pending>,
    /// An assessment waits until the lane's findings have been read back from the hub.
    pub waits_for_read_back: bool,
    pub dead_letters: Vec<Dead>,
}

/// What the finding says, in the hub's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// opened, updated, resolved, reopened or refreshed.
    pub change: String,
    /// `RecordState`.
    pub record_state: String,
    /// `Compliance.Status`.
    pub compliance_status: String,
    /// `Severity.Label`.
    pub severity: String,
    /// `UpdatedAt`.
    pub updated_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    #[serde(flatten)]
    pub content: Content,
    /// Whether this is what the hub should hold.
    pub is_newest: bool,
    /// The end of the patch operation that was reported.
    pub operation_end: Option<String>,
    /// The observation was on disk.
    pub accepted: String,
    pub first_sent: String,
    pub acknowledged: String,
    /// From accepted to acknowledged.
    pub latency_seconds: f64,
    /// Requests that carried it, the last one included.
    pub attempts: u32,
    pub failures: Vec<Failure>,
    /// `None`: confirmed by reading the finding back.
    pub aws_request_id: Option<String>,
}

/// A request that did not get it acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub sent: String,
    pub outcome: String,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    #[serde(flatten)]
    pub content: Content,
    /// `CreatedAt`.
    pub created_at: String,
    pub decided: String,
    /// The hub called this version invalid.
    pub rejected: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Since when the node's finding has had its place in the line.
    pub since: String,
    /// Not sent before.
    pub delayed_until: Option<String>,
    pub attempts: u32,
    pub first_sent: Option<String>,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dead {
    pub stage: String,
    pub reason: String,
    pub message: String,
    pub count: u64,
    pub first: String,
    pub last: String,
}

impl Command for GetReceipt {
    const NAME: &'static str = "receipt";
    type Answer = NodeReceipts;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<NodeReceipts, Refusal> {
        let lanes = match self.lane {
            Some(lane) => vec![lane],
            None => admin.known_lanes(),
        };
        let mut found = Vec::new();
        for lane in lanes {
            let record = admin.queues().node_record(&lane, &self.node).await?;
            if !record.is_empty() {
                found.push(lane_receipt(lane, &self.node, &record, admin.config()));
            }
        }
        Ok(NodeReceipts {
            schema: SCHEMA.into(),
            patchferry_version: env!("CARGO_PKG_VERSION").into(),
            at: admin.queues().clock().now().to_rfc3339(),
            node: self.node,
            lanes: found,
        })
    }
}

fn lane_receipt(lane: Lane, node: &str, record: &NodeRecord, config: &Config) -> LaneReceipt {
    let desired = record.desired.as_ref();
    let receipt = record.acked.as_ref().map(|acked| &acked.receipt);
    LaneReceipt {
        account: lane.account.to_string(),
        region: lane.region.to_string(),
        finding_id: finding_id(&lane, node, desired, config),
        product_arn: product_arn(&lane, desired, config),
        last_observed: record.seen.as_ref().map(|seen| seen.accepted_at.to_rfc3339()),
        delivered: receipt.map(|receipt| delivered(receipt, desired)),
        desired: desired.map(wanted),
        waiting: record.waiting.as_ref().map(|waiting| pending(waiting, record.due)),
        waits_for_read_back: record.parked,
        dead_letters: record.dead.iter().map(|complete| dead(&complete.letter)).collect(),
        lane,
    }
}

/// As it was sent; once the ledger has forgotten the finding, what the node's one finding is
/// called. `None` if each run has its own and none is known.
fn finding_id(
    lane: &Lane,
    node: &str,
    desired: Option<&Desired>,
    config: &Config,
) -> Option<String> {
    if let Some(desired) = desired {
        return Some(desired.finding.id.render(lane, &desired.finding.node));
    }
    let node: NodeId = node.parse().ok()?;
    let one_per_node = config.finding.identity == crate::config::Identity::Node;
    one_per_node.then(|| FindingId::Node.render(lane, &node))
}

fn product_arn(lane: &Lane, desired: Option<&Desired>, config: &Config) -> String {
    if let Some(desired) = desired {
        return desired.finding.policy.product_arn(lane);
    }
    let configured = config.finding.product_arn.as_ref().map(ToString::to_string);
    configured.unwrap_or_else(|| lane.default_product_arn())
}

fn content(
    change: crate::record::Change,
    state: RecordState,
    severity: crate::record::Severity,
    updated_at: UnixMillis,
) -> Content {
    let (record_state, compliance_status) = match state {
        RecordState::Open => ("ACTIVE", "FAILED"),
        RecordState::Resolved => ("ARCHIVED", "PASSED"),
        RecordState::Gone(_) => ("ARCHIVED", "NOT_AVAILABLE"),
    };
    Content {
        change: change.as_str().into(),
        record_state: record_state.into(),
        compliance_status: compliance_status.into(),
        severity: severity.as_str().into(),
        updated_at: updated_at.to_rfc3339(),
    }
}

fn delivered(receipt: &Receipt, desired: Option<&Desired>) -> Delivered {
    let latency = receipt.acknowledged_at.since(receipt.accepted_at);
    Delivered {
        content: content(receipt.change, receipt.state, receipt.severity, receipt.updated_at),
        is_newest: desired.is_none_or(|desired| desired.revision == receipt.revision),
        operation_end: receipt.operation_end.map(UnixMillis::to_rfc3339),
        accepted: receipt.accepted_at.to_rfc3339(),
        first_sent: receipt.first_sent_at.to_rfc3339(),
        acknowledged: receipt.acknowledged_at.to_rfc3339(),
        latency_seconds: latency.as_secs_f64(),
        attempts: receipt.attempts,
        failures: failures(&receipt.failures),
        aws_request_id: receipt.aws_request_id.as_ref().map(ToString::to_string),
    }
}

fn wanted(desired: &Desired) -> Wanted {
    let finding = &desired.finding;
    Wanted {
        content: content(finding.change, finding.state, finding.severity, finding.updated_at),
        created_at: finding.created_at.to_rfc3339(),
        decided: desired.decided_at.to_rfc3339(),
        rejected: desired.rejected,
    }
}

fn pending(waiting: &Waiting, due: Option<UnixMillis>) -> Pending {
    Pending {
        since: waiting.since.to_rfc3339(),
        delayed_until: due.map(UnixMillis::to_rfc3339),
        attempts: waiting.attempts,
        first_sent: waiting.first_sent_at.map(UnixMillis::to_rfc3339),
        failures: failures(&waiting.failures),
    }
}

fn failures(attempts: &Attempts) -> Vec<Failure> {
    let failure = |attempt: &crate::record::Attempt| Failure {
        sent: attempt.sent_at.to_rfc3339(),
        outcome: attempt.outcome.as_str().into(),
        detail: attempt.detail.to_string(),
    };
    attempts.iter().map(failure).collect()
}

fn dead(letter: &crate::record::DeadLetter) -> Dead {
    Dead {
        stage: letter.stage.as_str().into(),
        reason: letter.reason.as_str().into(),
        message: letter.message.to_string(),
        count: letter.count,
        first: letter.first_at.to_rfc3339(),
        last: letter.last_at.to_rfc3339(),
    }
}
