//! The messages of a queue that are worked on, and until when others don't see them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::HELD_MESSAGES_MAX;
use crate::aws::{Receipt, sqs::BATCH_MESSAGES_MAX};

/// A message that is lost sight of, by a crash, comes again after this time.
pub(super) const VISIBILITY: Duration = Duration::from_secs(30);
/// A message is hidden anew when it would be seen within this time.
const VISIBILITY_MARGIN: Duration = Duration::from_secs(15);
/// A message isn't held longer: something is wrong then, and it had better come again.
const HELD_TIME_MAX: Duration = Duration::from_secs(3_600);

/// The messages that are worked on.
#[derive(Default)]
pub(super) struct Held {
    table: Mutex<Table>,
    /// Some have gone.
    pub(super) gone: Notify,
}

#[derive(Default)]
struct Table {
    messages: HashMap<u64, HeldMessage>,
    next: u64,
}

pub(super) struct HeldMessage {
    pub(super) receipt: Receipt,
    since: Instant,
    hidden_until: Instant,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, receipt: Receipt, received_at: Instant) -> u64 {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        let hidden_until = received_at + VISIBILITY;
        table.messages.insert(number, HeldMessage { receipt, since: received_at, hidden_until });
        number
    }

    pub(super) fn receipt(&self, number: u64) -> Option<Receipt> {
        self.lock().messages.get(&number).map(|message| message.receipt.clone())
    }

    pub(super) fn remove(&self, number: u64) -> Option<HeldMessage> {
        let removed = self.lock().messages.remove(&number);
        self.gone.notify_one();
        removed
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().messages.len() + BATCH_MESSAGES_MAX <= HELD_MESSAGES_MAX
    }

    /// Lets go of what was held too long; how many there were.
    pub(super) fn let_go_of_old(&self, now: Instant) -> usize {
        let mut table = self.lock();
        let before = table.messages.len();
        table.messages.retain(|_, message| now < message.since + HELD_TIME_MAX);
        let gone = before - table.messages.len();
        if gone > 0 {
            self.gone.notify_one();
        }
        gone
    }

    /// Those that would soon be seen by others.
    pub(super) fn expiring(&self, now: Instant) -> Vec<(u64, Receipt)> {
        self.lock()
            .messages
            .iter()
            .filter(|(_, message)| message.hidden_until < now + VISIBILITY_MARGIN)
            .map(|(number, message)| (*number, message.receipt.clone()))
            .collect()
    }

    pub(super) fn hidden(&self, number: u64, until: Instant) {
        if let Some(message) = self.lock().messages.get_mut(&number) {
            message.hidden_until = until;
        }
    }
}
