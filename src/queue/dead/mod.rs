//! Dead letters: what can't go on, kept until a person redrives or drops it.
//!
//! Key: `Dead`, lane, node, stage, reason; tag: how many items died there. One letter per key: a
//! newer item takes the place of the older one and counts. An undecodable page, whose node isn't
//! known, has its sequence for a node.
//!
//! [`look`] reads them, [`redrive`] has them go on, [`drop`] ends them, [`history`] remembers.

mod drop;
pub(super) mod history;
mod look;
mod redrive;

pub use drop::Dropped;
pub use history::{EPISODES_KEPT_MAX, Episode};
pub use look::{CompleteLetter, DeadCursor, DeadFilter, DeadPage};
pub use redrive::{RedrivePreview, Redriven};

use super::{details, ledger::lane_key};
use crate::{
    record::{
        DeadLetter, Lane, Reason, Stage, Text, UnixMillis, dead_letter::DeadItem,
        observation::PatchList,
    },
    store::{
        StoreError, Tx, codec,
        keys::{Key, KeyFields, Table},
    },
};

/// Bytes kept of what doesn't decode.
const RAW_BYTES_KEPT_MAX: usize = 4 * 1024;

/// An item that has just died.
#[derive(Clone, Debug)]
pub struct Death {
    pub node: Text<128>,
    pub stage: Stage,
    pub reason: Reason,
    pub message: Text<1024>,
    pub item: DeadItem,
    /// Items that die with it: more than one for an undecodable page.
    pub count: u64,
}

impl Death {
    /// Bytes that don't decode.
    pub fn undecodable(node: &str, stage: Stage, message: &str, bytes: &[u8], count: u64) -> Self {
        let kept = bytes.iter().take(RAW_BYTES_KEPT_MAX).copied().collect();
        Self {
            node: node.into(),
            stage,
            reason: Reason::Undecodable,
            message: message.into(),
            item: DeadItem::Raw { kept, total_bytes: bytes.len() as u64 },
            count,
        }
    }
}

pub(super) fn key(lane: &Lane, node: &str, stage: Stage, reason: Reason) -> Key {
    lane_key(Table::Dead, lane).text(node).u8(stage as u8).u8(reason as u8)
}

/// What a letter's key tells.
pub(super) struct Place {
    pub lane: Lane,
    pub node: String,
    pub stage: Stage,
    pub reason: Reason,
}

impl Place {
    pub fn of(key: &[u8]) -> Option<Self> {
        let mut fields = KeyFields::of(key);
        let lane = fields.text()?.parse().ok()?;
        let node = fields.text()?.to_string();
        let (stage, reason) = (fields.u8()?, fields.u8()?);
        Some(Self {
            lane,
            node,
            stage: Stage::ALL.into_iter().find(|known| *known as u8 == stage)?,
            reason: Reason::ALL.into_iter().find(|known| *known as u8 == reason)?,
        })
    }
}

/// Writes the letter, merging it with an older one at the same place. The caller counts.
pub(super) fn bury(
    tx: &mut Tx<'_>,
    lane: &Lane,
    death: Death,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let key = key(lane, death.node.as_str(), death.stage, death.reason);
    let older = tx.get(&key)?.and_then(|bytes| codec::decode::<DeadLetter>(&bytes).ok());
    let (mut count, mut first_at) = (death.count, now);
    if let Some((older_count, older)) = older {
        details::remove(tx, lane, older.node.as_str(), patches_of(&older.item))?;
        count += older_count;
        first_at = older.first_at;
    }
    let letter = DeadLetter {
        lane: lane.clone(),
        node: death.node,
        stage: death.stage,
        reason: death.reason,
        message: death.message,
        item: death.item,
        count,
        first_at,
        last_at: now,
    };
    tx.put(&key, codec::encode(count, &letter))
}

pub(in crate::queue) fn patches_of(item: &DeadItem) -> Option<&PatchList> {
    match item {
        DeadItem::Observation { observation, .. } => observation.patches.as_ref(),
        DeadItem::Assessment(assessment) => assessment.facts.patches.as_ref(),
        DeadItem::Finding(finding) => finding.facts.patches.as_ref(),
        DeadItem::Raw { .. } => None,
    }
}
