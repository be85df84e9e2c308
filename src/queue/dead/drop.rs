//! Dropping: dead letters end, with a person's word for it. The caller has kept what they held.

use serde::{Deserialize, Serialize};

use super::{key, look, patches_of};
use crate::{
    queue::{QueueError, Queues, accounting as account, transition::Transition},
    record::DeadLetter,
    store::{Commit, StoreError},
};

/// Letters that one commit drops.
const STEP_LETTERS_MAX: usize = 250;

/// What dropping has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub letters: u64,
    /// Items that they counted.
    pub items: u64,
    /// Letters that were left because another item had died there meanwhile.
    pub changed_letters: u64,
}

impl Dropped {
    pub fn add(&mut self, other: Self) {
        self.letters += other.letters;
        self.items += other.items;
        self.changed_letters += other.changed_letters;
    }
}

impl Queues {
    /// Drops letters as they were read; one that has changed since is left. On disk when this
    /// returns.
    pub async fn drop_dead(&self, letters: Vec<DeadLetter>) -> Result<Dropped, QueueError> {
        let mut dropped = Dropped::default();
        let mut letters = letters.into_iter().peekable();
        while letters.peek().is_some() {
            let some: Vec<DeadLetter> = letters.by_ref().take(STEP_LETTERS_MAX).collect();
            let step = self.transition(Commit::durable(some.len()), move |step| {
                let mut dropped = Dropped::default();
                for letter in some {
                    dropped.add(drop_one(step, &letter)?);
                }
                Ok(dropped)
            });
            dropped.add(step.await?);
        }
        Ok(dropped)
    }
}

fn drop_one(step: &mut Transition<'_, '_>, letter: &DeadLetter) -> Result<Dropped, StoreError> {
    let node = letter.node.as_str();
    let key = key(&letter.lane, node, letter.stage, letter.reason);
    let Some(value) = step.tx.get(&key)? else { return Ok(Dropped::default()) };
    if look::letter_of(&(key.clone(), value)).as_ref() != Some(letter) {
        return Ok(Dropped { changed_letters: 1, ..Dropped::default() });
    }
    let items = step.take_letter(&key, letter)?;
    step.add(account::DROPPED, i64::try_from(items).unwrap_or(i64::MAX));
    step.drop_patches(&letter.lane, node, patches_of(&letter.item))?;
    Ok(Dropped { letters: 1, items, changed_letters: 0 })
}
