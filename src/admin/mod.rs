//! How people and machines look at a daemon, and how people have it change something.
//!
//! [`status`] is what there is to know at a glance, [`attention`] says what of it needs somebody,
//! [`lanes`] shows it lane by lane, [`http`] serves it read-only. A [`command`] is what the command line asks for; [`commands`] has
//! them all, [`handler`] carries them out and [`audit`] remembers who had what changed; [`socket`]
//! brings them to a running daemon.

pub mod attention;
pub mod audit;
pub mod command;
pub mod commands;
mod connections;
pub mod handler;
pub mod http;
mod kept;
pub mod lanes;
pub mod socket;
pub mod status;
mod text;
