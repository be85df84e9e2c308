//! SSM: associations, and when they have run.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    parse,
    ssm::{page_by_offset, page_size, validation},
    ssm_answers::{seconds, severity_summary},
};
use crate::simulator::{
    associations::{Association, AssociationResult},
    fleet::{Fleet, Node, SeverityCounts},
    patches::Level,
    reply::ApiError,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AssociationFilter {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListAssociations {
    #[serde(default)]
    association_filter_list: Vec<AssociationFilter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn list_associations(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: ListAssociations = parse(body)?;
    let page = page_size(request.max_results, 1..=50, 50)?;
    let filters = &request.association_filter_list;
    if let Some(filter) = filters.iter().find(|filter| filter.key != "Name") {
        let message =
            format!("the simulation filters associations by Name only, not {}", filter.key);
        return Err(validation(&message));
    }
    let listed = fleet
        .associations
        .iter()
        .filter(|association| filters.iter().all(|it| it.value == association.document))
        .map(association);
    page_by_offset("Associations", listed, request.next_token.as_deref(), page)
}

fn association(association: &Association) -> Value {
    let mut shown = json!({
        "Name": association.document,
        "AssociationId": association.id,
        "AssociationVersion": "1",
        "AssociationName": format!("{}-of-the-fleet", association.document),
        "Targets": [{"Key": "InstanceIds", "Values": ["*"]}],
        "ScheduleExpression": "rate(1 day)",
        "Overview": {"Status": "Success", "DetailedStatus": "Success"},
    });
    if let Some(at_ms) = association.last_run_at_ms {
        shown["LastExecutionDate"] = seconds(at_ms);
    }
    shown
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribeStatus {
    instance_id: String,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn describe_status(fleet: &Fleet, body: &[u8]) -> Result<Value, ApiError> {
    let request: DescribeStatus = parse(body)?;
    let page = page_size(request.max_results, 1..=50, 50)?;
    let node = fleet.nodes.get(&request.instance_id).ok_or_else(|| {
        ApiError::new(400, "InvalidInstanceId", format!("{} not found", request.instance_id))
    })?;
    let status = node.associations.iter().map(|result| {
        json!({
            "AssociationId": result.association,
            "Name": result.document,
            "DocumentVersion": "1",
            "AssociationVersion": "1",
            "InstanceId": node.id,
            "ExecutionDate": seconds(result.ran_at_ms),
            "Status": "Success",
            "DetailedStatus": "Success",
            "ExecutionSummary": "1 out of 1 plugin processed, 1 success",
        })
    });
    let list = "InstanceAssociationStatusInfos";
    page_by_offset(list, status, request.next_token.as_deref(), page)
}

/// An item of `ListResourceComplianceSummaries`.
pub(super) fn summary(node: &Node) -> Value {
    let counts = |is_non_compliant: bool| {
        let mut counts = SeverityCounts::default();
        let results = node.associations.iter();
        let counted: Vec<_> =
            results.filter(|result| result.is_non_compliant == is_non_compliant).collect();
        for result in &counted {
            *counts.of(result.level) += 1;
        }
        (counted.len(), severity_summary(&counts))
    };
    let (compliant, compliant_severities) = counts(false);
    let (non_compliant, non_compliant_severities) = counts(true);
    let violated = node.associations.iter().filter(|result| result.is_non_compliant);
    let worst = violated.map(|result| result.level).max().unwrap_or(Level::Unspecified);
    json!({
        "ComplianceType": "Association",
        "ResourceType": "ManagedInstance",
        "ResourceId": node.id,
        "Status": if non_compliant > 0 { "NON_COMPLIANT" } else { "COMPLIANT" },
        "OverallSeverity": worst.as_str(),
        "ExecutionSummary": {"ExecutionTime": seconds(node.associations_shown_at_ms())},
        "CompliantSummary": {
            "CompliantCount": compliant,
            "SeveritySummary": compliant_severities,
        },
        "NonCompliantSummary": {
            "NonCompliantCount": non_compliant,
            "SeveritySummary": non_compliant_severities,
        },
    })
}

/// The items of `ListComplianceItems`.
pub(super) fn items(node: &Node) -> impl Iterator<Item = Value> + '_ {
    node.associations.iter().map(|result| item(node, result))
}

fn item(node: &Node, result: &AssociationResult) -> Value {
    json!({
        "ComplianceType": "Association",
        "ResourceType": "ManagedInstance",
        "ResourceId": node.id,
        "Id": result.association,
        "Title": format!("{}-of-the-fleet", result.document),
        "Status": if result.is_non_compliant { "NON_COMPLIANT" } else { "COMPLIANT" },
        "Severity": result.level.as_str(),
        "ExecutionSummary": {"ExecutionTime": seconds(node.associations_shown_at_ms())},
        "Details": {
            "DocumentName": result.document,
            "DocumentVersion": "1",
            "PatchBaselineId": node.baseline_id(),
        },
    })
}
