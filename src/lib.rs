//! patchferry carries patch-compliance findings from AWS Systems Manager to AWS Security Hub and
//! loses none on the way.

pub mod admin;
pub mod app;
pub mod aws;
pub mod cli;
pub mod config;
pub mod demo;
pub mod metrics;
#[path = "../migrations/mod.rs"]
pub mod migrations;
pub mod pipeline;
pub mod queue;
pub mod record;
pub mod shutdown;
pub mod simulator;
pub mod store;
