//! An embedded stand-in for SSM, Security Hub, Cloud Control, SQS, STS and Organizations.
//!
//! It speaks AWS's wire protocols on loopback, so that unchanged SDK clients work against it: give
//! them [`Simulator::endpoint_url`] and [`access_key_id`]. The fleet is seeded and changes only when
//! [`Control`] says so; the hub is strict about ASFF, batch limits, quotas and `UpdatedAt`; faults
//! are laid on by [`Control::set_fault`]. An operation that it doesn't know fails loudly and is
//! counted.
//!
//! It shares no types with the rest of the crate, so that both can't hold the same
//! misunderstanding. It doesn't check signatures, doesn't age findings out, and shows every write at
//! once, where the real hub is eventually consistent.
//!
//! # Layout
//! - [`config`](SimulatorConfig), `caller`: accounts, Regions, credentials
//! - `server`, `connection`, `reply`, `faults`, `denials`, `bucket`: whether a call is carried out, and
//!   whether its answer arrives
//! - `wire`: the operations; `asff`: the rules that an imported finding has to keep
//! - `fleet`, `patches`, `associations`, `evolution`: what SSM knows; `hub`: what Security Hub holds
//! - `events`, `queue`: what `EventBridge` tells, and the SQS queues that hold it
//! - `oracle`, `stats`, `stopwatch`, [`Control`]: what is true, what happened, how long it took, and
//!   the handle on it all

mod asff;
mod associations;
mod bucket;
mod caller;
mod clock;
mod config;
mod connection;
mod control;
mod denials;
mod events;
mod evolution;
mod faults;
mod fleet;
mod hub;
mod oracle;
mod patches;
mod queue;
mod queue_control;
mod reply;
mod server;
mod stats;
mod stopwatch;
mod wire;
mod world;

use std::{io, net::Ipv4Addr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

pub use config::{
    Clock, FleetConfig, Quota, Quotas, SECRET_ACCESS_KEY, SimLane, SimOrganization, SimRole,
    SimulatorConfig, access_key_id, system_clock,
};
pub use control::Control;
pub use denials::Lacking;
pub use events::SimEvent;
pub use evolution::{NoSuchNode, Rescan};
pub use faults::{Fault, Scope, Service};
pub use fleet::{Nonsense, PatchCounts, SeverityCounts};
pub use hub::HubFinding;
pub use oracle::FleetNode;
pub use queue::{QueueDepth, SimQueue};
pub use stats::Stats;

use world::World;

/// A running simulator. Dropping it stops it: it takes no more connections, and calls that it would
/// never have answered are cut.
pub struct Simulator {
    port: u16,
    control: Control,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Starts on 127.0.0.1, on the current tokio runtime.
    pub async fn start(config: SimulatorConfig) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let port = listener.local_addr()?.port();
        let world = Arc::new(World::new(&config));
        let stop = world.stop.clone();
        tokio::spawn(server::serve(listener, world.clone()));
        Ok(Self { port, control: Control(world), _stop_on_drop: stop.drop_guard() })
    }

    /// What `AWS_ENDPOINT_URL` is to be.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }
}
