//! The integration suite: one binary over one harness.

#![allow(clippy::unwrap_used)] // a test that can't go on may panic where it stands

mod architecture;
mod asff_rendering;
mod configuration;
mod daemon;
mod dashboard;
mod harness;
mod kill_storm;
mod pipeline_faults;
mod simulator_contract;
mod store;
