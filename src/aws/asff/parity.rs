//! AWS's own form: field for field what its Patch Manager integration sends, and nothing else.
//!
//! Reference: the example in "Integrating Patch Manager with AWS Security Hub" (kept as
//! `tests/fixtures/aws-example-finding.json`), without what the service fills in or reserves:
//! `aws/…` `ProductFields`, Workflow, `WorkflowState`, Severity.Normalized.

use aws_sdk_securityhub::types::{Resource, Severity, builders::AwsSecurityFindingBuilder};

use super::{
    GENERATOR_ID,
    limits::Meter,
    resource::{EC2_INSTANCE, asff_partition},
    severity_label, text,
};
use crate::record::{Finding, FindingId, Lane};

/// With "&", where the taxonomy says "and".
const TYPE: &str = "Software & Configuration Checks/Patch Management/Compliance";

pub(super) fn complete(
    base: AwsSecurityFindingBuilder,
    lane: &Lane,
    finding: &Finding,
    meter: &mut Meter,
) -> AwsSecurityFindingBuilder {
    // Hybrid nodes too are shown as EC2 instances, by their bare id.
    let resource = Resource::builder()
        .r#type(EC2_INSTANCE)
        .id(finding.node.as_str())
        .set_partition(asff_partition(lane.partition()))
        .region(lane.region.as_str())
        .build();
    let severity = Severity::builder().label(severity_label(finding.severity)).build();
    base.set_generator_id(meter.text::<512>(execution_id(finding)))
        .types(TYPE)
        .severity(severity)
        .title(text::TITLE)
        .description(text::DESCRIPTION)
        .remediation(text::remediation(text::OLD_REMEDIATION_URL))
        .set_source_url(text::source_url(lane, &finding.node, "managed-instances"))
        .resources(resource)
}

/// The id of the run that found it; the constant where none is known, as the field is required.
fn execution_id(finding: &Finding) -> &str {
    let known = finding.facts.compliance.as_ref().and_then(|c| c.execution_id.as_ref());
    match (&finding.id, known) {
        (FindingId::Operation { command, .. }, _) => command.as_str(),
        (FindingId::Node, Some(execution)) if !execution.is_blank() => execution.as_str(),
        (FindingId::Node, _) => GENERATOR_ID,
    }
}
