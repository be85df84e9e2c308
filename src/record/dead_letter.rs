//! An item that can't go on, kept with the reason until a person redrives or drops it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Assessment, Finding, Lane, Observation, Text, UnixMillis};

/// The stage at which an item died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Ingest,
    Validate,
    Transform,
    Deliver,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Validate, Self::Transform, Self::Deliver];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Validate => "validate",
            Self::Transform => "transform",
            Self::Deliver => "deliver",
        }
    }
}

/// Why an item is dead. The codes are stable: they are metric labels and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The node id doesn't have the form of one.
    InvalidNodeId,
    /// A count is negative.
    NegativeCount,
    /// A time is before 2000 or not representable.
    InvalidTime,
    /// The service's verdict is neither `COMPLIANT` nor `NON_COMPLIANT`.
    UnknownStatus,
    /// The operation is neither Scan nor Install.
    UnknownOperation,
    /// Nothing was read that a verdict could rest on.
    NoVerdict,
    /// The hub calls the finding invalid, sent alone.
    RejectedByHub,
    /// The item's bytes don't decode or fail their checksum.
    Undecodable,
    /// A defect: the stage panicked on this item.
    Panicked,
}

impl Reason {
    pub const ALL: [Self; 9] = [
        Self::InvalidNodeId,
        Self::NegativeCount,
        Self::InvalidTime,
        Self::UnknownStatus,
        Self::UnknownOperation,
        Self::NoVerdict,
        Self::RejectedByHub,
        Self::Undecodable,
        Self::Panicked,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidNodeId => "invalid_node_id",
            Self::NegativeCount => "negative_count",
            Self::InvalidTime => "invalid_time",
            Self::UnknownStatus => "unknown_status",
            Self::UnknownOperation => "unknown_operation",
            Self::NoVerdict => "no_verdict",
            Self::RejectedByHub => "rejected_by_hub",
            Self::Undecodable => "undecodable",
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What died, whole, so that it can be shown and redriven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadItem {
    Observation {
        accepted_at: UnixMillis,
        observation: Box<Observation>,
    },
    Assessment(Box<Assessment>),
    Finding(Box<Finding>),
    /// Bytes as they were found, at most 4 KiB of them.
    Raw {
        kept: Vec<u8>,
        total_bytes: u64,
    },
}

/// At most one per lane, node, stage and reason: a newer one replaces it and counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub lane: Lane,
    /// As it was given: it may be what is wrong.
    pub node: Text<128>,
    pub stage: Stage,
    pub reason: Reason,
    /// What happened, in words, the hub's own included.
    pub message: Text<1024>,
    pub item: DeadItem,
    /// Items that died here, this one included.
    pub count: u64,
    pub first_at: UnixMillis,
    pub last_at: UnixMillis,
}
