//! State Manager's associations, as far as compliance knows of them: which there are in a lane, and
//! what each has found on each node.
//!
//! As in the service, what a node shows as the time of its association compliance moves for all of
//! them whenever any of them runs (SSM model, `ComplianceItem.ExecutionSummary`); when each has really
//! run, only `DescribeInstanceAssociationsStatus` tells.

use super::{
    config::SimLane,
    control::Control,
    evolution::NoSuchNode,
    fleet::{Fleet, Node, uuid},
    patches::Level,
};

/// The document whose associations scan for patches.
pub(super) const SCAN_DOCUMENT: &str = "AWS-RunPatchBaselineAssociation";

/// A document that is kept applied to nodes.
#[derive(Clone, Debug)]
pub(super) struct Association {
    pub id: String,
    pub document: String,
    pub last_run_at_ms: Option<i64>,
}

/// What an association has come to on a node.
#[derive(Clone, Debug)]
pub(super) struct AssociationResult {
    pub association: String,
    pub document: String,
    pub is_non_compliant: bool,
    pub level: Level,
    pub ran_at_ms: i64,
}

impl Node {
    /// The time that all of the node's association compliance shows.
    pub(super) fn associations_shown_at_ms(&self) -> i64 {
        self.associations.iter().map(|result| result.ran_at_ms).max().unwrap_or(0)
    }

    /// The verdict of the newest run that scanned for patches, and when it was.
    pub(super) fn newest_association_scan(&self) -> Option<(bool, i64)> {
        let scans = self.associations.iter().filter(|result| result.document == SCAN_DOCUMENT);
        let newest = scans.max_by_key(|result| result.ran_at_ms)?;
        Some((newest.is_non_compliant, newest.ran_at_ms))
    }
}

impl Fleet {
    fn run_association(
        &mut self,
        node: &str,
        association: &str,
        found: Found,
        now_ms: i64,
    ) -> Result<(), NoSuchNode> {
        let known = self.associations.iter_mut().find(|known| known.id == association);
        let association = known.expect("the association was made by this handle");
        let document = association.document.clone();
        let id = association.id.clone();
        let node = self
            .nodes
            .get_mut(node)
            .ok_or_else(|| NoSuchNode { lane: self.lane.to_string(), node: node.to_string() })?;
        // Never at the same time as what the node has shown before.
        let scanned_at_ms = node.scan.as_ref().map_or(0, |scan| scan.ended_at_ms);
        let ran_at_ms = now_ms.max(node.associations_shown_at_ms().max(scanned_at_ms) + 1);
        association.last_run_at_ms = association.last_run_at_ms.max(Some(ran_at_ms));
        node.associations.retain(|result| result.association != id);
        let (is_non_compliant, level) = match found {
            Found::Compliant => (false, Level::Unspecified),
            Found::NonCompliant(level) => (true, level),
        };
        let result =
            AssociationResult { association: id, document, is_non_compliant, level, ran_at_ms };
        node.associations.push(result);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Found {
    Compliant,
    NonCompliant(Level),
}

/// Associations.
impl Control {
    /// A new association of a document; its id.
    pub fn create_association(&self, lane: &SimLane, document: &str) -> String {
        self.change_fleet(lane, |fleet, _| {
            let id = uuid(&mut fleet.rng);
            let document = document.to_string();
            fleet.associations.push(Association { id: id.clone(), document, last_run_at_ms: None });
            id
        })
    }

    /// It runs on a node and finds it compliant.
    pub fn association_complies(
        &self,
        lane: &SimLane,
        node: &str,
        association: &str,
    ) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, now_ms| {
            fleet.run_association(node, association, Found::Compliant, now_ms)
        })
    }

    /// It runs on a node and finds it non-compliant, with the severity that the association gives:
    /// `HIGH`, say; what isn't one is `UNSPECIFIED`.
    pub fn association_violated(
        &self,
        lane: &SimLane,
        node: &str,
        association: &str,
        severity: &str,
    ) -> Result<(), NoSuchNode> {
        let level = Level::SPECIFIED.into_iter().find(|level| level.as_str() == severity);
        let found = Found::NonCompliant(level.unwrap_or(Level::Unspecified));
        self.change_fleet(lane, |fleet, now_ms| {
            fleet.run_association(node, association, found, now_ms)
        })
    }

    /// The association is no more, nor is what it has found.
    pub fn delete_association(&self, lane: &SimLane, association: &str) {
        self.change_fleet(lane, |fleet, _| {
            fleet.associations.retain(|known| known.id != association);
            for node in fleet.nodes.values_mut() {
                node.associations.retain(|result| result.association != association);
            }
        });
    }

    /// The node has no patch state: no document has told of its patches.
    pub fn forget_scan(&self, lane: &SimLane, node: &str) -> Result<(), NoSuchNode> {
        self.change_fleet(lane, |fleet, _| {
            let absent = NoSuchNode { lane: fleet.lane.to_string(), node: node.to_string() };
            fleet.nodes.get_mut(node).map(|node| node.scan = None).ok_or(absent)
        })
    }
}
