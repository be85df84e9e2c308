//! What of a node's facts makes a difference, as one number.
//!
//! Guarantees: the same in every process and version, so that it can be kept.

use crate::{
    queue::Desired,
    record::{Assessment, Facts, ReadNumber, Severity},
    store::codec,
};

/// Of the facts whose change is worth telling: severity, non-compliant counts, baseline, and the
/// set of missing patches. Each update is billed and triggers rules, so nothing else is. Never 0.
pub(super) fn digest(severity: Severity, assessment: &Assessment) -> u64 {
    let facts = &assessment.facts;
    let counts = &facts.counts;
    let non_compliant = [
        counts.missing,
        counts.failed,
        counts.installed_rejected,
        counts.installed_pending_reboot,
        counts.critical_non_compliant,
        counts.security_non_compliant,
        counts.other_non_compliant,
    ];
    let by_severity = facts.compliance.as_ref().map(|compliance| compliance.non_compliant_counts);
    let patches = facts.patches.as_ref().map(|patches| patches.digest);
    stable_hash(&(severity, non_compliant, by_severity, &facts.baseline, patches)).max(1)
}

/// All facts but those that every scan changes.
pub(super) fn all_facts(desired: &Desired) -> u64 {
    hash_facts(&desired.finding.facts)
}

pub(super) fn all_facts_of(assessment: &Assessment) -> u64 {
    hash_facts(&assessment.facts)
}

fn hash_facts(facts: &Facts) -> u64 {
    let mut facts = facts.clone();
    facts.operation_start = None;
    facts.operation_end = None;
    facts.snapshot = None;
    if let Some(patches) = &mut facts.patches {
        patches.read = ReadNumber(0);
    }
    if let Some(compliance) = &mut facts.compliance {
        compliance.execution_id = None;
        compliance.execution_time = None;
    }
    stable_hash(&facts)
}

/// The same in every process and version: two CRCs of the encoding, from different starts.
pub(in crate::pipeline) fn stable_hash<T: serde::Serialize>(value: &T) -> u64 {
    let bytes = codec::encode_body(value);
    let low = crc32fast::hash(&bytes);
    let mut high = crc32fast::Hasher::new_with_initial(0x9e37_79b9);
    high.update(&bytes);
    high.update(&[0x5a]);
    u64::from(high.finalize()) << 32 | u64::from(low)
}
