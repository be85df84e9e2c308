//! A node's patch state as it was read, before any judgement.
//!
//! Fields keep what AWS said, sensible or not; texts are only bounded. Whether it makes sense is
//! for the validate stage to say, so that nonsense becomes a dead letter with its raw facts
//! rather than an error at the door.

use serde::{Deserialize, Serialize};

use super::{ReadNumber, Text, UnixMillis};

/// The SSM document behind compliance of type `Patch` and behind every `InstancePatchState`
/// (no other document writes them; the one with hooks runs this one).
pub const BASELINE_DOCUMENT: &str = "AWS-RunPatchBaseline";
/// The SSM document that scans for patches and tells of it as compliance of type `Association`,
/// without the patches (User Guide, "SSM Command document for patching").
pub const ASSOCIATION_DOCUMENT: &str = "AWS-RunPatchBaselineAssociation";
/// `RawCompliance::execution_type` of what such an association has found.
pub const ASSOCIATION_EXECUTION: &str = "Association";

/// Where an observation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Sweep,
    Event,
    /// Lines that somebody handed in (`patchferry ingest`).
    File,
    /// Made by patchferry itself, e.g. the close of a finding whose identity has changed.
    Derived,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::Sweep, Self::Event, Self::File, Self::Derived];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Event => "event",
            Self::File => "file",
            Self::Derived => "derived",
        }
    }
}

/// Why a node is known to be gone for good. Absence alone is never a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    Terminated,
    Deregistered,
    AbsentTooLong,
    /// Not the node is gone but this record of it: another finding reports the node now.
    Superseded,
    /// Nobody looks after the node's account and Region any more.
    LaneRetired,
}

/// One node, as read once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The node id as AWS gave it; checked by validate.
    pub node: Text<128>,
    /// Number of the read that the state comes from: gives the order.
    pub read: ReadNumber,
    /// When the answer to that read arrived.
    pub read_at: UnixMillis,
    pub source: Source,
    pub compliance: Option<RawCompliance>,
    pub patch_state: Option<RawPatchState>,
    pub node_info: Option<NodeInfo>,
    pub patches: Option<PatchList>,
    pub gone: Option<GoneReason>,
}

impl Observation {
    /// Whether it is what an association has found: no patch operation stands behind it.
    #[must_use]
    pub fn is_by_association(&self) -> bool {
        let by_type = self.compliance.as_ref().and_then(|it| it.execution_type.as_ref());
        by_type.is_some_and(|it| it.as_str() == ASSOCIATION_EXECUTION)
            && self.patch_state.as_ref().is_none_or(|state| state.operation.is_blank())
    }
}

/// Six counts by severity (`SeveritySummary` in the SSM model).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeverityCounts {
    pub critical: i32,
    pub high: i32,
    pub medium: i32,
    pub low: i32,
    pub informational: i32,
    pub unspecified: i32,
}

impl SeverityCounts {
    #[must_use]
    pub fn as_array(&self) -> [i32; 6] {
        [self.critical, self.high, self.medium, self.low, self.informational, self.unspecified]
    }
}

/// A `ResourceComplianceSummaryItem`: the service's own verdict. That of an association, an item
/// of `ListComplianceItems`, is kept in the same shape: see [`ASSOCIATION_EXECUTION`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawCompliance {
    /// `COMPLIANT` or `NON_COMPLIANT`.
    pub status: Text<32>,
    pub overall_severity: Text<32>,
    /// The Run Command id when `execution_type` is `Command`.
    pub execution_id: Option<Text<100>>,
    pub execution_type: Option<Text<50>>,
    pub execution_time: Option<UnixMillis>,
    pub compliant_count: i32,
    pub compliant: SeverityCounts,
    pub non_compliant_count: i32,
    pub non_compliant: SeverityCounts,
}

/// An `InstancePatchState`. Absent counts are 0, absent times `None` ("" and epoch 0 mean absent).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawPatchState {
    pub patch_group: Text<256>,
    pub baseline: Text<128>,
    pub snapshot: Option<Text<64>>,
    /// `Scan` or `Install`.
    pub operation: Text<32>,
    pub operation_start: Option<UnixMillis>,
    pub operation_end: Option<UnixMillis>,
    pub reboot_option: Option<Text<32>>,
    pub installed: i32,
    pub installed_other: i32,
    pub installed_pending_reboot: i32,
    pub installed_rejected: i32,
    pub missing: i32,
    pub failed: i32,
    pub not_applicable: i32,
    pub unreported_not_applicable: i32,
    pub available_security_update: i32,
    pub critical_non_compliant: i32,
    pub security_non_compliant: i32,
    pub other_non_compliant: i32,
}

impl RawPatchState {
    /// Missing, failed, rejected or pending a reboot, or any of the three overlapping counts.
    #[must_use]
    pub fn counts_problems(&self) -> bool {
        self.missing > 0
            || self.failed > 0
            || self.installed_rejected > 0
            || self.installed_pending_reboot > 0
            || self.critical_non_compliant > 0
            || self.security_non_compliant > 0
            || self.other_non_compliant > 0
    }
}

/// What `DescribeInstanceInformation` says of the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `EC2Instance` or `ManagedInstance`.
    pub resource_type: Text<32>,
    pub ping_status: Text<32>,
    pub name: Option<Text<256>>,
    pub computer_name: Option<Text<255>>,
    pub platform_type: Option<Text<32>>,
    pub platform_name: Option<Text<128>>,
    pub platform_version: Option<Text<64>>,
    pub ip_address: Option<Text<46>>,
    pub agent_version: Option<Text<32>>,
    /// For example `Microsoft.Compute/virtualMachines`.
    pub source_type: Option<Text<64>>,
    pub source_id: Option<Text<128>>,
}

/// The patches of a non-compliant node that make it so. The list itself is stored once, under
/// the node, and named by the number of the read that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PatchList {
    pub read: ReadNumber,
    /// Of the set of (KB or package, state), whatever their order.
    pub digest: u64,
    /// Patches kept.
    pub kept: u32,
    /// Patches there were; more than `kept` if the list was capped.
    pub total: u32,
    /// Values that the list takes in the store.
    pub chunks: u16,
}

/// The state of one patch on one node (`PatchComplianceData.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PatchState {
    Missing,
    Failed,
    InstalledRejected,
    InstalledPendingReboot,
    /// Anything that doesn't make a node non-compliant.
    Other,
}

impl PatchState {
    /// By AWS's name: the model says `INSTALLED_REJECTED`, live answers say `InstalledRejected`
    /// (CLI examples).
    #[must_use]
    pub fn named(text: &str) -> Self {
        let plain: String =
            text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "missing" => Self::Missing,
            "failed" => Self::Failed,
            "installedrejected" => Self::InstalledRejected,
            "installedpendingreboot" => Self::InstalledPendingReboot,
            _ => Self::Other,
        }
    }
}

/// One patch that makes a node non-compliant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PatchDetail {
    pub state: PatchState,
    /// KB number or package name.
    pub kb: Text<128>,
    pub title: Text<256>,
    pub classification: Text<64>,
    /// The vendor's severity, not the baseline's compliance level.
    pub severity: Text<32>,
    /// At most [`CVES_KEPT_MAX`].
    pub cves: Vec<Text<32>>,
}

/// CVE ids kept of one patch: a kernel's update closes dozens. More than a finding lists of all its
/// patches, so that what isn't kept is among what it says to have left out.
pub const CVES_KEPT_MAX: usize = 100;

impl PatchDetail {
    /// How little the vendor makes of it: 0 is critical. Vendors differ in their words (Microsoft
    /// and Red Hat say Important and Moderate, others High and Medium).
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self.severity.as_str().to_ascii_lowercase().as_str() {
            "critical" => 0,
            "important" | "high" => 1,
            "moderate" | "medium" => 2,
            "low" => 3,
            _ => 4,
        }
    }

    /// Whether it may close more than [`PatchDetail::cves`] says.
    #[must_use]
    pub fn may_have_more_cves(&self) -> bool {
        self.cves.len() >= CVES_KEPT_MAX
    }

    /// The CVE ids in `PatchComplianceData.CVEIds`: one text, separated by commas.
    #[must_use]
    pub fn split_cves(text: &str) -> Vec<Text<32>> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter_map(Text::non_blank)
            .take(CVES_KEPT_MAX)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_states_are_told_whatever_their_spelling() {
        for (text, state) in [
            ("MISSING", PatchState::Missing),
            ("Missing", PatchState::Missing),
            ("INSTALLED_REJECTED", PatchState::InstalledRejected),
            ("InstalledPendingReboot", PatchState::InstalledPendingReboot),
            ("Failed", PatchState::Failed),
            ("INSTALLED", PatchState::Other),
            ("AVAILABLE_SECURITY_UPDATES", PatchState::Other),
        ] {
            assert_eq!(PatchState::named(text), state, "{text}");
        }
    }
}
