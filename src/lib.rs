//! patchferry carries patch-compliance findings from AWS Systems Manager to AWS Security Hub and
//! loses none on the way.

#![deny(unsafe_code)]

pub mod admin;
pub mod config;
pub mod metrics;
pub mod record;
