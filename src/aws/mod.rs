//! The only place that knows AWS's SDK types.
//!
//! What leaves this module is patchferry's own: records, pages of records, and outcomes that
//! list every way in which a call can end. An SDK error is turned into a [`Fault`] once, in
//! `classify`; nobody else reads a status or an error code.
//!
//! Guarantees: every call has timeouts; lanes share connections and nothing else (their
//! credentials, retry quotas and identity caches are their own); neither errors nor `Debug`
//! output show a secret.
//!
//! Deliberately doesn't know: queues, the store, metrics, rates, and when to try again. It
//! reports what happened; the stages decide.
//!
//! # Layout
//! [`connect`] the ambient identity and per-lane clients · `credentials` one cache for the
//! ambient identity · `http` the one connection pool · [`fault`] and [`hold`] what can go wrong,
//! `classify` how it is told ·
//! [`organizations`] the organization's accounts ·
//! [`ssm`] reads a lane's fleet · [`cloud_control`] asks whether an instance still exists, over
//! `signed`, a client without shapes · [`asff`] renders findings · [`security_hub`] writes and
//! reads the hub · [`sqs`] an events queue · [`digest`] a patch list in one number · [`permissions`]
//! every action that is needed, [`denial`] what AWS says of a missing one, [`preflight`] and [`clock`]
//! what else is asked before a start.

pub mod asff;
mod classify;
pub mod clock;
pub mod cloud_control;
pub mod connect;
mod credentials;
pub mod denial;
pub mod digest;
pub mod fault;
pub mod hold;
mod http;
pub mod organizations;
mod page;
pub mod permissions;
pub mod preflight;
mod read_back;
pub mod security_hub;
mod signed;
pub mod sqs;
pub mod ssm;
mod ssm_rows;

#[cfg(test)]
mod tests;

pub use asff::{Rendered, render};
pub use clock::ClockOffset;
pub use cloud_control::{CloudControl, InstanceFate};
pub use connect::{AssumeRole, Aws, CallerIdentity, LaneClients};
pub use digest::patch_digest;
pub use fault::{AwsError, Fault, Unavailability};
pub use hold::HoldReason;
pub use http::HttpSetupError;
pub use organizations::Organizations;
pub use page::Page;
pub use security_hub::{
    FailedFinding, HubQuery, HubRecord, HubSwitch, HubWorkflow, ImportReply, SecurityHub,
};
pub use sqs::{FailedEntry, QueueMessage, Receipt, Sqs};
pub use ssm::{ComplianceRow, ItemRow, NodeRow, PatchRow, PatchStateRow, Ssm};
