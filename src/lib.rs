//! patchferry carries patch-compliance findings from AWS Systems Manager to AWS Security Hub and
//! loses none on the way.

#[path = "../migrations/mod.rs"]
pub mod migrations;
pub mod queue;
pub mod record;
pub mod store;
