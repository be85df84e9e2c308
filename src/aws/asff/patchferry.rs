//! patchferry's own form: complete, and shaped for what a provider of findings should send.
//!
//! Severity and Types are in `FindingProviderFields`, so that a customer's own values at the top
//! level survive updates. No `aws/…` `ProductFields` (reserved), nothing that the service fills in.

use aws_sdk_securityhub::types::{
    Compliance, ComplianceStatus, FindingProviderFields, FindingProviderSeverity, StatusReason,
    builders::AwsSecurityFindingBuilder,
};

use super::{
    GENERATOR_ID,
    limits::{Meter, Pairs},
    patches, resource, severity_label, text,
};
use crate::record::{Finding, Lane, PatchDetail, RecordState, Text};

const TYPE: &str = "Software and Configuration Checks/Patch Management/Compliance";
/// AWS's product name, so that the filters people have keep working.
const PRODUCT_NAME: &str = "Systems Manager Patch Manager";
const COMPANY_NAME: &str = "patchferry";

pub(super) fn complete(
    base: AwsSecurityFindingBuilder,
    lane: &Lane,
    finding: &Finding,
    details: &[PatchDetail],
    meter: &mut Meter,
) -> AwsSecurityFindingBuilder {
    let (node, facts, policy) = (&finding.node, &finding.facts, &finding.policy);
    let title = format!("{}: {node}", text::TITLE);
    let provider = FindingProviderFields::builder()
        .severity(
            FindingProviderSeverity::builder().label(severity_label(finding.severity)).build(),
        )
        .types(TYPE)
        .build();
    base.generator_id(GENERATOR_ID)
        .set_product_name(name(meter, policy.product_name.as_ref(), PRODUCT_NAME))
        .set_company_name(name(meter, policy.company_name.as_ref(), COMPANY_NAME))
        .first_observed_at(finding.first_observed_at.to_rfc3339())
        .last_observed_at(finding.last_observed_at.to_rfc3339())
        .finding_provider_fields(provider)
        .set_title(meter.text::<256>(&title))
        .set_description(meter.text::<1024>(&text::description(node, facts)))
        .remediation(text::remediation(text::REMEDIATION_URL))
        .set_source_url(text::source_url(lane, node, "fleet-manager"))
        .compliance(compliance(finding.state))
        .resources(resource::resource(lane, finding, meter))
        .set_product_fields(product_fields(finding, details, meter).into_map())
        .set_vulnerabilities(patches::vulnerabilities(details, meter))
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
    details: &[PatchDetail],
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
    fields
}
