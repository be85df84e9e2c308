//! From a finding to ASFF (schema 2018-10-08), in one of two templates.
//!
//! Guarantees: pure, so rendering a finding again gives the same content (the order of a map's
//! keys within the JSON isn't fixed by the SDK, and means nothing); every limit of ASFF holds by
//! construction; a finding stays under [`FINDING_BYTES_MAX`]; truncations are marked and counted.
//!
//! The SDK's types for findings have inline room for every kind of resource (tens of KB), and its
//! builders move them at every step: here they are made empty and filled in place, and the largest
//! part, the resource, only when the request is made.
//!
//! Deliberately doesn't know: what the hub holds, and whether this finding will ever be sent.

pub mod fields;
mod limits;
mod parity;
mod patches;
mod patchferry;
mod resource;
mod text;

use aws_sdk_securityhub::types::{
    AwsSecurityFinding, PatchSummary, RecordState as AsffRecordState, SeverityLabel,
};

use crate::record::{
    Facts, Finding, Lane, PatchDetail, RecordState, Severity, Template, UnixMillis,
};
use limits::Meter;
use resource::NodeResource;
#[cfg(test)]
pub(super) use text::gone_description;
pub(super) use text::gone_reason;

/// What AWS takes of one finding (`BatchImportFindings`, API Reference: 240 KB).
pub const FINDING_BYTES_MAX: usize = 240_000;
/// Names, constants, numbers and braces of a finding beyond what the meter counts.
const FRAME_BYTES: usize = 4_096;

const SCHEMA_VERSION: &str = "2018-10-08";
/// `GeneratorId` of patchferry's own template, and what its findings are looked up by.
pub const GENERATOR_ID: &str = "patchferry/patch-compliance";

/// A finding as it will be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    id: String,
    bytes_max: usize,
    truncated: u32,
    clamped: u32,
    /// Without its resource.
    asff: Box<AwsSecurityFinding>,
    resource: NodeResource,
}

impl Rendered {
    /// The Id, by which the hub names it when it fails.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// An upper bound of its size as JSON.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Texts and lists in it that are cut.
    #[must_use]
    pub fn truncated(&self) -> u32 {
        self.truncated
    }

    /// Counts in it that were above what ASFF takes.
    #[must_use]
    pub fn clamped(&self) -> u32 {
        self.clamped
    }

    /// The fields, as text.
    #[must_use]
    pub fn fields(self) -> fields::Fields {
        fields::fields(&self.into_asff())
    }

    pub(super) fn into_asff(self) -> AwsSecurityFinding {
        let mut asff = *self.asff;
        asff.resources = Some(self.resource.into_resources());
        asff
    }
}

/// Renders `finding` as the lane's hub takes it; `details` are the patches that make the node
/// non-compliant, as far as they are known.
#[must_use]
pub fn render(lane: &Lane, finding: &Finding, details: &[PatchDetail]) -> Rendered {
    let mut meter = Meter::default();
    meter.add(FRAME_BYTES);
    let mut asff = Box::new(AwsSecurityFinding::builder().build());
    let id = finding.id.render(lane, &finding.node);
    common(&mut asff, lane, finding, &id, &mut meter);
    let resource = match finding.policy.template {
        Template::Patchferry => patchferry::complete(&mut asff, lane, finding, details, &mut meter),
        Template::AwsParity => parity::complete(&mut asff, lane, finding, &mut meter),
    };
    Rendered {
        id,
        bytes_max: meter.bytes(),
        truncated: meter.truncated(),
        clamped: meter.clamped(),
        asff,
        resource,
    }
}

/// What both templates say alike.
fn common(
    asff: &mut AwsSecurityFinding,
    lane: &Lane,
    finding: &Finding,
    id: &str,
    meter: &mut Meter,
) {
    let configured = meter.text::<2048>(&finding.policy.product_arn(lane));
    asff.schema_version = Some(SCHEMA_VERSION.to_owned());
    asff.id = meter.text::<512>(id);
    asff.product_arn = configured.or_else(|| Some(lane.default_product_arn()));
    asff.aws_account_id = Some(lane.account.to_string());
    asff.created_at = Some(finding.created_at.to_rfc3339());
    asff.updated_at = Some(finding.updated_at.to_rfc3339());
    asff.record_state = Some(record_state(finding.state));
    asff.patch_summary = patch_summary(&finding.facts, meter);
}

/// ASFF's `PatchSummary`. Its Id is required, so there is none without a baseline; nor of what an
/// association has found, which has no counts.
///
/// `MissingCount` is SSM's: without the patches that failed, although the Security Hub model
/// describes the field as including them. AWS's own integration is taken to copy it, too.
fn patch_summary(facts: &Facts, meter: &mut Meter) -> Option<PatchSummary> {
    if facts.are_by_association() {
        return None;
    }
    let baseline = meter.optional::<256, 128>(facts.baseline.as_ref())?;
    let counts = &facts.counts;
    let operation = facts.operation.as_ref().map(|text| text.as_str().to_uppercase());
    Some(
        PatchSummary::builder()
            .id(baseline)
            .installed_count(meter.patch_count(counts.installed))
            .missing_count(meter.patch_count(counts.missing))
            .failed_count(meter.patch_count(counts.failed))
            .installed_other_count(meter.patch_count(counts.installed_other))
            .installed_rejected_count(meter.patch_count(counts.installed_rejected))
            .installed_pending_reboot(meter.patch_count(counts.installed_pending_reboot))
            .set_operation_start_time(facts.operation_start.map(UnixMillis::to_rfc3339))
            .set_operation_end_time(facts.operation_end.map(UnixMillis::to_rfc3339))
            .set_reboot_option(meter.optional::<256, 32>(facts.reboot_option.as_ref()))
            .set_operation(operation.and_then(|text| meter.text::<256>(&text)))
            .build(),
    )
}

fn record_state(state: RecordState) -> AsffRecordState {
    match state {
        RecordState::Open => AsffRecordState::Active,
        RecordState::Resolved | RecordState::Gone(_) => AsffRecordState::Archived,
    }
}

fn severity_label(severity: Severity) -> SeverityLabel {
    match severity {
        Severity::Informational => SeverityLabel::Informational,
        Severity::Low => SeverityLabel::Low,
        Severity::Medium => SeverityLabel::Medium,
        Severity::High => SeverityLabel::High,
        Severity::Critical => SeverityLabel::Critical,
    }
}
