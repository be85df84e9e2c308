//! patchferry carries patch-compliance findings from AWS Systems Manager to AWS Security Hub and
//! loses none on the way.
//!
//! # Layout
//!
//! In the direction in which the data flows:
//!
//! ```text
//! SSM ─> ingest ─[observed]─> validate ─[assessed]─> transform ─[outbox, per lane]─> deliver ─> hub
//!           │                     │                      │                             │
//!           └── ledger: seen      └─> dead letters       └── ledger: desired           └── ledger: acked
//! ```
//!
//! - [`record`]: what travels. Observation, assessment, finding, receipt, dead letter.
//! - [`pipeline`]: the four stages. `ingest` sweeps a lane's fleet and reads what events
//!   tell of, `validate` judges, `transform` decides what the hub is to be told, `deliver` sends until it is acknowledged.
//! - [`queue`]: the durable queues between them, the ledger, the accounting.
//! - [`store`]: the only place that knows the engine (sled): one committer, one tree, real fsync.
//! - [`migrations`]: the ladder of store formats.
//! - [`aws`]: the only place that knows AWS's SDK: reading SSM, rendering ASFF, sending, and what
//!   each answer means.
//!
//! Around it:
//!
//! - [`app`]: the only wiring, from a configuration to running stages.
//! - [`config`]: every key, its limits and its default.
//! - [`metrics`]: every metric, in one place.
//! - [`admin`]: status, status page, HTTP server, admin socket.
//! - [`demo`]: all of it against a simulated AWS, in a minute, checked.
//! - [`drill`]: the same with a process that is really killed, over and over.
//! - [`cli`]: the commands and exit codes. `main.rs` only calls it.
//! - [`lint`]: what Security Hub would refuse in a file of findings. It shares nothing with the rest.
//! - [`failpoint`]: places where a test has a debug build die.
//! - [`shutdown`]: the first signal asks, the second insists.
//! - [`simulator`]: a stand-in for SSM, Security Hub, Cloud Control, SQS and STS that speaks AWS's
//!   wire protocols. It shares nothing with the rest.
//!
//! Where to begin: the life of a finding is decided in `pipeline/transform/decision.rs`; the outcomes of
//! sending in `pipeline/deliver/outcome.rs`; what is in a finding in `aws/asff`; how an item moves
//! from one queue to the next in one commit in `queue/mod.rs` and `store/committer.rs`. Which module
//! may use which is a table in `tests/architecture.rs`. The integration suite is one binary,
//! `tests/main.rs`, over one harness, `tests/harness`.

pub mod admin;
pub mod app;
pub mod aws;
pub mod cli;
pub mod config;
pub mod demo;
pub mod drill;
pub mod failpoint;
pub mod lint;
pub mod metrics;
#[path = "../migrations/mod.rs"]
pub mod migrations;
pub mod pipeline;
pub mod queue;
pub mod record;
pub mod shutdown;
pub mod simulator;
pub mod store;
