//! How people and machines look at a running daemon.
//!
//! [`status`] is what there is to know at a glance, [`attention`] says what of it needs somebody,
//! [`http`] serves it read-only.

pub mod attention;
pub mod http;
pub mod status;
mod text;
