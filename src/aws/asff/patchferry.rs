//! patchferry's own form: complete, and shaped for what a provider of findings should send.
//!
//! Severity and Types are in `FindingProviderFields`, so that a customer's own values at the top
//! level survive updates. No `aws/…` `ProductFields` (reserved), nothing that the service fills in.

use aws_sdk_securityhub::types::{
    AwsSecurityFinding, Compliance, ComplianceStatus, FindingProviderFields,
    FindingProviderSeverity, StatusReason,
};

use super::{
    GENERATOR_ID,
    limits::{Meter, Pairs},
    patches,
    resource::NodeResource,
    severity_label, text,
};
use crate::record::{Finding, Lane, PatchDetail, RecordState, Text};

const TYPE: &str = "Software and Configuration Checks/Patch Management/Compliance";
/// AWS's product name, so that the filters people have keep working.
const PRODUCT_NAME: &str = "Systems Manager Patch Manager";
const COMPANY_NAME: &str = "patchferry";

pub(super) fn complete(
    asff: &mut AwsSecurityFinding,
    lane: &Lane,
    finding: &Finding,
    details: &[PatchDetail],
    meter: &mut Meter,
) -> NodeResource {
    let (node, facts, policy) = (&finding.node, &finding.facts, &finding.policy);
    let severity =
        FindingProviderSeverity::builder().label(severity_label(finding.severity)).build();
    let provider = FindingProviderFields::builder().severity(severity).types(TYPE).build();
    asff.generator_id = Some(GENERATOR_ID.to_owned());
    asff.product_name = name(meter, policy.product_name.as_ref(), PRODUCT_NAME);
    asff.company_name = name(meter, policy.company_name.as_ref(), COMPANY_NAME);
    asff.first_observed_at = Some(finding.first_observed_at.to_rfc3339());
    asff.last_observed_at = Some(finding.last_observed_at.to_rfc3339());
    asff.finding_provider_fields = Some(provider);
    asff.title = meter.text::<256>(&format!("{}: {node}", text::TITLE));
    asff.description = meter.text::<1024>(&text::description(node, facts));
    asff.remediation = Some(text::remediation(text::REMEDIATION_URL));
    asff.source_url = text::source_url(lane, node, "fleet-manager");
    asff.compliance = Some(compliance(finding.state));
    let details = patches::most_severe_first(details);
    let found = patches::vulnerabilities(&details, facts.node_info.as_ref(), meter);
    let mut fields = product_fields(finding, &details, meter);
    if let Some(left_out) = found.left_out() {
        fields.put(meter, "patchferry/vulnerabilities", &left_out);
    }
    asff.product_fields = fields.into_map();
    asff.vulnerabilities = found.listed;
    NodeResource::of(lane, finding, meter)
}

fn name(meter: &mut Meter, given: Option<&Text<128>>, default: &str) -> Option<String> {
    meter.optional::<128, 128>(given).or_else(|| meter.text::<128>(default))
}

fn compliance(state: RecordState) -> Compliance {
    let compliance = Compliance::builder();
    match state {
        RecordState::Open => compliance.status(ComplianceStatus::Failed),
        RecordState::Resolved => compliance.status(ComplianceStatus::Passed),
        RecordState::Gone(reason) => {
            let gone = StatusReason::builder()
                .reason_code("NODE_GONE")
                .description(text::gone_description(reason))
                .build();
            compliance.status(ComplianceStatus::NotAvailable).status_reasons(gone)
        }
    }
    .build()
}

fn product_fields(
    finding: &Finding,
    details: &[&PatchDetail],
    meter: &mut Meter,
) -> Pairs<{ patches::LIST_CHARS_MAX }> {
    let facts = &finding.facts;
    let execution = facts.compliance.as_ref().and_then(|c| c.execution_id.as_ref());
    let mut fields = Pairs::default();
    fields.put(meter, "patchferry/change", finding.change.as_str());
    fields.put_given(meter, "patchferry/baseline", facts.baseline.as_ref());
    fields.put_given(meter, "patchferry/patch-group", facts.patch_group.as_ref());
    fields.put_given(meter, "patchferry/execution-id", execution);
    fields.put_given(meter, "patchferry/document", facts.document.as_ref());
    let total = facts.patches.as_ref().map_or(0, |list| list.total);
    fields.put(meter, "patchferry/missing-patches", &patches::list(details, total));
    patches::put_lines(details, &mut fields, meter);
    fields
}
