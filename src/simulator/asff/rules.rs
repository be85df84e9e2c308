//! Every limit of a finding that Security Hub's model and documentation state.
//!
//! Sources: the model's member documentation (most limits are prose there, which is why SDKs don't
//! check them); User Guide, "Required top-level ASFF attributes" and "Optional top-level ASFF
//! attributes". Complaints are in the service's words, as in aquasecurity/kube-bench#903.

use super::{
    check::{At, Check},
    shapes::{
        Compliance, Details, Finding, PatchSummary, ProviderFields, RelatedFinding, Remediation,
        Resource, Severity, SsmComplianceSummary, Str, Vulnerability,
    },
};

const SEVERITY_LABELS: [&str; 5] = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
const TYPE_NAMESPACES: [&str; 6] = [
    "Software and Configuration Checks",
    // As AWS's own Patch Manager findings spell it.
    "Software & Configuration Checks",
    "TTPs",
    "Effects",
    "Unusual Behaviors",
    "Sensitive Data Identifications",
];
const PARTITIONS: [&str; 10] = [
    "aws",
    "aws-cn",
    "aws-us-gov",
    "aws-us-iso",
    "aws-us-iso-b",
    "aws-iso",
    "aws-iso-b",
    "aws-iso-e",
    "aws-iso-f",
    "aws-eusc",
];
/// The limit of texts for which the documentation gives none: far above any sensible one.
const UNSTATED_CHARS_MAX: usize = 2_048;
const PATCH_COUNT_MAX: i64 = 100_000;

/// What is wrong with a finding, in the service's words; empty if nothing is.
pub(in crate::simulator) fn complaints(finding: &Finding<'_>) -> Vec<String> {
    let mut check = Check::default();
    let root = &At::ROOT;
    identity(&mut check, root, finding);
    observation(&mut check, root, finding);
    severity_and_types(&mut check, root, finding);
    let resources = check.required(root, "Resources", finding.resources.as_ref());
    if let Some(resources) = resources {
        let at = root.field("Resources");
        check.items(&at, resources.len(), 1, 32);
        for (index, resource) in resources.iter().enumerate() {
            check_resource(&mut check, &at.index(index), resource);
        }
    }
    if let Some(fields) = &finding.product_fields {
        let at = root.field("ProductFields");
        check.pairs(&at, fields, 50, (128, 2_048));
        if fields.0.iter().any(|(key, _)| key.starts_with("aws/")) {
            check.complain(&at, "should NOT have properties that start with aws/");
        }
    }
    if let Some(summary) = &finding.patch_summary {
        patch_summary(&mut check, &root.field("PatchSummary"), summary);
    }
    if let Some(vulnerabilities) = &finding.vulnerabilities {
        let at = root.field("Vulnerabilities");
        for (index, vulnerability) in vulnerabilities.iter().enumerate() {
            check_vulnerability(&mut check, &at.index(index), vulnerability);
        }
    }
    check.complaints
}

fn identity(check: &mut Check, at: &At<'_>, finding: &Finding<'_>) {
    check.required(at, "SchemaVersion", finding.schema_version.as_ref());
    check.one_of(at, "SchemaVersion", finding.schema_version.as_ref(), &["2018-10-08"]);
    check.required_text(at, "Id", finding.id.as_ref(), 512);
    check.required_text(at, "ProductArn", finding.product_arn.as_ref(), 2_048);
    check.required_text(at, "GeneratorId", finding.generator_id.as_ref(), 512);
    check.required_text(at, "AwsAccountId", finding.aws_account_id.as_ref(), 12);
    check.required_text(at, "Title", finding.title.as_ref(), 256);
    check.required_text(at, "Description", finding.description.as_ref(), 1_024);
    check.text(at, "ProductName", finding.product_name.as_ref(), 128);
    check.text(at, "CompanyName", finding.company_name.as_ref(), 128);
    url(check, at, "SourceUrl", finding.source_url.as_ref());
}

fn observation(check: &mut Check, at: &At<'_>, finding: &Finding<'_>) {
    check.required(at, "CreatedAt", finding.created_at.as_ref());
    check.required(at, "UpdatedAt", finding.updated_at.as_ref());
    check.time(at, "CreatedAt", finding.created_at.as_ref());
    check.time(at, "UpdatedAt", finding.updated_at.as_ref());
    check.time(at, "FirstObservedAt", finding.first_observed_at.as_ref());
    check.time(at, "LastObservedAt", finding.last_observed_at.as_ref());
    check.one_of(at, "RecordState", finding.record_state.as_ref(), &["ACTIVE", "ARCHIVED"]);
    check.one_of(
        at,
        "VerificationState",
        finding.verification_state.as_ref(),
        &["UNKNOWN", "TRUE_POSITIVE", "FALSE_POSITIVE", "BENIGN_POSITIVE"],
    );
    if let Some(remediation) = &finding.remediation {
        check_remediation(check, &at.field("Remediation"), remediation);
    }
    if let Some(compliance) = &finding.compliance {
        check_compliance(check, &at.field("Compliance"), compliance);
    }
    if let Some(note) = &finding.note {
        let at = at.field("Note");
        check.required_text(&at, "Text", note.text.as_ref(), 512);
        check.required_text(&at, "UpdatedBy", note.updated_by.as_ref(), 512);
        check.required(&at, "UpdatedAt", note.updated_at.as_ref());
        check.time(&at, "UpdatedAt", note.updated_at.as_ref());
    }
}

fn severity_and_types(check: &mut Check, at: &At<'_>, finding: &Finding<'_>) {
    let provider = finding.finding_provider_fields.as_ref();
    let is_in_provider =
        provider.is_some_and(|fields| fields.severity.is_some() && fields.types.is_some());
    let is_top_level = finding.severity.is_some() && finding.types.is_some();
    if !is_in_provider && !is_top_level {
        check.missing(at, "FindingProviderFields");
        check.complain(at, "should match some schema in anyOf");
    }
    if let Some(fields) = provider {
        provider_fields(check, &at.field("FindingProviderFields"), fields);
    }
    check_severity(check, at, finding.severity.as_ref());
    types(check, at, finding.types.as_ref());
    related_findings(check, at, finding.related_findings.as_ref());
    check.number(at, "Confidence", finding.confidence, 100);
    check.number(at, "Criticality", finding.criticality, 100);
}

fn provider_fields(check: &mut Check, at: &At<'_>, fields: &ProviderFields<'_>) {
    check_severity(check, at, fields.severity.as_ref());
    types(check, at, fields.types.as_ref());
    related_findings(check, at, fields.related_findings.as_ref());
    check.number(at, "Confidence", fields.confidence, 100);
    check.number(at, "Criticality", fields.criticality, 100);
}

fn check_severity(check: &mut Check, at: &At<'_>, severity: Option<&Severity<'_>>) {
    let Some(severity) = severity else { return };
    let at = at.field("Severity");
    check.required(&at, "Label", severity.label.as_ref());
    check.one_of(&at, "Label", severity.label.as_ref(), &SEVERITY_LABELS);
    check.text(&at, "Original", severity.original.as_ref(), 64);
}

fn types(check: &mut Check, at: &At<'_>, types: Option<&Vec<Str<'_>>>) {
    check.texts(at, "Types", types, (50, UNSTATED_CHARS_MAX));
    let at = at.field("Types");
    for (index, text) in types.into_iter().flatten().enumerate() {
        let parts: Vec<&str> = text.split('/').collect();
        let is_path = parts.len() <= 3 && parts.iter().all(|part| !part.trim().is_empty());
        if !is_path || !TYPE_NAMESPACES.contains(&parts[0]) {
            let at = at.index(index);
            check.complain(&at, "should match pattern \"namespace/category/classifier\"");
        }
    }
}

fn related_findings(check: &mut Check, at: &At<'_>, related: Option<&Vec<RelatedFinding<'_>>>) {
    let Some(related) = related else { return };
    let at = at.field("RelatedFindings");
    check.items(&at, related.len(), 0, 10);
    for (index, finding) in related.iter().enumerate() {
        let at = at.index(index);
        check.required_text(&at, "ProductArn", finding.product_arn.as_ref(), 2_048);
        check.required_text(&at, "Id", finding.id.as_ref(), 512);
    }
}

fn check_remediation(check: &mut Check, at: &At<'_>, remediation: &Remediation<'_>) {
    let Some(recommendation) = &remediation.recommendation else { return };
    let at = at.field("Recommendation");
    check.text(&at, "Text", recommendation.text.as_ref(), 512);
    url(check, &at, "Url", recommendation.url.as_ref());
}

fn check_compliance(check: &mut Check, at: &At<'_>, compliance: &Compliance<'_>) {
    let statuses = ["PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"];
    check.one_of(at, "Status", compliance.status.as_ref(), &statuses);
    check.texts(
        at,
        "RelatedRequirements",
        compliance.related_requirements.as_ref(),
        (32, UNSTATED_CHARS_MAX),
    );
    let reasons = at.field("StatusReasons");
    for (index, reason) in compliance.status_reasons.iter().flatten().enumerate() {
        let at = reasons.index(index);
        check.required_text(&at, "ReasonCode", reason.reason_code.as_ref(), UNSTATED_CHARS_MAX);
        check.text(&at, "Description", reason.description.as_ref(), UNSTATED_CHARS_MAX);
    }
}

fn check_resource(check: &mut Check, at: &At<'_>, resource: &Resource<'_>) {
    check.required_text(at, "Type", resource.kind.as_ref(), 256);
    check.required_text(at, "Id", resource.id.as_ref(), 512);
    check.one_of(at, "Partition", resource.partition.as_ref(), &PARTITIONS);
    check.text(at, "Region", resource.region.as_ref(), 16);
    check.text(at, "ApplicationName", resource.application_name.as_ref(), UNSTATED_CHARS_MAX);
    check.text(at, "ApplicationArn", resource.application_arn.as_ref(), UNSTATED_CHARS_MAX);
    if let Some(tags) = &resource.tags {
        check.pairs(&at.field("Tags"), tags, 50, (128, 256));
    }
    if let Some(details) = &resource.details {
        check_details(check, &at.field("Details"), details);
    }
}

fn check_details(check: &mut Check, at: &At<'_>, details: &Details<'_>) {
    if let Some(other) = &details.other {
        // "Less than": 127 and 1,023.
        check.pairs(&at.field("Other"), other, 50, (127, 1_023));
    }
    if let Some(instance) = &details.aws_ec2_instance {
        let at = at.field("AwsEc2Instance");
        for (name, text) in [
            ("Type", &instance.kind),
            ("ImageId", &instance.image_id),
            ("KeyName", &instance.key_name),
            ("IamInstanceProfileArn", &instance.iam_instance_profile_arn),
            ("VpcId", &instance.vpc_id),
            ("SubnetId", &instance.subnet_id),
            ("VirtualizationType", &instance.virtualization_type),
        ] {
            check.text(&at, name, text.as_ref(), UNSTATED_CHARS_MAX);
        }
        let limits = (UNSTATED_CHARS_MAX, UNSTATED_CHARS_MAX);
        check.texts(&at, "IpV4Addresses", instance.ip_v4_addresses.as_ref(), limits);
        check.texts(&at, "IpV6Addresses", instance.ip_v6_addresses.as_ref(), limits);
        check.time(&at, "LaunchedAt", instance.launched_at.as_ref());
    }
    let patch = details.aws_ssm_patch_compliance.as_ref().and_then(|ssm| ssm.patch.as_ref());
    if let Some(summary) = patch.and_then(|patch| patch.compliance_summary.as_ref()) {
        ssm_summary(check, &at.field("AwsSsmPatchCompliance.Patch.ComplianceSummary"), summary);
    }
}

fn ssm_summary(check: &mut Check, at: &At<'_>, summary: &SsmComplianceSummary<'_>) {
    let statuses = ["COMPLIANT", "NON_COMPLIANT", "UNSPECIFIED_DATA"];
    check.one_of(at, "Status", summary.status.as_ref(), &statuses);
    for (name, text) in [
        ("ComplianceType", &summary.compliance_type),
        ("ExecutionType", &summary.execution_type),
        ("OverallSeverity", &summary.overall_severity),
        ("PatchBaselineId", &summary.patch_baseline_id),
        ("PatchGroup", &summary.patch_group),
    ] {
        check.text(at, name, text.as_ref(), UNSTATED_CHARS_MAX);
    }
    for (name, count) in [
        ("CompliantCriticalCount", summary.compliant_critical_count),
        ("CompliantHighCount", summary.compliant_high_count),
        ("CompliantMediumCount", summary.compliant_medium_count),
        ("CompliantLowCount", summary.compliant_low_count),
        ("CompliantInformationalCount", summary.compliant_informational_count),
        ("CompliantUnspecifiedCount", summary.compliant_unspecified_count),
        ("NonCompliantCriticalCount", summary.non_compliant_critical_count),
        ("NonCompliantHighCount", summary.non_compliant_high_count),
        ("NonCompliantMediumCount", summary.non_compliant_medium_count),
        ("NonCompliantLowCount", summary.non_compliant_low_count),
        ("NonCompliantInformationalCount", summary.non_compliant_informational_count),
        ("NonCompliantUnspecifiedCount", summary.non_compliant_unspecified_count),
    ] {
        check.number(at, name, count, i32::MAX.into());
    }
}

fn patch_summary(check: &mut Check, at: &At<'_>, summary: &PatchSummary<'_>) {
    check.required_text(at, "Id", summary.id.as_ref(), 256);
    check.text(at, "RebootOption", summary.reboot_option.as_ref(), 256);
    check.text(at, "Operation", summary.operation.as_ref(), 256);
    check.time(at, "OperationStartTime", summary.operation_start_time.as_ref());
    check.time(at, "OperationEndTime", summary.operation_end_time.as_ref());
    for (name, count) in [
        ("InstalledCount", summary.installed_count),
        ("MissingCount", summary.missing_count),
        ("FailedCount", summary.failed_count),
        ("InstalledOtherCount", summary.installed_other_count),
        ("InstalledRejectedCount", summary.installed_rejected_count),
        ("InstalledPendingReboot", summary.installed_pending_reboot),
    ] {
        check.number(at, name, count, PATCH_COUNT_MAX);
    }
}

fn check_vulnerability(check: &mut Check, at: &At<'_>, vulnerability: &Vulnerability<'_>) {
    let limits = (UNSTATED_CHARS_MAX, UNSTATED_CHARS_MAX);
    check.required_text(at, "Id", vulnerability.id.as_ref(), UNSTATED_CHARS_MAX);
    check.texts(at, "ReferenceUrls", vulnerability.reference_urls.as_ref(), limits);
    check.texts(
        at,
        "RelatedVulnerabilities",
        vulnerability.related_vulnerabilities.as_ref(),
        limits,
    );
    let availabilities = ["YES", "NO", "PARTIAL"];
    check.one_of(at, "FixAvailable", vulnerability.fix_available.as_ref(), &availabilities);
    check.one_of(at, "ExploitAvailable", vulnerability.exploit_available.as_ref(), &["YES", "NO"]);
    if let Some(vendor) = &vulnerability.vendor {
        let at = at.field("Vendor");
        check.required_text(&at, "Name", vendor.name.as_ref(), UNSTATED_CHARS_MAX);
        check.text(&at, "VendorSeverity", vendor.vendor_severity.as_ref(), UNSTATED_CHARS_MAX);
        url(check, &at, "Url", vendor.url.as_ref());
        check.time(&at, "VendorCreatedAt", vendor.vendor_created_at.as_ref());
        check.time(&at, "VendorUpdatedAt", vendor.vendor_updated_at.as_ref());
    }
    let packages = at.field("VulnerablePackages");
    for (index, package) in vulnerability.vulnerable_packages.iter().flatten().enumerate() {
        let at = packages.index(index);
        for (name, text) in [
            ("Name", &package.name),
            ("Version", &package.version),
            ("Epoch", &package.epoch),
            ("Release", &package.release),
            ("Architecture", &package.architecture),
            ("PackageManager", &package.package_manager),
            ("FilePath", &package.file_path),
            ("FixedInVersion", &package.fixed_in_version),
            ("Remediation", &package.remediation),
        ] {
            check.text(&at, name, text.as_ref(), UNSTATED_CHARS_MAX);
        }
    }
}

fn url(check: &mut Check, at: &At<'_>, name: &str, url: Option<&Str<'_>>) {
    check.text(at, name, url, UNSTATED_CHARS_MAX);
    if url.is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        check.complain(&at.field(name), "should match format \"uri\"");
    }
}
