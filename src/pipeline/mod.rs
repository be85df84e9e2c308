//! The four stages, each its own task, connected only by the queues:
//! [`ingest`] -> [`validate`] -> [`transform`] -> [`deliver`] (one per lane).
//!
//! A stage claims, works, and settles what it claimed in one store commit. No stage calls
//! another, and what is claimed and not settled is claimed again after a restart.
//!
//! Deliberately doesn't know: configuration files, the command line, the store's engine.

pub mod deliver;
pub mod ingest;
pub mod session;
pub mod stage;
pub mod transform;
pub mod validate;
