//! Deliver: one task per lane that empties the lane's outbox into its hub.
//!
//! Takes what is ready when a token is free (no fixed linger: low load sends at once, high load
//! fills batches), several requests at a time, each finding settled by its own outcome.
//!
//! - [`lane`]: the task; the only part that waits.
//! - [`flight`]: what is claimed and not settled; [`batch`]: what makes the next request.
//! - [`outcome`]: what a reply means (pure); [`verdict`]: how that is committed.
//! - [`gate`]: whether the lane may send: flowing, backing off, held (pure). A lane whose Region is
//!   off, or whose hub is off as declared, is dormant: held, asked rarely, and not swept.
//! - [`preview`]: what a dry run does in place of sending.
//! - [`read_back`]: adopting what the hub holds before a lane with a new ledger sends.
//!
//! Guarantees: retried until acknowledged; order per finding (never two versions of one in
//! flight); the quota is never exceeded; a poison finding takes neither its batch nor its lane
//! along. Deliberately doesn't know other lanes.

mod batch;
mod confirm;
mod flight;
mod gate;
mod lane;
mod outcome;
mod preview;
mod read_back;
mod verdict;

use std::time::Duration;

pub use lane::{LaneDelivery, LaneView};
pub use preview::{HubCopy, Preview, Previewed};

/// How a lane delivers; checked by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BatchImportFindings` requests per second; AWS's quota is 10 (API Reference, "Throttling
    /// limits").
    pub requests_per_second: f64,
    /// Tokens that the bucket holds; AWS's quota is 30.
    pub burst_requests: u32,
    /// Requests in flight at most.
    pub in_flight_max: usize,
    /// How often a held lane probes.
    pub probe_interval: Duration,
    /// Declared: the hub is off as intended.
    pub hub_off: bool,
    /// Where findings go, if not to the lane's default product.
    pub product_arn: Option<String>,
    /// A lane's task that didn't look around for longer than this was not there: suspended, or set
    /// back. What the hub holds is read back, then.
    pub absence_max: Duration,
    /// Whether what the hub holds can be read back: not where each run is a finding of its own.
    pub reads_back: bool,
}
