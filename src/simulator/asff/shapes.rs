//! The shape of a finding in JSON, borrowed from the request (Security Hub model 2018-10-26,
//! `AwsSecurityFinding`). Every field is optional here: `rules` says which are required.

#![allow(clippy::struct_field_names, reason = "the names are ASFF's")]

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// A string that is borrowed from the request unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulator) struct Str<'a>(Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A map of strings, in the order in which it was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs<'a>(pub Vec<(Str<'a>, Str<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields, bound(deserialize = "'de: 'a"))]
        pub(in crate::simulator) struct $name<'a> {
            $($(#[$attribute])* pub(super) $field: Option<$type>,)*
            #[serde(skip)]
            _borrowed: std::marker::PhantomData<&'a ()>,
        }
    )*};
}

shapes! {
    /// One finding as a provider may send it.
    Finding {
        schema_version: Str<'a>,
        id: Str<'a>,
        product_arn: Str<'a>,
        product_name: Str<'a>,
        company_name: Str<'a>,
        generator_id: Str<'a>,
        aws_account_id: Str<'a>,
        types: Vec<Str<'a>>,
        first_observed_at: Str<'a>,
        last_observed_at: Str<'a>,
        created_at: Str<'a>,
        updated_at: Str<'a>,
        severity: Severity<'a>,
        confidence: i64,
        criticality: i64,
        title: Str<'a>,
        description: Str<'a>,
        remediation: Remediation<'a>,
        source_url: Str<'a>,
        product_fields: Pairs<'a>,
        resources: Vec<Resource<'a>>,
        compliance: Compliance<'a>,
        verification_state: Str<'a>,
        record_state: Str<'a>,
        related_findings: Vec<RelatedFinding<'a>>,
        note: Note<'a>,
        vulnerabilities: Vec<Vulnerability<'a>>,
        patch_summary: PatchSummary<'a>,
        finding_provider_fields: ProviderFields<'a>,
    }
    Severity {
        label: Str<'a>,
        original: Str<'a>,
    }
    ProviderFields {
        confidence: i64,
        criticality: i64,
        related_findings: Vec<RelatedFinding<'a>>,
        severity: Severity<'a>,
        types: Vec<Str<'a>>,
    }
    Remediation {
        recommendation: Recommendation<'a>,
    }
    Recommendation {
        text: Str<'a>,
        url: Str<'a>,
    }
    RelatedFinding {
        product_arn: Str<'a>,
        id: Str<'a>,
    }
    Note {
        text: Str<'a>,
        updated_by: Str<'a>,
        updated_at: Str<'a>,
    }
    Compliance {
        status: Str<'a>,
        related_requirements: Vec<Str<'a>>,
        status_reasons: Vec<StatusReason<'a>>,
    }
    StatusReason {
        reason_code: Str<'a>,
        description: Str<'a>,
    }
    Resource {
        #[serde(rename = "Type")]
        kind: Str<'a>,
        id: Str<'a>,
        partition: Str<'a>,
        region: Str<'a>,
        tags: Pairs<'a>,
        details: Details<'a>,
        application_name: Str<'a>,
        application_arn: Str<'a>,
    }
    /// Only the kinds of details that a patch finding can have.
    Details {
        aws_ec2_instance: Ec2Instance<'a>,
        aws_ssm_patch_compliance: SsmPatchCompliance<'a>,
        other: Pairs<'a>,
    }
    Ec2Instance {
        #[serde(rename = "Type")]
        kind: Str<'a>,
        image_id: Str<'a>,
        ip_v4_addresses: Vec<Str<'a>>,
        ip_v6_addresses: Vec<Str<'a>>,
        key_name: Str<'a>,
        iam_instance_profile_arn: Str<'a>,
        vpc_id: Str<'a>,
        subnet_id: Str<'a>,
        launched_at: Str<'a>,
        virtualization_type: Str<'a>,
    }
    SsmPatchCompliance {
        patch: SsmPatch<'a>,
    }
    SsmPatch {
        compliance_summary: SsmComplianceSummary<'a>,
    }
    SsmComplianceSummary {
        status: Str<'a>,
        compliance_type: Str<'a>,
        execution_type: Str<'a>,
        overall_severity: Str<'a>,
        patch_baseline_id: Str<'a>,
        patch_group: Str<'a>,
        compliant_critical_count: i64,
        compliant_high_count: i64,
        compliant_medium_count: i64,
        compliant_low_count: i64,
        compliant_informational_count: i64,
        compliant_unspecified_count: i64,
        non_compliant_critical_count: i64,
        non_compliant_high_count: i64,
        non_compliant_medium_count: i64,
        non_compliant_low_count: i64,
        non_compliant_informational_count: i64,
        non_compliant_unspecified_count: i64,
    }
    PatchSummary {
        id: Str<'a>,
        installed_count: i64,
        missing_count: i64,
        failed_count: i64,
        installed_other_count: i64,
        installed_rejected_count: i64,
        installed_pending_reboot: i64,
        operation_start_time: Str<'a>,
        operation_end_time: Str<'a>,
        reboot_option: Str<'a>,
        operation: Str<'a>,
    }
    Vulnerability {
        id: Str<'a>,
        vulnerable_packages: Vec<VulnerablePackage<'a>>,
        related_vulnerabilities: Vec<Str<'a>>,
        vendor: Vendor<'a>,
        reference_urls: Vec<Str<'a>>,
        fix_available: Str<'a>,
        exploit_available: Str<'a>,
    }
    VulnerablePackage {
        name: Str<'a>,
        version: Str<'a>,
        epoch: Str<'a>,
        release: Str<'a>,
        architecture: Str<'a>,
        package_manager: Str<'a>,
        file_path: Str<'a>,
        fixed_in_version: Str<'a>,
        remediation: Str<'a>,
    }
    Vendor {
        name: Str<'a>,
        url: Str<'a>,
        vendor_severity: Str<'a>,
        vendor_created_at: Str<'a>,
        vendor_updated_at: Str<'a>,
    }
}

impl Finding<'_> {
    pub(in crate::simulator) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(in crate::simulator) fn product_arn(&self) -> Option<&str> {
        self.product_arn.as_deref()
    }

    pub(in crate::simulator) fn aws_account_id(&self) -> Option<&str> {
        self.aws_account_id.as_deref()
    }

    pub(in crate::simulator) fn generator_id(&self) -> &str {
        self.generator_id.as_deref().unwrap_or_default()
    }

    pub(in crate::simulator) fn created_at(&self) -> &str {
        self.created_at.as_deref().unwrap_or_default()
    }

    pub(in crate::simulator) fn updated_at(&self) -> &str {
        self.updated_at.as_deref().unwrap_or_default()
    }

    pub(in crate::simulator) fn last_observed_at(&self) -> &str {
        self.last_observed_at.as_deref().unwrap_or_default()
    }

    pub(in crate::simulator) fn record_state(&self) -> &str {
        self.record_state.as_deref().unwrap_or("ACTIVE")
    }

    pub(in crate::simulator) fn compliance_status(&self) -> &str {
        let status = self.compliance.as_ref().and_then(|compliance| compliance.status.as_deref());
        status.unwrap_or_default()
    }

    /// The provider's label: that of `FindingProviderFields`, else the top-level one.
    pub(in crate::simulator) fn severity_label(&self) -> &str {
        let provider = self.finding_provider_fields.as_ref();
        let severity = provider.and_then(|fields| fields.severity.as_ref());
        let severity = severity.or(self.severity.as_ref());
        severity.and_then(|severity| severity.label.as_deref()).unwrap_or_default()
    }

    pub(in crate::simulator) fn first_resource_id(&self) -> &str {
        let first = self.resources.as_ref().and_then(|resources| resources.first());
        first.and_then(|resource| resource.id.as_deref()).unwrap_or_default()
    }

    /// Missing, failed, installed-rejected, pending-reboot, installed, installed-other.
    pub(in crate::simulator) fn patch_counts(&self) -> [i64; 6] {
        let Some(summary) = &self.patch_summary else { return [0; 6] };
        [
            summary.missing_count,
            summary.failed_count,
            summary.installed_rejected_count,
            summary.installed_pending_reboot,
            summary.installed_count,
            summary.installed_other_count,
        ]
        .map(Option::unwrap_or_default)
    }
}
