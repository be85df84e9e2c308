//! Where a lane's hub doesn't hold what the ledger says, and what to do about it. Pure.
//!
//! | ledger | hub | difference | repair |
//! |---|---|---|---|
//! | open | nothing | missing | sent again |
//! | open | archived | missing | sent again |
//! | open | another version of it | drifted | sent again |
//! | resolved | active | orphaned | closed again: the ledger has the proof |
//! | resolved | archived otherwise, or newer | drifted | closed again, or later versions made newer |
//! | unknown | active | orphaned | adopted as open, and the node observed anew |
//! | open or resolved | active under another name too | duplicate, or orphaned | that one is closed |
//!
//! Nothing is resolved by absence of knowledge: an unknown node's finding is taken over as open,
//! and resolved only when the node is seen to be compliant or known to be gone.
//!
//! Left alone: nodes of which anything is on its way or was decided or acknowledged too recently
//! (`GetFindings` may still show what was before), and findings that the hub calls invalid.

use std::collections::{BTreeMap, HashMap};

use crate::{
    queue::{Repair, Told},
    record::{Change, Finding, FindingId, Lane, NodeId, RecordState, observation::GoneReason},
};

/// How the hub differs from the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Missing,
    Orphaned,
    Drifted,
    Duplicate,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Missing, Self::Orphaned, Self::Drifted, Self::Duplicate];
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Difference {
    pub kind: Kind,
    /// As the hub holds it, or, where it holds nothing, as the ledger does.
    pub finding: Finding,
    /// What differs, in words.
    pub what: String,
    pub repair: Repair,
}

/// What a comparison has come to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that were compared.
    pub compared: usize,
    /// Nodes that were left alone.
    pub moving: usize,
    pub differences: Vec<Difference>,
}

/// Compares what the hub holds with the ledger; `product_arn` is where findings go now.
#[must_use]
pub fn plan(
    lane: &Lane,
    product_arn: &str,
    held: Vec<Finding>,
    mut told: HashMap<String, Told>,
) -> Plan {
    let mut plan = Plan::default();
    let mut nodes: BTreeMap<NodeId, Vec<Finding>> = BTreeMap::new();
    for told in told.values() {
        nodes.entry(told.finding.node.clone()).or_default();
    }
    for finding in held {
        nodes.entry(finding.node.clone()).or_default().push(finding);
    }
    for (node, held) in nodes {
        match told.remove(node.as_str()) {
            Some(told) if told.is_moving => plan.moving += 1,
            Some(told) => {
                plan.compared += 1;
                known(lane, &told, held, &mut plan.differences);
            }
            None => {
                plan.compared += 1;
                unknown(lane, product_arn, held, &mut plan.differences);
            }
        }
    }
    plan
}

/// A node that the ledger knows.
fn known(lane: &Lane, told: &Told, held: Vec<Finding>, differences: &mut Vec<Difference>) {
    let is_own = |finding: &Finding| finding.has_name_of(&told.finding, lane);
    let (own, others): (Vec<Finding>, Vec<Finding>) = held.into_iter().partition(is_own);
    let own = own.into_iter().next();
    if !told.rejected {
        differences.extend(match told.finding.state {
            RecordState::Open => of_open(told, own),
            _ => own.and_then(|own| of_resolved(told, own)),
        });
    }
    let is_open = told.finding.state.is_open();
    for finding in others.into_iter().filter(|finding| finding.state.is_open()) {
        let (kind, state) = if is_open {
            (Kind::Duplicate, RecordState::Gone(GoneReason::Superseded))
        } else {
            (Kind::Orphaned, told.finding.state)
        };
        let what = format!(
            "the hub holds it as active beside {}",
            told.finding.id.render(lane, &finding.node)
        );
        differences.push(Difference { kind, finding, what, repair: Repair::Close { state } });
    }
}

fn of_open(told: &Told, own: Option<Finding>) -> Option<Difference> {
    let ours = &told.finding;
    let again = |above, change| Repair::SendAgain { seen: told.version, above, change };
    let Some(own) = own else {
        return Some(Difference {
            kind: Kind::Missing,
            finding: ours.clone(),
            what: "open, and not in the hub".into(),
            repair: again(None, Change::Opened),
        });
    };
    let above = Some(own.updated_at);
    let (kind, what) = if !own.state.is_open() {
        (Kind::Missing, "open, and archived in the hub".to_string())
    } else if own.updated_at != ours.updated_at {
        let what = format!("the hub holds UpdatedAt {}, not {}", own.updated_at, ours.updated_at);
        (Kind::Drifted, what)
    } else if own.severity != ours.severity {
        let (theirs, ours) = (own.severity.as_str(), ours.severity.as_str());
        (Kind::Drifted, format!("the hub holds severity {theirs}, not {ours}"))
    } else {
        return None;
    };
    Some(Difference { kind, finding: own, what, repair: again(above, Change::Refreshed) })
}

fn of_resolved(told: &Told, own: Finding) -> Option<Difference> {
    let ours = &told.finding;
    let above = own.updated_at;
    let again =
        Repair::SendAgain { seen: told.version, above: Some(above), change: Change::Resolved };
    let (kind, what, repair) = if own.state.is_open() {
        (Kind::Orphaned, "resolved, and active in the hub".to_string(), again)
    } else if own.state != ours.state {
        (Kind::Drifted, "archived in the hub, but not as it was told".to_string(), again)
    } else if own.updated_at > ours.updated_at {
        let what = format!("the hub holds UpdatedAt {}, not {}", own.updated_at, ours.updated_at);
        (Kind::Drifted, what, Repair::RaiseFloor { seen: told.version, above })
    } else {
        return None;
    };
    Some(Difference { kind, finding: own, what, repair })
}

/// A node that the ledger doesn't know: the finding that it would have is adopted, any other is
/// one too many.
fn unknown(lane: &Lane, product_arn: &str, held: Vec<Finding>, differences: &mut Vec<Difference>) {
    let mut active: Vec<Finding> =
        held.into_iter().filter(|finding| finding.state.is_open()).collect();
    let is_named_so = |finding: &Finding| {
        finding.id == FindingId::Node && finding.policy.product_arn(lane) == product_arn
    };
    active.sort_by_key(|finding| std::cmp::Reverse((is_named_so(finding), finding.updated_at)));
    for (index, finding) in active.into_iter().enumerate() {
        let difference = if index == 0 {
            Difference {
                kind: Kind::Orphaned,
                finding,
                what: "active in the hub, and its node isn't known to have a finding".into(),
                repair: Repair::Adopt,
            }
        } else {
            Difference {
                kind: Kind::Duplicate,
                finding,
                what: "the hub holds another one of the node as active".into(),
                repair: Repair::Close { state: RecordState::Gone(GoneReason::Superseded) },
            }
        };
        differences.push(difference);
    }
}

#[cfg(test)]
mod tests;
