//! What became of a node's earlier dead letters: redriven, by whom, and why they had died.
//!
//! Key: `DeadHistory`, lane, node; the last [`EPISODES_KEPT_MAX`] of them, oldest first. Written
//! when a letter is redriven, so that one that dies again keeps its story; forgotten as receipts
//! are.

use serde::{Deserialize, Serialize};

use crate::{
    queue::{ledger::lane_key, transition::Transition},
    record::{DeadLetter, Lane, Reason, Stage, Text, UnixMillis},
    store::{
        Reader, StoreError, codec,
        keys::{Key, Table},
    },
};

/// Episodes kept of a node.
pub const EPISODES_KEPT_MAX: usize = 8;

/// One letter that was redriven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// When its last item had died.
    pub died_at: UnixMillis,
    pub stage: Stage,
    pub reason: Reason,
    pub message: Text<256>,
    /// Items that had died there.
    pub count: u64,
    pub redriven_at: UnixMillis,
    /// User who had it redriven.
    pub by_uid: u32,
}

pub(in crate::queue) fn key(lane: &Lane, node: &str) -> Key {
    lane_key(Table::DeadHistory, lane).text(node)
}

pub(super) fn read(
    reader: &Reader<'_>,
    lane: &Lane,
    node: &str,
) -> Result<Vec<Episode>, StoreError> {
    Ok(reader.get(&key(lane, node))?.map(|bytes| decode(&bytes)).unwrap_or_default())
}

/// Notes that a letter is redriven.
pub(super) fn note(
    step: &mut Transition<'_, '_>,
    letter: &DeadLetter,
    by_uid: u32,
) -> Result<(), StoreError> {
    let key = key(&letter.lane, letter.node.as_str());
    let mut episodes = step.tx.get(&key)?.map(|bytes| decode(&bytes)).unwrap_or_default();
    episodes.push(Episode {
        died_at: letter.last_at,
        stage: letter.stage,
        reason: letter.reason,
        message: Text::truncated(letter.message.as_str()),
        count: letter.count,
        redriven_at: step.now(),
        by_uid,
    });
    let surplus = episodes.len().saturating_sub(EPISODES_KEPT_MAX);
    episodes.drain(..surplus);
    step.tx.put(&key, codec::encode(0, &episodes))
}

/// When the last episode of a row ended; `None` if the row is damaged or empty.
pub(in crate::queue) fn last_redriven_at(value: &[u8]) -> Option<UnixMillis> {
    decode(value).last().map(|episode| episode.redriven_at)
}

fn decode(bytes: &[u8]) -> Vec<Episode> {
    match codec::decode(bytes) {
        Ok((_, episodes)) => episodes,
        Err(error) => {
            tracing::error!(%error, "the history of a node's dead letters is damaged and begins anew");
            Vec::new()
        }
    }
}
