//! Redriving: dead letters go on where they belong, with a person's word for it.
//!
//! In one commit a letter is removed, its story is noted ([`history`]), and its item is readmitted
//! ([`readmit`](crate::queue::readmit)). A letter counts every item that died at its place but
//! holds only the newest: the older ones are coalesced. Raw letters stay where they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DeadCursor, DeadFilter, history, look};
use crate::{
    queue::{
        QueueError, Queues, accounting as account,
        readmit::{Batch, Readmitted},
        transition::Transition,
    },
    record::{DeadLetter, Lane, dead_letter::DeadItem},
    store::{Commit, StoreError, keys::Key},
};

/// Letters that one commit redrives: each is some ten writes.
const STEP_LETTERS_MAX: usize = 100;

/// What redriving has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Letters that are no longer dead.
    pub letters: u64,
    /// Items in the observed queue.
    pub observed_items: u64,
    /// Items in the assessed queue.
    pub assessed_items: u64,
    /// Findings in the outbox.
    pub outbox_items: u64,
    /// Items that a newer state of their node made superfluous.
    pub coalesced_items: u64,
    /// Letters that stay dead because their bytes don't decode.
    pub undecodable_letters: u64,
}

impl Redriven {
    pub fn add(&mut self, other: Self) {
        self.letters += other.letters;
        self.observed_items += other.observed_items;
        self.assessed_items += other.assessed_items;
        self.outbox_items += other.outbox_items;
        self.coalesced_items += other.coalesced_items;
        self.undecodable_letters += other.undecodable_letters;
    }
}

/// What redriving would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedrivePreview {
    pub letters: u64,
    pub observations: u64,
    pub assessments: u64,
    pub findings: u64,
    /// Letters that can't be redriven because their bytes don't decode.
    pub undecodable_letters: u64,
    /// Letters that can be, by lane.
    pub lanes: BTreeMap<Lane, u64>,
}

impl RedrivePreview {
    fn add(&mut self, letter: &DeadLetter) {
        let kind = match letter.item {
            DeadItem::Observation { .. } => &mut self.observations,
            DeadItem::Assessment(_) => &mut self.assessments,
            DeadItem::Finding(_) => &mut self.findings,
            DeadItem::Raw { .. } => {
                self.undecodable_letters += 1;
                return;
            }
        };
        *kind += 1;
        self.letters += 1;
        *self.lanes.entry(letter.lane.clone()).or_default() += 1;
    }
}

impl Queues {
    /// Adds a page of letters to `preview`; where the next page begins.
    pub async fn preview_redrive(
        &self,
        filter: DeadFilter,
        from: Option<DeadCursor>,
        preview: &mut RedrivePreview,
    ) -> Result<Option<DeadCursor>, QueueError> {
        let page = self.dead_page(filter, from).await?;
        page.letters.iter().for_each(|letter| preview.add(letter));
        Ok(page.next)
    }

    /// Redrives a page of letters in the name of `by_uid`; where the next page begins. On disk
    /// when this returns.
    pub async fn redrive(
        &self,
        filter: DeadFilter,
        from: Option<DeadCursor>,
        by_uid: u32,
    ) -> Result<(Redriven, Option<DeadCursor>), QueueError> {
        let scan = filter.clone();
        let found = self.store.read(move |reader| look::find(reader, &scan, from)).await?;
        let keys: Vec<Key> = found.entries.into_iter().map(|(key, _)| key).collect();
        let mut redriven = Redriven::default();
        for keys in keys.chunks(STEP_LETTERS_MAX) {
            let (keys, filter) = (keys.to_vec(), filter.clone());
            let step = self.transition(Commit::durable(keys.len()), move |step| {
                let mut batch = Batch::default();
                let mut redriven = Redriven::default();
                for key in keys {
                    redriven.add(redrive_one(step, &mut batch, &key, &filter, by_uid)?);
                }
                batch.finish(step)?;
                Ok(redriven)
            });
            redriven.add(step.await?);
        }
        Ok((redriven, found.next))
    }
}

fn redrive_one(
    step: &mut Transition<'_, '_>,
    batch: &mut Batch,
    key: &Key,
    filter: &DeadFilter,
    by_uid: u32,
) -> Result<Redriven, StoreError> {
    let mut redriven = Redriven::default();
    let Some(value) = step.tx.get(key)? else { return Ok(redriven) };
    // Another item may have died there since it was read.
    let letter = look::letter_of(&(key.clone(), value)).filter(|letter| filter.admits(letter));
    let Some(letter) = letter else { return Ok(redriven) };
    if matches!(letter.item, DeadItem::Raw { .. }) {
        redriven.undecodable_letters = 1;
        return Ok(redriven);
    }
    let count = step.take_letter(key, &letter)?;
    history::note(step, &letter, by_uid)?;
    let older = count.saturating_sub(1);
    step.add(account::COALESCED, i64::try_from(older).unwrap_or(i64::MAX));
    redriven.letters = 1;
    redriven.coalesced_items = older;
    match batch.readmit(step, &letter.lane, letter.item)? {
        Readmitted::Observed => redriven.observed_items = 1,
        Readmitted::Assessed => redriven.assessed_items = 1,
        Readmitted::Outbox => redriven.outbox_items = 1,
        Readmitted::Coalesced => redriven.coalesced_items += 1,
        Readmitted::Undecodable => unreachable!("raw letters stay where they are"),
    }
    Ok(redriven)
}
