//! The integration suite: one binary over one harness.

mod asff_rendering;
mod configuration;
mod dashboard;
mod demo;
mod harness;
mod pipeline_faults;
mod simulator_contract;
