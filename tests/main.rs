//! The integration suite: one binary over one harness.

#![allow(clippy::unwrap_used)] // a test that can't go on may panic where it stands

mod asff_rendering;
mod configuration;
mod dashboard;
mod demo;
mod harness;
mod hostile_input;
mod life_of_a_finding;
mod pipeline_faults;
mod readme;
mod simulator_contract;
