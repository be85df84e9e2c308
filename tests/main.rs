//! The integration suite: one binary over one harness.

mod asff_rendering;
mod configuration;
mod dashboard;
mod simulator_contract;
