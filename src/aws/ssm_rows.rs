//! From SSM's shapes to records: pure, and forgiving, because judging is the validate stage's.
//!
//! What AWS leaves out arrives as "" and epoch 0 (the SDK fills in required members), and
//! Windows patches carry 0001-01-01: all of them mean "not given". Texts are bounded, unknown
//! enum values kept as they are spelt.

use aws_sdk_ssm::types::{
    Association, ComplianceItem, ComplianceStatus, InstanceAssociationStatusInfo,
    InstanceInformation, InstancePatchState, PatchComplianceData, ResourceComplianceSummaryItem,
    SeveritySummary,
};
use aws_smithy_types::DateTime;

use super::ssm::{
    AssociationItem, AssociationRow, AssociationRun, ComplianceRow, ItemRow, NodeRow, PatchRow,
    PatchStateRow,
};
use crate::record::{
    PatchDetail, Text, UnixMillis,
    observation::{
        ASSOCIATION_DOCUMENT, NodeInfo, PatchState, RawCompliance, RawPatchState, SeverityCounts,
    },
};

pub(super) fn compliance_row(item: &ResourceComplianceSummaryItem) -> Option<ComplianceRow> {
    let execution = item.execution_summary();
    let compliant = item.compliant_summary();
    let non_compliant = item.non_compliant_summary();
    let compliance = RawCompliance {
        status: item.status().map_or_else(Text::default, |status| status.as_str().into()),
        overall_severity: item
            .overall_severity()
            .map_or_else(Text::default, |severity| severity.as_str().into()),
        execution_id: execution.and_then(|e| given(e.execution_id())),
        execution_type: execution.and_then(|e| given(e.execution_type())),
        execution_time: execution.and_then(|e| time(e.execution_time())),
        compliant_count: compliant.map_or(0, |c| c.compliant_count),
        compliant: severity_counts(compliant.and_then(|c| c.severity_summary())),
        non_compliant_count: non_compliant.map_or(0, |c| c.non_compliant_count),
        non_compliant: severity_counts(non_compliant.and_then(|c| c.severity_summary())),
    };
    Some(ComplianceRow { node: given(item.resource_id())?, compliance })
}

/// `None` for an item that doesn't make its node's patches non-compliant.
pub(super) fn item_row(item: &ComplianceItem) -> Option<ItemRow> {
    let is_patch = item.compliance_type().is_none_or(|kind| kind == "Patch");
    if !is_patch || item.status() != Some(&ComplianceStatus::NonCompliant) {
        return None;
    }
    let execution = item.execution_summary();
    Some(ItemRow {
        severity: item.severity().map_or_else(Text::default, |severity| severity.as_str().into()),
        execution_id: execution.and_then(|e| given(e.execution_id())),
        execution_type: execution.and_then(|e| given(e.execution_type())),
        execution_time: execution.and_then(|e| time(e.execution_time())),
    })
}

pub(super) fn node_row(item: &InstanceInformation) -> Option<NodeRow> {
    let text = |value: Option<&str>| value.map_or_else(Text::default, Text::truncated);
    let info = NodeInfo {
        resource_type: text(item.resource_type().map(aws_sdk_ssm::types::ResourceType::as_str)),
        ping_status: text(item.ping_status().map(aws_sdk_ssm::types::PingStatus::as_str)),
        name: given(item.name()),
        computer_name: given(item.computer_name()),
        platform_type: given(item.platform_type().map(aws_sdk_ssm::types::PlatformType::as_str)),
        platform_name: given(item.platform_name()),
        platform_version: given(item.platform_version()),
        ip_address: given(item.ip_address()),
        agent_version: given(item.agent_version()),
        source_type: given(item.source_type().map(aws_sdk_ssm::types::SourceType::as_str)),
        source_id: given(item.source_id()),
    };
    Some(NodeRow { node: given(item.instance_id())?, info })
}

pub(super) fn patch_state_row(state: &InstancePatchState) -> Option<PatchStateRow> {
    let raw = RawPatchState {
        patch_group: state.patch_group().into(),
        baseline: state.baseline_id().into(),
        snapshot: given(state.snapshot_id()),
        operation: state.operation().as_str().into(),
        operation_start: time(state.operation_start_time()),
        operation_end: time(state.operation_end_time()),
        reboot_option: given(state.reboot_option().map(aws_sdk_ssm::types::RebootOption::as_str)),
        installed: state.installed_count(),
        installed_other: state.installed_other_count(),
        installed_pending_reboot: state.installed_pending_reboot_count().unwrap_or(0),
        installed_rejected: state.installed_rejected_count().unwrap_or(0),
        missing: state.missing_count(),
        failed: state.failed_count(),
        not_applicable: state.not_applicable_count(),
        unreported_not_applicable: state.unreported_not_applicable_count().unwrap_or(0),
        available_security_update: state.available_security_update_count().unwrap_or(0),
        critical_non_compliant: state.critical_non_compliant_count().unwrap_or(0),
        security_non_compliant: state.security_non_compliant_count().unwrap_or(0),
        other_non_compliant: state.other_non_compliant_count().unwrap_or(0),
    };
    Some(PatchStateRow { node: given(Some(state.instance_id()))?, state: raw })
}

/// `None` for a patch that doesn't make its node non-compliant.
pub(super) fn patch_row(patch: &PatchComplianceData) -> Option<PatchRow> {
    let state = PatchState::named(patch.state().as_str());
    if state == PatchState::Other {
        return None;
    }
    Some(PatchDetail {
        state,
        kb: patch.kb_id().into(),
        title: patch.title().into(),
        classification: patch.classification().into(),
        severity: patch.severity().into(),
        cves: PatchDetail::split_cves(patch.cve_ids().unwrap_or_default()),
    })
}

/// `None` for an association with another document.
pub(super) fn association_row(association: &Association) -> Option<AssociationRow> {
    if association.name() != Some(ASSOCIATION_DOCUMENT) {
        return None;
    }
    let id = given(association.association_id())?;
    Some(AssociationRow { id, last_run: association.last_execution_date().and_then(time) })
}

pub(super) fn association_item(item: &ComplianceItem) -> Option<AssociationItem> {
    let detail = |key: &str| item.details()?.get(key).map(String::as_str);
    Some(AssociationItem {
        association: given(item.id())?,
        document: given(detail("DocumentName")),
        status: item.status().map_or_else(Text::default, |status| status.as_str().into()),
        severity: item.severity().map_or_else(Text::default, |severity| severity.as_str().into()),
        baseline: given(detail("PatchBaselineId")),
    })
}

pub(super) fn association_run(info: &InstanceAssociationStatusInfo) -> Option<AssociationRun> {
    let association = given(info.association_id())?;
    Some(AssociationRun { association, at: info.execution_date().and_then(time) })
}

fn severity_counts(summary: Option<&SeveritySummary>) -> SeverityCounts {
    summary.map_or_else(SeverityCounts::default, |summary| SeverityCounts {
        critical: summary.critical_count,
        high: summary.high_count,
        medium: summary.medium_count,
        low: summary.low_count,
        informational: summary.informational_count,
        unspecified: summary.unspecified_count,
    })
}

fn given<const MAX_CHARS: usize>(value: Option<&str>) -> Option<Text<MAX_CHARS>> {
    value.and_then(Text::non_blank)
}

fn time(value: &DateTime) -> Option<UnixMillis> {
    // Rounded: as a fraction of seconds a millisecond is a little more or less than itself.
    UnixMillis::from_epoch_seconds(value.as_secs_f64()).and_then(UnixMillis::given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_epoch_and_year_one_all_mean_not_given() {
        assert_eq!(time(&DateTime::from_secs(0)), None);
        assert_eq!(time(&DateTime::from_secs(-62_135_596_800)), None);
        assert_eq!(time(&DateTime::from_secs(1_636_668_325)), Some(UnixMillis(1_636_668_325_000)));
    }
}
