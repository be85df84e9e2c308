//! Lanes: which there are, what state each is in, and whose credentials it works with.

mod credentials;
mod discovery;
mod many;
mod retire;
mod states;

use patchferry::simulator::FleetConfig;

const OTHER_ACCOUNT: &str = "444455556666";
const THIRD_ACCOUNT: &str = "777788889999";

/// A fleet in which every node has a finding.
fn findings(nodes: usize) -> FleetConfig {
    FleetConfig { nodes, hybrid_share: 0.0, non_compliant_share: 1.0, never_scanned_share: 0.0 }
}
