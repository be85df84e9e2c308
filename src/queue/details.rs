//! Patch lists: the big optional part of an observation, stored once, under its node.
//!
//! Key: `Details`, lane, node, number of the read that gave the list, chunk (u16). A list
//! belongs to exactly one item at a time - an observation, an assessment, a waiting finding or a
//! dead letter - and is removed when that item ends.

use super::{QueueError, ledger::lane_key};
use crate::{
    record::{Lane, PatchDetail, observation::PatchList},
    store::{
        Reader, StoreError, Tx, codec,
        keys::{Key, Table},
    },
};

/// Patches kept of one node; more are counted, not kept.
pub const PATCHES_KEPT_MAX: usize = 300;
/// Bytes of one chunk, well below the store's limit for a value.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

pub(super) fn key(lane: &Lane, node: &str, list: &PatchList, chunk: u16) -> Key {
    lane_key(Table::Details, lane).text(node).u64(list.read.0).u16(chunk)
}

/// A list cut into values; its length is what [`PatchList::chunks`] must say.
pub fn chunks(patches: &[PatchDetail]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut chunk: Vec<&PatchDetail> = Vec::new();
    let mut bytes = 0;
    for patch in patches.iter().take(PATCHES_KEPT_MAX) {
        let size = codec::body_bytes(patch);
        if bytes + size > CHUNK_BYTES_MAX && !chunk.is_empty() {
            chunks.push(codec::encode(0, &chunk));
            chunk.clear();
            bytes = 0;
        }
        bytes += size;
        chunk.push(patch);
    }
    if !chunk.is_empty() {
        chunks.push(codec::encode(0, &chunk));
    }
    chunks
}

pub(super) fn insert(
    tx: &mut Tx<'_>,
    lane: &Lane,
    node: &str,
    list: &PatchList,
    chunks: Vec<Vec<u8>>,
) -> Result<(), StoreError> {
    for (number, chunk) in (0..).zip(chunks) {
        tx.put(&key(lane, node, list, number), chunk)?;
    }
    Ok(())
}

pub(super) fn remove(
    tx: &mut Tx<'_>,
    lane: &Lane,
    node: &str,
    list: Option<&PatchList>,
) -> Result<(), StoreError> {
    let Some(list) = list else { return Ok(()) };
    for number in 0..list.chunks {
        tx.remove(&key(lane, node, list, number))?;
    }
    Ok(())
}

pub(super) fn read(
    reader: &Reader<'_>,
    lane: &Lane,
    node: &str,
    list: &PatchList,
) -> Result<Vec<PatchDetail>, QueueError> {
    let mut patches = Vec::new();
    for number in 0..list.chunks {
        let Some(bytes) = reader.get(&key(lane, node, list, number))? else { break };
        let (_, mut chunk) = codec::decode::<Vec<PatchDetail>>(&bytes)?;
        patches.append(&mut chunk);
    }
    Ok(patches)
}
