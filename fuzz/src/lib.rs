//! The product's pure modules, by their paths: what the targets feed.

#![allow(dead_code, unused_imports)] // a target uses a part of each

#[path = "../../src/store/codec.rs"]
pub mod codec;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/failpoint.rs"]
mod failpoint;
#[path = "../../src/pipeline/ingest/file/door.rs"]
pub mod door;
#[path = "../../src/pipeline/ingest/file/fields.rs"]
mod fields;
#[path = "../../src/record/mod.rs"]
pub mod record;

/// What `codec` asks the store's root for.
const VALUE_BYTES_MAX: usize = 32 * 1024;
