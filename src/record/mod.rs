//! What travels through patchferry: plain data with its invariants, and nothing that acts.
//!
//! In the order in which the data flows: an [`Observation`] is a node's patch state as it was
//! read; an [`Assessment`] is a checked observation with a verdict; a [`Finding`] is what the
//! hub is to hold for the node; a [`Receipt`] proves its delivery; a [`DeadLetter`] keeps what
//! could not go on.
//!
//! Guarantees: identifiers are valid once constructed (parsed at the edge, trusted inside) and
//! every text has a limit in its type. Everything here is serde data, so the same shapes are
//! stored (bincode) and shown to people (JSON).
//!
//! Deliberately doesn't know: the store, AWS's SDK types, metrics, configuration files.

pub mod assessment;
pub mod attempt;
pub mod dead_letter;
pub mod finding;
pub mod ids;
pub mod observation;
pub mod receipt;
pub mod shard;
pub mod text;
pub mod time;

pub use assessment::{Assessment, Facts, PatchCounts, Verdict};
pub use attempt::{Attempt, AttemptOutcome, Attempts};
pub use dead_letter::{DeadLetter, Reason, Stage};
pub use finding::{
    Change, Finding, FindingId, HybridAs, RecordState, RenderPolicy, Severity, Template,
};
pub use ids::{AccountId, Lane, NodeId, NodeKind, Partition, ReadNumber, Region, Revision};
pub use observation::{Observation, PatchDetail, Source};
pub use receipt::Receipt;
pub use shard::Shard;
pub use text::Text;
pub use time::{Clock, UnixMillis};
