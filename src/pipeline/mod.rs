//! The four stages, each its own task, connected only by the queues:
//! [`ingest`] -> [`validate`] -> [`transform`] -> [`deliver`] (one per lane).
//!
//! A stage claims, works, and settles what it claimed in one store commit. No stage calls
//! another, and what is claimed and not settled is claimed again after a restart.
//! [`session`] holds a lane's AWS clients, [`stage`] the loop of the two stages in the middle;
//! `limiter` and `backoff` say how fast and how long.
//!
//! Deliberately doesn't know: configuration files, the command line, the store's engine.

mod backoff;
pub mod deliver;
pub mod ingest;
mod limiter;
pub mod session;
pub mod stage;
pub mod transform;
pub mod validate;
