//! The integration suite: one binary over one harness.

mod configuration;

mod dashboard;
