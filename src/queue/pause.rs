//! What an operator has paused: delivery or ingest, of one lane or of all. Durable: a pause
//! outlives every restart, until somebody resumes.
//!
//! Key: `Pause`, what (u8: 0 delivery, 1 ingest), lane, or an empty text for all lanes.
//!
//! Held in memory, too, for everybody to look at: lanes ask [`LaneState`](super::LaneState).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{QueueError, Queues};
use crate::{
    record::{Lane, Text, UnixMillis},
    store::{
        Commit, Reader, StoreError, codec,
        keys::{Key, KeyFields, Table},
    },
};

/// What can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseWhat {
    /// Nothing is sent; what is in flight is settled, and findings wait.
    Delivery = 0,
    /// Nothing is taken in; its sources keep it.
    Ingest = 1,
}

impl PauseWhat {
    pub const ALL: [Self; 2] = [Self::Delivery, Self::Ingest];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Ingest => "ingest",
        }
    }
}

impl fmt::Display for PauseWhat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pause that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub since: UnixMillis,
    pub by_uid: u32,
    /// The operator's own words; may be empty.
    pub reason: Text<256>,
}

/// For people: since when, by whom, and why.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "paused since {} by uid {}", self.since, self.by_uid)?;
        if self.reason.is_blank() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// What is paused where; `None` is all lanes.
pub(super) type Place = (PauseWhat, Option<Lane>);

/// Everything that is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<Place, Pause>);

impl Pauses {
    /// The pause that a lane is under, its own before that of all lanes.
    #[must_use]
    pub fn of(&self, what: PauseWhat, lane: &Lane) -> Option<&Pause> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(what, Some(lane.clone()))).or_else(|| self.whole(what))
    }

    /// The pause of all lanes.
    #[must_use]
    pub fn whole(&self, what: PauseWhat) -> Option<&Pause> {
        self.0.get(&(what, None))
    }

    pub fn iter(&self) -> impl Iterator<Item = (PauseWhat, Option<&Lane>, &Pause)> {
        self.0.iter().map(|((what, lane), pause)| (*what, lane.as_ref(), pause))
    }

    pub(super) fn set(&mut self, place: Place, pause: Option<Pause>) {
        match pause {
            Some(pause) => self.0.insert(place, pause),
            None => self.0.remove(&place),
        };
    }

    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, StoreError> {
        let mut pauses = BTreeMap::new();
        let prefix = Key::new(Table::Pause);
        reader.visit(&prefix, &prefix, |key, value| {
            let Some(place) = place_of(key) else {
                tracing::error!(?key, "the key of a pause makes no sense; it is not in force");
                return true;
            };
            let pause = match codec::decode(value) {
                Ok((_, pause)) => pause,
                Err(error) => {
                    // Safer paused than not.
                    tracing::error!(?key, %error, "a pause is damaged; it is in force all the same");
                    let reason = "(the record of this pause is damaged)".into();
                    Pause { since: UnixMillis::default(), by_uid: 0, reason }
                }
            };
            pauses.insert(place, pause);
            true
        })?;
        Ok(Self(pauses))
    }
}

impl Queues {
    /// What is paused now.
    pub fn pauses(&self) -> Pauses {
        self.inner.lanes.pauses()
    }

    /// Waits until ingest isn't paused as a whole.
    pub async fn ingest_resumed(&self) {
        self.inner.lanes.whole_resumed(PauseWhat::Ingest).await;
    }

    /// Pauses a lane, or all. Whether it wasn't before: a pause that is in force stays as it is.
    /// On disk when this returns.
    pub async fn pause(
        &self,
        what: PauseWhat,
        lane: Option<Lane>,
        by_uid: u32,
        reason: Text<256>,
    ) -> Result<bool, QueueError> {
        self.transition(Commit::durable(1), move |step| {
            let key = key(what, lane.as_ref());
            if step.tx.get(&key)?.is_some() {
                return Ok(false);
            }
            let pause = Pause { since: step.now(), by_uid, reason };
            step.tx.put(&key, codec::encode(0, &pause))?;
            step.effects.pauses.push(((what, lane), Some(pause)));
            Ok(true)
        })
        .await
    }

    /// Takes a pause back. Whether there was one. On disk when this returns.
    pub async fn resume(&self, what: PauseWhat, lane: Option<Lane>) -> Result<bool, QueueError> {
        self.transition(Commit::durable(1), move |step| {
            let there = step.tx.remove(&key(what, lane.as_ref()))?;
            step.effects.pauses.push(((what, lane), None));
            Ok(there)
        })
        .await
    }
}

fn key(what: PauseWhat, lane: Option<&Lane>) -> Key {
    let lane = lane.map(ToString::to_string).unwrap_or_default();
    Key::new(Table::Pause).u8(what as u8).text(&lane)
}

fn place_of(key: &[u8]) -> Option<Place> {
    let mut fields = KeyFields::of(key);
    let what = fields.u8()?;
    let what = PauseWhat::ALL.into_iter().find(|known| *known as u8 == what)?;
    match fields.text()? {
        "" => Some((what, None)),
        lane => Some((what, Some(lane.parse().ok()?))),
    }
}
