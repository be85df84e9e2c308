//! From a query to `GetFindings` filters, and from what the hub holds to a [`HubRecord`]: pure.

use aws_sdk_securityhub::types::{
    AwsSecurityFinding, AwsSecurityFindingFilters, ComplianceStatus,
    RecordState as AsffRecordState, StringFilter, StringFilterComparison, WorkflowStatus,
};

use super::{
    asff::{GENERATOR_ID, gone_reason},
    security_hub::{HubQuery, HubRecord, HubWorkflow, QUERY_IDS_MAX},
};
use crate::record::{NodeId, RecordState, Severity, UnixMillis, observation::GoneReason};

pub(super) fn filters(query: &HubQuery) -> AwsSecurityFindingFilters {
    match query {
        HubQuery::Ours { product_arn, id_prefix } => ours(product_arn, id_prefix),
        HubQuery::OursResolvedByPeople { product_arn, id_prefix } => {
            let mut filters = ours(product_arn, id_prefix);
            filters.workflow_status = Some(vec![equals(WorkflowStatus::Resolved.as_str())]);
            filters.record_state = Some(vec![equals(AsffRecordState::Active.as_str())]);
            filters
        }
        HubQuery::Ids { product_arn, ids } => {
            debug_assert!((1..=QUERY_IDS_MAX).contains(&ids.len()), "{} ids", ids.len());
            AwsSecurityFindingFilters::builder()
                .product_arn(equals(product_arn))
                .set_id(Some(ids.iter().map(|id| equals(id)).collect()))
                .build()
        }
    }
}

fn ours(product_arn: &str, id_prefix: &str) -> AwsSecurityFindingFilters {
    AwsSecurityFindingFilters::builder()
        .product_arn(equals(product_arn))
        .generator_id(equals(GENERATOR_ID))
        .id(string_filter(id_prefix, StringFilterComparison::Prefix))
        .build()
}

fn equals(value: &str) -> StringFilter {
    string_filter(value, StringFilterComparison::Equals)
}

fn string_filter(value: &str, comparison: StringFilterComparison) -> StringFilter {
    StringFilter::builder().value(value).comparison(comparison).build()
}

/// `None` without an Id: it can't be one of ours.
pub(super) fn hub_record(finding: &AwsSecurityFinding) -> Option<HubRecord> {
    let id = finding.id().filter(|id| !id.is_empty())?;
    let resource = finding.resources().first().and_then(|resource| resource.id());
    Some(HubRecord {
        id: id.to_owned(),
        product_arn: finding.product_arn().unwrap_or_default().to_owned(),
        node: node_of_id(id).or_else(|| node_at_end(resource?)),
        created_at: time(finding.created_at()),
        updated_at: time(finding.updated_at()),
        first_observed_at: time(finding.first_observed_at()),
        state: state(finding),
        severity: severity(finding),
        workflow: workflow(finding),
    })
}

/// From `patchferry/P/R/A/<node>/patch-compliance` or
/// `arn:P:patchmanager:R:A:instance/<node>/document/…`.
fn node_of_id(id: &str) -> Option<NodeId> {
    let mut parts = id.split('/');
    let first = parts.next()?;
    let node = if first == "patchferry" { parts.nth(3)? } else { parts.next()? };
    node.parse().ok()
}

/// From an ARN that ends in `/<node>`, or a bare node id.
fn node_at_end(resource: &str) -> Option<NodeId> {
    resource.rsplit('/').next()?.parse().ok()
}

fn time(text: Option<&str>) -> Option<UnixMillis> {
    UnixMillis::parse_rfc3339(text?).ok()
}

fn state(finding: &AwsSecurityFinding) -> RecordState {
    if finding.record_state() != Some(&AsffRecordState::Archived) {
        return RecordState::Open;
    }
    let compliance = finding.compliance();
    if compliance.and_then(|c| c.status()) != Some(&ComplianceStatus::NotAvailable) {
        return RecordState::Resolved;
    }
    let told = compliance
        .map(aws_sdk_securityhub::types::Compliance::status_reasons)
        .unwrap_or_default()
        .iter()
        .find_map(|reason| gone_reason(reason.description()?));
    RecordState::Gone(told.unwrap_or(GoneReason::AbsentTooLong))
}

/// The provider's own severity; a customer may have put another one at the top level.
fn severity(finding: &AwsSecurityFinding) -> Option<Severity> {
    let own = finding.finding_provider_fields().and_then(|fields| fields.severity()?.label());
    let shown = || finding.severity().and_then(|severity| severity.label());
    Severity::from_label(own.or_else(shown)?.as_str())
}

fn workflow(finding: &AwsSecurityFinding) -> HubWorkflow {
    match finding.workflow().and_then(|workflow| workflow.status()) {
        Some(WorkflowStatus::New) => HubWorkflow::New,
        Some(WorkflowStatus::Notified) => HubWorkflow::Notified,
        Some(WorkflowStatus::Resolved) => HubWorkflow::Resolved,
        Some(WorkflowStatus::Suppressed) => HubWorkflow::Suppressed,
        _ => HubWorkflow::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_read_from_both_forms_of_id() {
        for id in [
            "patchferry/aws/us-east-2/111122223333/i-02573cafcfEXAMPLE/patch-compliance",
            "arn:aws:patchmanager:us-east-2:111122223333:instance/i-02573cafcfEXAMPLE/document/D/run-command/C",
        ] {
            assert_eq!(node_of_id(id).unwrap().as_str(), "i-02573cafcfEXAMPLE");
        }
        assert_eq!(node_of_id("somebody/else"), None);
    }

    #[test]
    fn an_archived_finding_says_why_its_node_is_gone() {
        use crate::aws::asff::gone_description;
        use aws_sdk_securityhub::types::{Compliance, StatusReason};
        let reason = StatusReason::builder()
            .reason_code("NODE_GONE")
            .description(gone_description(GoneReason::Terminated))
            .build();
        let finding = AwsSecurityFinding::builder()
            .id("x")
            .record_state(AsffRecordState::Archived)
            .compliance(
                Compliance::builder()
                    .status(ComplianceStatus::NotAvailable)
                    .status_reasons(reason)
                    .build(),
            )
            .build();
        let record = hub_record(&finding).unwrap();
        assert_eq!(record.state, RecordState::Gone(GoneReason::Terminated));
    }
}
