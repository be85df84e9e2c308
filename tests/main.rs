//! The integration suite: one binary over one harness.

#![allow(clippy::unwrap_used)] // a test that can't go on may panic where it stands
#![allow(clippy::large_futures)] // a whole daemon stands in them, once
#![allow(clippy::needless_pass_by_value)] // a story reads better without borrows

mod architecture;
mod asff_rendering;
mod associations;
mod changed_config;
mod check;
mod configuration;
mod daemon;
mod dashboard;
mod demo;
mod drill;
mod events;
mod fail_points;
mod gone;
mod handing_in;
mod harness;
mod hostile_input;
mod iam_policy;
mod kill_storm;
mod lanes;
mod life_of_a_finding;
mod linting;
mod machines;
mod network;
mod pipeline_faults;
mod power_cut;
mod readme;
mod reconcile;
mod rounds;
mod simulator_contract;
mod store;
