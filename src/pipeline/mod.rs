//! The four stages, each its own task, connected only by the queues:
//! [`ingest`] -> [`validate`] -> [`transform`] -> [`deliver`] (one per lane).
//!
//! A stage claims, works, and settles what it claimed in one store commit. No stage calls
//! another, and what is claimed and not settled is claimed again after a restart.
//! Beside them, [`reconcile`] compares each lane's hub with the ledger once a day.
//! [`session`] holds a lane's AWS clients, `held` says how a hub's findings are read as ours, [`stage`] the loop of the two stages in the middle;
//! `limiter` and [`backoff`] say how fast and how long.
//!
//! Deliberately doesn't know: configuration files, the command line, the store's engine.

pub mod backoff;
pub mod deliver;
mod held;
pub mod ingest;
mod limiter;
pub mod reconcile;
pub mod session;
pub mod stage;
pub mod transform;
pub mod validate;
