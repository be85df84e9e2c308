//! A checked observation with its verdict.

use serde::{Deserialize, Serialize};

use super::{
    NodeId, ReadNumber, Severity, Source, Text, UnixMillis,
    observation::{ASSOCIATION_DOCUMENT, GoneReason, NodeInfo, PatchList},
};

/// What a node's state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    NonCompliant(Severity),
    Compliant,
    Gone(GoneReason),
}

/// A judged node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    pub node: NodeId,
    pub read: ReadNumber,
    pub read_at: UnixMillis,
    /// When ingest had it on disk.
    pub accepted_at: UnixMillis,
    pub source: Source,
    pub verdict: Verdict,
    pub facts: Facts,
}

/// Everything about the node's patch state that a finding is rendered from; checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Facts {
    pub baseline: Option<Text<128>>,
    pub patch_group: Option<Text<256>>,
    pub snapshot: Option<Text<64>>,
    /// `Scan` or `Install`, as SSM spells it.
    pub operation: Option<Text<32>>,
    pub operation_start: Option<UnixMillis>,
    pub operation_end: Option<UnixMillis>,
    pub reboot_option: Option<Text<32>>,
    pub counts: PatchCounts,
    pub compliance: Option<Compliance>,
    pub node_info: Option<NodeInfo>,
    pub patches: Option<PatchList>,
    /// The SSM document that ran, if it is known.
    pub document: Option<Text<128>>,
}

impl Facts {
    /// Whether an association has found them: then there are neither counts nor patches.
    #[must_use]
    pub fn are_by_association(&self) -> bool {
        self.document.as_ref().is_some_and(|it| it.as_str() == ASSOCIATION_DOCUMENT)
    }
}

/// `InstancePatchState`'s counts, none of them negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PatchCounts {
    pub installed: u32,
    pub installed_other: u32,
    pub installed_pending_reboot: u32,
    pub installed_rejected: u32,
    pub missing: u32,
    pub failed: u32,
    pub not_applicable: u32,
    pub unreported_not_applicable: u32,
    pub available_security_update: u32,
    pub critical_non_compliant: u32,
    pub security_non_compliant: u32,
    pub other_non_compliant: u32,
}

/// The service's own summary, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compliance {
    pub non_compliant: bool,
    pub overall_severity: Option<Text<32>>,
    pub execution_id: Option<Text<100>>,
    pub execution_type: Option<Text<50>>,
    pub execution_time: Option<UnixMillis>,
    /// Critical, high, medium, low, informational, unspecified.
    pub compliant_counts: [u32; 6],
    /// Critical, high, medium, low, informational, unspecified.
    pub non_compliant_counts: [u32; 6],
}
