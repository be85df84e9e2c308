//! What the hub is to hold for a node: the facts from which ASFF is rendered.
//!
//! A [`Finding`] fixes every byte that will be sent: rendering it twice, in two processes, under
//! two configurations, gives the same ASFF. That is what makes a re-send harmless.

use serde::{Deserialize, Serialize};

use super::{Facts, Lane, NodeId, Source, Text, UnixMillis, observation::GoneReason};

/// ASFF severity labels (Security Hub model, `SeverityLabel`), least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Most severe first: the order in which findings leave.
    pub const ALL: [Self; 5] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Informational];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }

    /// `None` if `label` is no ASFF severity label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == label)
    }
}

/// What a version of a finding tells the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Opened,
    Updated,
    Resolved,
    Reopened,
    Refreshed,
}

impl Change {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
            Self::Reopened => "reopened",
            Self::Refreshed => "refreshed",
        }
    }
}

/// `RecordState` together with `Compliance.Status`: the three states that patchferry sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecordState {
    /// ACTIVE, FAILED.
    Open,
    /// ARCHIVED, PASSED.
    Resolved,
    /// `ARCHIVED`, `NOT_AVAILABLE`, reason `NODE_GONE`.
    Gone(GoneReason),
}

impl RecordState {
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

/// The Id of a finding within its product, 1..512 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FindingId {
    /// `patchferry/<partition>/<region>/<account>/<node>/patch-compliance`: one per node.
    Node,
    /// `arn:P:patchmanager:R:A:instance/<node>/document/<document>/run-command/<command>`:
    /// AWS's way, one per run.
    Operation { document: Text<128>, command: Text<100> },
}

impl FindingId {
    #[must_use]
    pub fn render(&self, lane: &Lane, node: &NodeId) -> String {
        let (partition, region, account) = (lane.partition(), &lane.region, &lane.account);
        match self {
            Self::Node => {
                format!("patchferry/{partition}/{region}/{account}/{node}/patch-compliance")
            }
            Self::Operation { document, command } => format!(
                "arn:{partition}:patchmanager:{region}:{account}:instance/{node}/document/{document}/run-command/{command}"
            ),
        }
    }
}

/// How hybrid nodes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HybridAs {
    /// ASFF resource type `Other`, with the managed-instance ARN.
    #[default]
    Other,
    /// As AWS's own integration does.
    AwsEc2Instance,
}

/// Which form a finding is rendered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Template {
    /// patchferry's: complete.
    #[default]
    Patchferry,
    /// Field for field what AWS's own Patch Manager integration sends.
    AwsParity,
}

/// The part of the configuration that shows in the rendered bytes; kept with each finding.
/// `None` is patchferry's default for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RenderPolicy {
    pub template: Template,
    pub hybrid_as: HybridAs,
    /// `None`: the lane's default product.
    pub product_arn: Option<Text<2048>>,
    pub product_name: Option<Text<128>>,
    pub company_name: Option<Text<128>>,
}

impl RenderPolicy {
    #[must_use]
    pub fn product_arn(&self, lane: &Lane) -> String {
        match &self.product_arn {
            Some(arn) => arn.to_string(),
            None => lane.default_product_arn(),
        }
    }
}

/// One version of the hub's record of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    pub node: NodeId,
    pub id: FindingId,
    pub change: Change,
    pub state: RecordState,
    pub severity: Severity,
    /// When the node was first reported; stable for the life of the finding.
    pub created_at: UnixMillis,
    /// Strictly greater than that of every earlier version.
    pub updated_at: UnixMillis,
    pub first_observed_at: UnixMillis,
    pub last_observed_at: UnixMillis,
    pub facts: Facts,
    pub policy: RenderPolicy,
    pub source: Source,
    /// When ingest had the observation behind this version on disk: latency counts from here.
    pub accepted_at: UnixMillis,
}

impl Finding {
    /// Whether the hub knows both under one name: by Id and product.
    #[must_use]
    pub fn has_name_of(&self, other: &Self, lane: &Lane) -> bool {
        self.node == other.node
            && self.id == other.id
            && (self.policy.product_arn == other.policy.product_arn
                || self.policy.product_arn(lane) == other.policy.product_arn(lane))
    }

    /// The version that ends it, decided now and by nobody's observation.
    #[must_use]
    pub fn closed(&self, state: RecordState, updated_at: UnixMillis, now: UnixMillis) -> Self {
        let mut closed = self.clone();
        closed.change = Change::Resolved;
        closed.state = state;
        closed.updated_at = updated_at;
        closed.accepted_at = now;
        closed.source = Source::Derived;
        // The patch list went with the version that was delivered.
        closed.facts.patches = None;
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_identities_have_their_documented_form() {
        let lane: Lane = "111122223333/us-east-2".parse().unwrap();
        let node: NodeId = "i-02573cafcfEXAMPLE".parse().unwrap();
        assert_eq!(
            FindingId::Node.render(&lane, &node),
            "patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance"
        );
        let operation = FindingId::Operation {
            document: "AWS-RunPatchBaseline".into(),
            command: "d710f5bd-04e3-47b4-82f6-df4e0EXAMPLE".into(),
        };
        assert_eq!(
            operation.render(&lane, &node),
            "arn:aws:patchmanager:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE/document/AWS-RunPatchBaseline/run-command/d710f5bd-04e3-47b4-82f6-df4e0EXAMPLE"
        );
    }

    #[test]
    fn severities_order_from_informational_to_critical() {
        assert!(Severity::Critical > Severity::High && Severity::Low > Severity::Informational);
        assert_eq!(Severity::from_label("HIGH"), Some(Severity::High));
        assert_eq!(Severity::from_label("high"), None);
    }
}
