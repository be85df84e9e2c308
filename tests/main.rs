//! The integration suite: one binary over one harness.

mod asff_rendering;
mod configuration;
mod dashboard;
mod harness;
mod hostile_input;
mod life_of_a_finding;
mod pipeline_faults;
mod simulator_contract;
