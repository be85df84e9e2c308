//! Looking at dead letters, page by page.
//!
//! A letter whose own bytes are damaged is shown, too, as what its key tells and the bytes
//! themselves: it counts, so it must be possible to drop it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Episode, Place, history, patches_of};
use crate::{
    queue::{QueueError, Queues, details, ledger::lane_key, table_prefix},
    record::{
        DeadLetter, Lane, PatchDetail, Reason, Stage, Text, UnixMillis, dead_letter::DeadItem,
    },
    store::{
        Entry, Reader, StoreError, codec,
        keys::{Key, Table},
    },
};

/// Letters of one page.
const PAGE_LETTERS_MAX: usize = 500;
/// Bytes of one page, as they are stored.
const PAGE_BYTES_MAX: usize = 512 * 1024;
/// Letters that are looked at for one page, whether the filter admits them or not.
const PAGE_VISITED_MAX: usize = 20_000;

/// Which dead letters; `None` is all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Only those whose last item died before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_before: Option<UnixMillis>,
    /// Only those whose last item died then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_since: Option<UnixMillis>,
}

impl DeadFilter {
    pub(super) fn admits(&self, letter: &DeadLetter) -> bool {
        self.lane.as_ref().is_none_or(|lane| *lane == letter.lane)
            && self.node.as_ref().is_none_or(|node| node == letter.node.as_str())
            && self.stage.is_none_or(|stage| stage == letter.stage)
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self.died_before.is_none_or(|before| letter.last_at < before)
            && self.died_since.is_none_or(|since| letter.last_at >= since)
    }

    /// What the keys of all letters that it admits begin with.
    fn prefix(&self) -> Key {
        match (&self.lane, &self.node) {
            (Some(lane), Some(node)) => lane_key(Table::Dead, lane).text(node),
            (Some(lane), None) => lane_key(Table::Dead, lane),
            _ => table_prefix(Table::Dead),
        }
    }
}

/// Where the next page begins; opaque to whoever hands it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadCursor(pub(super) Key);

impl Serialize for DeadCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for DeadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for DeadCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let wrong = || serde::de::Error::custom("no cursor that an earlier page gave");
        let key = bytes.map(Key::from_bytes).ok_or_else(wrong)?;
        if Table::of(key.as_bytes()) == Some(Table::Dead) { Ok(Self(key)) } else { Err(wrong()) }
    }
}

/// A letter with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompleteLetter {
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Of the item, as far as they are stored.
    pub patches: Vec<PatchDetail>,
    /// Earlier deaths of the node's items that were redriven, oldest first.
    pub history: Vec<Episode>,
}

/// Some letters, in the order of lane and node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadPage<L> {
    pub letters: Vec<L>,
    /// `None`: that was the last page. A page that isn't may be empty.
    pub next: Option<DeadCursor>,
}

impl Queues {
    /// Dead letters by stage and reason.
    pub fn dead_counts(&self) -> std::collections::HashMap<(Stage, Reason), i64> {
        self.inner.lanes.dead()
    }

    /// Up to `limit` dead letters, in the order of lane and node.
    pub async fn dead_letters(
        &self,
        filter: DeadFilter,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        let mut from = None;
        loop {
            let page = self.dead_page(filter.clone(), from).await?;
            letters.extend(page.letters);
            from = page.next;
            if letters.len() >= limit || from.is_none() {
                letters.truncate(limit);
                return Ok(letters);
            }
        }
    }

    /// A page of dead letters.
    pub async fn dead_page(
        &self,
        filter: DeadFilter,
        from: Option<DeadCursor>,
    ) -> Result<DeadPage<DeadLetter>, QueueError> {
        let found = self.store.read(move |reader| find(reader, &filter, from)).await?;
        let letters = found.entries.into_iter().map(|(_, letter)| letter).collect();
        Ok(DeadPage { letters, next: found.next })
    }

    /// A page of dead letters with their patches and history.
    pub async fn complete_dead_page(
        &self,
        filter: DeadFilter,
        from: Option<DeadCursor>,
    ) -> Result<DeadPage<CompleteLetter>, QueueError> {
        let page = self
            .store
            .read(move |reader| {
                let Found { entries, mut next } = find(reader, &filter, from)?;
                let (mut letters, mut bytes) = (Vec::new(), 0);
                for (key, letter) in entries {
                    if bytes > PAGE_BYTES_MAX {
                        next = Some(DeadCursor(key));
                        break;
                    }
                    let patches = stored_patches(reader, &letter)?;
                    let history = history::read(reader, &letter.lane, letter.node.as_str())?;
                    bytes += codec::body_bytes(&(&letter, &patches, &history));
                    letters.push(CompleteLetter { letter, patches, history });
                }
                Ok(DeadPage { letters, next })
            })
            .await?;
        Ok(page)
    }
}

/// Letters that a filter admits, with their keys.
pub(super) struct Found {
    pub entries: Vec<(Key, DeadLetter)>,
    pub next: Option<DeadCursor>,
}

pub(super) fn find(
    reader: &Reader<'_>,
    filter: &DeadFilter,
    from: Option<DeadCursor>,
) -> Result<Found, StoreError> {
    let prefix = filter.prefix();
    let from = from.map_or_else(|| prefix.clone(), |cursor| cursor.0);
    let mut entries = Vec::new();
    let mut next = None;
    let (mut visited, mut bytes) = (0, 0);
    reader.visit(&prefix, &from, |key, value| {
        let full = entries.len() >= PAGE_LETTERS_MAX || bytes >= PAGE_BYTES_MAX;
        if full || visited >= PAGE_VISITED_MAX {
            next = Some(DeadCursor(Key::from_bytes(key.to_vec())));
            return false;
        }
        visited += 1;
        let entry = (Key::from_bytes(key.to_vec()), value.to_vec());
        if let Some(letter) = letter_of(&entry).filter(|letter| filter.admits(letter)) {
            bytes += value.len();
            entries.push((entry.0, letter));
        }
        true
    })?;
    Ok(Found { entries, next })
}

/// The letter of an entry; of a damaged one, what can be told. `None` if its key makes no sense.
pub(super) fn letter_of((key, value): &Entry) -> Option<DeadLetter> {
    let error = match codec::decode::<DeadLetter>(value) {
        Ok((_, letter)) => return Some(letter),
        Err(error) => error,
    };
    let Some(Place { lane, node, stage, reason }) = Place::of(key.as_bytes()) else {
        tracing::error!(?key, %error, "a dead letter is damaged, and so is its key");
        return None;
    };
    let kept = value.iter().take(super::RAW_BYTES_KEPT_MAX).copied().collect();
    Some(DeadLetter {
        lane,
        node: node.as_str().into(),
        stage,
        reason,
        message: Text::truncated(&format!("this dead letter itself is damaged: {error}")),
        item: DeadItem::Raw { kept, total_bytes: value.len() as u64 },
        count: codec::tag(value).unwrap_or(0),
        first_at: UnixMillis::default(),
        last_at: UnixMillis::default(),
    })
}

fn stored_patches(
    reader: &Reader<'_>,
    letter: &DeadLetter,
) -> Result<Vec<PatchDetail>, StoreError> {
    let Some(list) = patches_of(&letter.item) else { return Ok(Vec::new()) };
    match details::read(reader, &letter.lane, letter.node.as_str(), list) {
        Ok(patches) => Ok(patches),
        Err(QueueError::Store(error)) => Err(error),
        Err(QueueError::Decode(error)) => {
            tracing::error!(lane = %letter.lane, node = %letter.node, %error, "the patch list of a dead letter is damaged");
            Ok(Vec::new())
        }
    }
}
