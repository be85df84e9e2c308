//! What is true: the fleet as it is, the hub as it is, and where they differ.
//!
//! Holds for findings with one identity per node, beside which others may stand that are archived
//! as not available any more. Nodes of which nothing sensible can be known (corrupt) and nodes
//! whose findings the hub refuses (poisoned) are left out.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    fleet::{Fleet, Node, PatchCounts, Presence, Scan, SeverityCounts},
    hub::{Hub, HubFinding},
    world::Poison,
};

/// A node as it is.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own name")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetNode {
    pub id: String,
    pub is_hybrid: bool,
    pub is_stopped: bool,
    /// EC2: terminated; hybrid: deregistered.
    pub is_gone: bool,
    pub is_corrupt: bool,
    /// False: SSM knows of the node, but not of its patches.
    pub is_scanned: bool,
    pub is_non_compliant: bool,
    pub counts: PatchCounts,
    /// The non-compliant patches by the baseline's compliance level.
    pub severities: SeverityCounts,
    pub execution_id: Option<String>,
    pub last_operation_end_ms: Option<i64>,
}

impl FleetNode {
    pub(super) fn of(node: &Node) -> Self {
        let scan = node.scan.as_ref();
        Self {
            id: node.id.clone(),
            is_hybrid: node.is_hybrid(),
            is_stopped: node.presence == Presence::Stopped,
            is_gone: node.presence == Presence::Terminated,
            is_corrupt: node.nonsense.is_some(),
            is_scanned: scan.is_some(),
            is_non_compliant: scan.is_some_and(Scan::is_non_compliant),
            counts: scan.map(Scan::counts).unwrap_or_default(),
            severities: scan.map(Scan::severities).unwrap_or_default(),
            execution_id: scan.map(|scan| scan.execution_id.clone()),
            last_operation_end_ms: scan.map(|scan| scan.ended_at_ms),
        }
    }
}

/// The node that a finding is about: the last part of its first resource's Id.
fn node_of(finding: &HubFinding) -> &str {
    finding.resource_id.rsplit('/').next().unwrap_or(&finding.resource_id)
}

/// Where the hub doesn't hold what the fleet is, a sentence each.
pub(super) fn differences(fleet: &Fleet, hub: &Hub, poison: &Poison) -> Vec<String> {
    let mut differences = Vec::new();
    let mut by_node: BTreeMap<&str, &HubFinding> = BTreeMap::new();
    for finding in hub.findings.values() {
        match by_node.entry(node_of(finding)) {
            Entry::Vacant(entry) => {
                entry.insert(finding);
            }
            // What was closed under a former name stands beside the one that counts.
            Entry::Occupied(_) if is_superseded(finding) => {}
            Entry::Occupied(mut entry) if is_superseded(entry.get()) => {
                entry.insert(finding);
            }
            Entry::Occupied(entry) => differences.push(format!(
                "{}: two findings: {} and {}",
                entry.key(),
                entry.get().id,
                finding.id
            )),
        }
    }
    for node in fleet.nodes.values() {
        let finding = by_node.remove(node.id.as_str());
        let is_refused = poison.findings.contains(&node.id) || poison.calls.contains(&node.id);
        if node.nonsense.is_none() && !is_refused {
            differences.extend(difference(node, finding));
        }
    }
    let left = by_node.into_iter().filter(|(_, finding)| !is_closed(finding));
    differences.extend(left.map(|(node, finding)| {
        let (state, status) = (&finding.record_state, &finding.compliance_status);
        format!("{node}: {state} and {status}, but no node of the fleet")
    }));
    differences
}

fn is_superseded(finding: &HubFinding) -> bool {
    finding.record_state == "ARCHIVED" && finding.compliance_status == "NOT_AVAILABLE"
}

/// As the finding of a node that is gone must be: closed as such, or before it went.
fn is_closed(finding: &HubFinding) -> bool {
    finding.record_state == "ARCHIVED"
        && ["NOT_AVAILABLE", "PASSED"].contains(&finding.compliance_status.as_str())
}

/// What the newest execution says of the node, and whether patches were counted: those of a scan
/// with which an association agrees are, too.
fn verdict(node: &Node) -> Option<(bool, Option<PatchCounts>)> {
    let scan = node.scan.as_ref().map(|scan| (scan.is_non_compliant(), scan.ended_at_ms));
    // The document doesn't support hybrid nodes.
    let association = node.newest_association_scan().filter(|_| !node.is_hybrid());
    let counts = || node.scan.as_ref().map(Scan::counts);
    match (scan, association) {
        (None, None) => None,
        (None, Some((is_non_compliant, _))) => Some((is_non_compliant, None)),
        (Some((scan, ended_at_ms)), Some((association, ran_at_ms)))
            if scan != association && ran_at_ms > ended_at_ms =>
        {
            Some((association, None))
        }
        (Some((is_non_compliant, _)), _) => Some((is_non_compliant, counts())),
    }
}

fn difference(node: &Node, finding: Option<&HubFinding>) -> Option<String> {
    let id = &node.id;
    if node.presence == Presence::Terminated {
        // While SSM still tells of its last scan, that may be told, too.
        let is_told = node.told_scan().is_some();
        return finding.filter(|finding| !is_closed(finding) && !is_told).map(|finding| {
            let (state, status) = (&finding.record_state, &finding.compliance_status);
            format!("{id}: gone, but {state} and {status} in the hub")
        });
    }
    let Some((is_non_compliant, counts)) = verdict(node) else {
        return finding.map(|_| format!("{id}: never scanned, but has a finding"));
    };
    let Some(finding) = finding else {
        return is_non_compliant.then(|| format!("{id}: non-compliant, but has no finding"));
    };
    let expected = if is_non_compliant { ("ACTIVE", "FAILED") } else { ("ARCHIVED", "PASSED") };
    let actual = (finding.record_state.as_str(), finding.compliance_status.as_str());
    if actual != expected {
        return Some(format!("{id}: {actual:?} in the hub, should be {expected:?}"));
    }
    let counts = counts.filter(|_| is_non_compliant)?;
    let expected =
        [counts.missing, counts.failed, counts.installed_rejected, counts.installed_pending_reboot]
            .map(i64::from);
    let [missing, failed, rejected, pending_reboot, ..] = finding.patch_counts;
    let actual = [missing, failed, rejected, pending_reboot];
    (actual != expected).then(|| {
        format!(
            "{id}: missing, failed, rejected, pending reboot are {actual:?} in the hub, should be \
             {expected:?}"
        )
    })
}
