//! Sentences and links of a finding.

use std::fmt::Write as _;

use aws_sdk_securityhub::types::{Recommendation, Remediation};

use crate::record::{
    Facts, Lane, NodeId, Partition,
    observation::{ASSOCIATION_DOCUMENT, GoneReason},
};

/// AWS's title; patchferry's has the node behind it.
pub(super) const TITLE: &str = "Systems Manager Patch Summary - Managed Instance Non-Compliant";
/// AWS's description.
pub(super) const DESCRIPTION: &str = "This AWS control checks whether each instance that is managed by AWS Systems Manager is in compliance with the rules of the patch baseline that applies to that instance when a compliance Scan runs.";
const REMEDIATION: &str = "For information about bringing instances into patch compliance, see 'Remediating out-of-compliance instances (Patch Manager)'.";
/// Where AWS's finding points to.
pub(super) const OLD_REMEDIATION_URL: &str = "https://docs.aws.amazon.com/systems-manager/latest/userguide/patch-compliance-remediation.html";
/// Where that page is now.
pub(super) const REMEDIATION_URL: &str = "https://docs.aws.amazon.com/systems-manager/latest/userguide/patch-manager-compliance-remediation.html";

pub(super) fn remediation(url: &str) -> Remediation {
    let recommendation = Recommendation::builder().text(REMEDIATION).url(url).build();
    Remediation::builder().recommendation(recommendation).build()
}

/// AWS's description, and the node's counts as far as there are any.
pub(super) fn description(node: &NodeId, facts: &Facts) -> String {
    let counts = &facts.counts;
    let mut text = if facts.are_by_association() {
        format!(
            "{DESCRIPTION} {node}: scanned by {ASSOCIATION_DOCUMENT}, which tells whether patches are missing but not which"
        )
    } else {
        format!(
            "{DESCRIPTION} {node}: {} missing, {} failed, {} rejected but installed, {} waiting for a reboot",
            counts.missing,
            counts.failed,
            counts.installed_rejected,
            counts.installed_pending_reboot
        )
    };
    // Windows: they make the node non-compliant only if its baseline says so.
    if counts.available_security_update > 0 {
        let count = counts.available_security_update;
        write!(text, ", {count} security updates available that no rule approves")
            .expect("writing to a String can't fail");
    }
    if let Some(baseline) = &facts.baseline {
        text.push_str(", by baseline ");
        text.push_str(baseline.as_str());
    }
    text.push('.');
    text
}

/// The console page of the node's patches; `None` where the console's host isn't documented.
/// AWS's finding has the old `managed-instances`, today's console `fleet-manager`.
pub(super) fn source_url(lane: &Lane, node: &NodeId, page: &str) -> Option<String> {
    let region = &lane.region;
    let host = match lane.partition() {
        Partition::Aws => format!("{region}.console.aws.amazon.com"),
        Partition::AwsCn => "console.amazonaws.cn".to_owned(),
        Partition::AwsUsGov => format!("{region}.console.amazonaws-us-gov.com"),
        // AWS European Sovereign Cloud User Guide, "Endpoints".
        Partition::AwsEusc => format!("{region}.console.amazonaws-eusc.eu"),
        Partition::AwsIso | Partition::AwsIsoB | Partition::AwsIsoE | Partition::AwsIsoF => {
            return None;
        }
    };
    Some(format!("https://{host}/systems-manager/{page}/{node}/patch?region={region}"))
}

pub(in crate::aws) fn gone_description(reason: GoneReason) -> &'static str {
    match reason {
        GoneReason::Terminated => "The EC2 instance no longer exists.",
        GoneReason::Deregistered => "The node was deregistered from Systems Manager.",
        GoneReason::AbsentTooLong => "Systems Manager has not reported the node for a long time.",
        GoneReason::Superseded => "Another finding reports the node now.",
        GoneReason::LaneRetired => "This account and Region is no longer looked after.",
    }
}

/// The reason whose description `text` is.
pub(in crate::aws) fn gone_reason(text: &str) -> Option<GoneReason> {
    [
        GoneReason::Terminated,
        GoneReason::Deregistered,
        GoneReason::AbsentTooLong,
        GoneReason::Superseded,
        GoneReason::LaneRetired,
    ]
    .into_iter()
    .find(|reason| gone_description(*reason) == text)
}
