//! A finding field by field, as text: for people who compare one version with another.
//!
//! Only fields that patchferry writes, in either template, are looked at. Pure.

use std::collections::BTreeMap;

use aws_sdk_securityhub::types::{
    AwsSecurityFinding, AwsSsmComplianceSummary, ComplianceStatus, Partition, PatchSummary,
    RecordState, Resource, SeverityLabel, Vulnerability,
};

/// Values by path, such as `PatchSummary.MissingCount`.
pub type Fields = BTreeMap<String, String>;

/// A field that two versions of a finding have differently.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    pub field: String,
    /// `None`: it isn't there.
    pub hub: Option<String>,
    pub ours: Option<String>,
}

/// What the hub's copy has otherwise than ours. What the service adds by itself is left out: its
/// own `ProductFields`, and the copies of Severity and Types at the other level.
pub fn differences(hub: &Fields, ours: &Fields) -> Vec<Difference> {
    let added = |field: &str| {
        ["ProductFields.aws/", "Severity.", "Types", "FindingProviderFields."]
            .iter()
            .any(|prefix| field.starts_with(prefix))
    };
    let gone = hub.keys().filter(|field| !ours.contains_key(*field) && !added(field));
    let mut fields: Vec<&String> = ours.keys().chain(gone).collect();
    fields.sort_unstable();
    fields
        .into_iter()
        .filter(|field| hub.get(*field) != ours.get(*field))
        .map(|field| Difference {
            field: field.clone(),
            hub: hub.get(field).cloned(),
            ours: ours.get(field).cloned(),
        })
        .collect()
}

/// The fields of a finding.
pub(in crate::aws) fn fields(finding: &AwsSecurityFinding) -> Fields {
    let mut fields = Writer::default();
    fields.put("Title", finding.title());
    fields.put("Description", finding.description());
    fields.put("GeneratorId", finding.generator_id());
    fields.put("ProductName", finding.product_name());
    fields.put("CompanyName", finding.company_name());
    fields.put("SourceUrl", finding.source_url());
    for (name, time) in [
        ("CreatedAt", finding.created_at()),
        ("UpdatedAt", finding.updated_at()),
        ("FirstObservedAt", finding.first_observed_at()),
        ("LastObservedAt", finding.last_observed_at()),
    ] {
        // The hub writes times its own way.
        fields.put_time(name, time);
    }
    fields.put("RecordState", finding.record_state().map(RecordState::as_str));
    let severity = finding.severity().and_then(|severity| severity.label());
    fields.put("Severity.Label", severity.map(SeverityLabel::as_str));
    fields.put_list("Types", finding.types());
    if let Some(provider) = finding.finding_provider_fields() {
        let severity = provider.severity().and_then(|severity| severity.label());
        let label = severity.map(SeverityLabel::as_str);
        fields.put("FindingProviderFields.Severity.Label", label);
        fields.put_list("FindingProviderFields.Types", provider.types());
    }
    if let Some(compliance) = finding.compliance() {
        fields.put("Compliance.Status", compliance.status().map(ComplianceStatus::as_str));
        let reasons: Vec<String> = compliance
            .status_reasons()
            .iter()
            .map(|reason| {
                let (code, text) = (reason.reason_code(), reason.description());
                format!("{}: {}", code.unwrap_or_default(), text.unwrap_or_default())
            })
            .collect();
        fields.put_list("Compliance.StatusReasons", &reasons);
    }
    if let Some(advice) = finding.remediation().and_then(|it| it.recommendation()) {
        fields.put("Remediation.Recommendation.Text", advice.text());
        fields.put("Remediation.Recommendation.Url", advice.url());
    }
    if let Some(summary) = finding.patch_summary() {
        patch_summary(&mut fields, summary);
    }
    for (key, value) in finding.product_fields().into_iter().flatten() {
        fields.put(&format!("ProductFields.{key}"), Some(value));
    }
    for (index, resource) in finding.resources().iter().enumerate() {
        fields.resource(&format!("Resources[{index}]"), resource);
    }
    let mut found: Vec<String> = finding.vulnerabilities().iter().map(vulnerability).collect();
    found.sort_unstable();
    fields.put_list("Vulnerabilities", &found);
    fields.0
}

#[derive(Default)]
struct Writer(Fields);

impl Writer {
    fn put(&mut self, field: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), value.to_owned());
        }
    }

    fn put_time(&mut self, field: &str, value: Option<&str>) {
        let written = value.and_then(|text| crate::record::UnixMillis::parse_rfc3339(text).ok());
        match written {
            Some(time) => self.put(field, Some(&time.to_rfc3339())),
            None => self.put(field, value),
        }
    }

    fn put_list(&mut self, field: &str, values: &[String]) {
        if !values.is_empty() {
            self.put(field, Some(&values.join(", ")));
        }
    }

    fn put_count(&mut self, field: &str, value: Option<i32>) {
        if let Some(value) = value {
            self.put(field, Some(&value.to_string()));
        }
    }

    fn resource(&mut self, at: &str, resource: &Resource) {
        self.put(&format!("{at}.Type"), resource.r#type());
        self.put(&format!("{at}.Id"), resource.id());
        let partition = resource.partition().map(Partition::as_str);
        self.put(&format!("{at}.Partition"), partition);
        self.put(&format!("{at}.Region"), resource.region());
        let Some(details) = resource.details() else { return };
        let at = format!("{at}.Details");
        if let Some(instance) = details.aws_ec2_instance() {
            self.put_list(&format!("{at}.AwsEc2Instance.IpV4Addresses"), instance.ipv4_addresses());
            self.put_list(&format!("{at}.AwsEc2Instance.IpV6Addresses"), instance.ipv6_addresses());
        }
        let patch = details.aws_ssm_patch_compliance().and_then(|it| it.patch());
        if let Some(summary) = patch.and_then(|patch| patch.compliance_summary()) {
            compliance_summary(self, &format!("{at}.AwsSsmPatchCompliance"), summary);
        }
        for (key, value) in details.other().into_iter().flatten() {
            self.put(&format!("{at}.Other.{key}"), Some(value));
        }
    }
}

fn patch_summary(fields: &mut Writer, summary: &PatchSummary) {
    fields.put("PatchSummary.Id", summary.id());
    fields.put("PatchSummary.Operation", summary.operation());
    fields.put("PatchSummary.RebootOption", summary.reboot_option());
    fields.put_time("PatchSummary.OperationStartTime", summary.operation_start_time());
    fields.put_time("PatchSummary.OperationEndTime", summary.operation_end_time());
    for (name, count) in [
        ("InstalledCount", summary.installed_count()),
        ("MissingCount", summary.missing_count()),
        ("FailedCount", summary.failed_count()),
        ("InstalledOtherCount", summary.installed_other_count()),
        ("InstalledRejectedCount", summary.installed_rejected_count()),
        ("InstalledPendingReboot", summary.installed_pending_reboot()),
    ] {
        fields.put_count(&format!("PatchSummary.{name}"), count);
    }
}

fn compliance_summary(fields: &mut Writer, at: &str, summary: &AwsSsmComplianceSummary) {
    for (name, text) in [
        ("Status", summary.status()),
        ("ComplianceType", summary.compliance_type()),
        ("ExecutionType", summary.execution_type()),
        ("OverallSeverity", summary.overall_severity()),
        ("PatchBaselineId", summary.patch_baseline_id()),
        ("PatchGroup", summary.patch_group()),
    ] {
        fields.put(&format!("{at}.{name}"), text);
    }
    for (name, count) in [
        ("CompliantCriticalCount", summary.compliant_critical_count()),
        ("CompliantHighCount", summary.compliant_high_count()),
        ("CompliantMediumCount", summary.compliant_medium_count()),
        ("CompliantLowCount", summary.compliant_low_count()),
        ("CompliantInformationalCount", summary.compliant_informational_count()),
        ("CompliantUnspecifiedCount", summary.compliant_unspecified_count()),
        ("NonCompliantCriticalCount", summary.non_compliant_critical_count()),
        ("NonCompliantHighCount", summary.non_compliant_high_count()),
        ("NonCompliantMediumCount", summary.non_compliant_medium_count()),
        ("NonCompliantLowCount", summary.non_compliant_low_count()),
        ("NonCompliantInformationalCount", summary.non_compliant_informational_count()),
        ("NonCompliantUnspecifiedCount", summary.non_compliant_unspecified_count()),
    ] {
        fields.put_count(&format!("{at}.{name}"), count);
    }
}

/// `CVE-2026-1 (kernel, openssl)`.
fn vulnerability(vulnerability: &Vulnerability) -> String {
    let packages: Vec<&str> =
        vulnerability.vulnerable_packages().iter().filter_map(|package| package.name()).collect();
    format!("{} ({})", vulnerability.id().unwrap_or_default(), packages.join(", "))
}
