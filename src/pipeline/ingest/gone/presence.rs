//! Which nodes a sweep has met, in eight bytes each.
//!
//! Two nodes may share the bytes: one of them then counts as met because the other was. So a node
//! that was met is never called absent; one that wasn't may be, until the next start.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use crate::record::NodeId;

/// See the module.
#[derive(Default)]
pub(in crate::pipeline::ingest) struct Presence {
    hashes: RandomState,
    /// By `ListResourceComplianceSummaries`.
    reported: HashSet<u64>,
    /// By `DescribeInstanceInformation`.
    managed: HashSet<u64>,
    witness: Option<NodeId>,
    /// The lists were cut off at the most that a sweep looks at.
    pub is_cut_off: bool,
}

impl Presence {
    /// SSM's verdict on the node was listed.
    pub fn report(&mut self, node: &str) {
        self.reported.insert(self.hashes.hash_one(node));
    }

    /// SSM has listed the node as managed.
    pub fn manage(&mut self, node: &str) {
        self.managed.insert(self.hashes.hash_one(node));
        if let Ok(node) = node.parse() {
            self.witness = Some(node);
        }
    }

    pub fn is_reported(&self, node: &str) -> bool {
        self.reported.contains(&self.hashes.hash_one(node))
    }

    pub fn is_managed(&self, node: &str) -> bool {
        self.managed.contains(&self.hashes.hash_one(node))
    }

    pub fn is_present(&self, node: &str) -> bool {
        self.is_reported(node) || self.is_managed(node)
    }

    /// A node that SSM has just listed as managed, and so must list again if asked for by name.
    pub fn witness(&self) -> Option<&NodeId> {
        self.witness.as_ref()
    }
}
