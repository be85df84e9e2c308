//! The integration suite: one binary over one harness.

mod simulator_contract;
