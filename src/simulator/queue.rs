//! SQS queues: messages with visibility timeouts on the simulator's clock, receipts, receive counts.
//!
//! A standard queue as the Developer Guide has it: a message may come twice and out of order (here:
//! when told to), a receipt of an earlier receive still deletes, only the last one changes the
//! visibility of a message that is in flight.

use std::{collections::BTreeMap, fmt, sync::Arc};

use fastrand::Rng;

/// A queue: its owner, its Region, its name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SimQueue {
    account: Arc<str>,
    region: Arc<str>,
    name: Arc<str>,
}

impl SimQueue {
    pub fn new(account: &str, region: &str, name: &str) -> Self {
        Self { account: account.into(), region: region.into(), name: name.into() }
    }

    /// The queue of a Region that a URL's path names, whatever its host.
    pub(super) fn of_url(url: &str, region: &str) -> Option<Self> {
        let mut parts = url.trim_end_matches('/').rsplit('/');
        let (name, account) = (parts.next()?, parts.next()?);
        Some(Self::new(account, region, name))
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// As AWS gives it; with `AWS_ENDPOINT_URL` set, its host is not asked.
    pub fn url(&self) -> String {
        format!("https://sqs.{}.amazonaws.com/{}/{}", self.region, self.account, self.name)
    }

    pub(super) fn arn(&self) -> String {
        format!("arn:aws:sqs:{}:{}:{}", self.region, self.account, self.name)
    }
}

impl fmt::Display for SimQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.account, self.region, self.name)
    }
}

impl fmt::Debug for SimQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    pub visible: usize,
    pub in_flight: usize,
}

impl QueueDepth {
    pub fn total(&self) -> usize {
        self.visible + self.in_flight
    }
}

/// A message as a receive gives it.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub id: String,
    pub receipt: String,
    pub body: String,
    pub receives: u32,
    pub sent_at_ms: i64,
}

/// Why a receipt does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadReceipt {
    Invalid,
    NotInFlight,
}

#[derive(Debug)]
struct Message {
    id: String,
    body: String,
    sent_at_ms: i64,
    visible_at_ms: i64,
    receives: u32,
}

#[derive(Debug)]
pub(super) struct Queue {
    messages: BTreeMap<u64, Message>,
    next: u64,
    rng: Rng,
    /// Receives that leave their messages visible.
    pub duplicate_receives: u32,
    /// Messages come in any order.
    pub is_shuffled: bool,
    /// Messages to come whose receipts will be called invalid.
    pub spoiled_receipts: u32,
    /// Messages that deletes have ended.
    pub deleted: u64,
}

const RECEIPT_PREFIX: &str = "sim-receipt/";
const SPOILED_PREFIX: &str = "sim-spoiled-receipt/";

impl Queue {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            messages: BTreeMap::new(),
            next: 0,
            rng,
            duplicate_receives: 0,
            is_shuffled: false,
            spoiled_receipts: 0,
            deleted: 0,
        }
    }

    pub(super) fn send(&mut self, body: String, now_ms: i64) {
        let id = super::fleet::uuid(&mut self.rng);
        let message = Message { id, body, sent_at_ms: now_ms, visible_at_ms: now_ms, receives: 0 };
        self.messages.insert(self.next, message);
        self.next += 1;
    }

    pub(super) fn has_visible(&self, now_ms: i64) -> bool {
        self.messages.values().any(|message| message.visible_at_ms <= now_ms)
    }

    pub(super) fn depth(&self, now_ms: i64) -> QueueDepth {
        let visible =
            self.messages.values().filter(|message| message.visible_at_ms <= now_ms).count();
        QueueDepth { visible, in_flight: self.messages.len() - visible }
    }

    /// Hides what it gives for `visibility_ms`.
    pub(super) fn receive(&mut self, max: usize, visibility_ms: i64, now_ms: i64) -> Vec<Received> {
        let visible = self.messages.iter().filter(|(_, message)| message.visible_at_ms <= now_ms);
        let mut numbers: Vec<u64> = visible.map(|(number, _)| *number).collect();
        if self.is_shuffled {
            self.rng.shuffle(&mut numbers);
        }
        numbers.truncate(max);
        let is_duplicated = !numbers.is_empty() && self.duplicate_receives > 0;
        self.duplicate_receives -= u32::from(is_duplicated);
        let mut received = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            message.receives += 1;
            if !is_duplicated {
                message.visible_at_ms = now_ms + visibility_ms;
            }
            let is_spoiled = self.spoiled_receipts > 0;
            self.spoiled_receipts -= u32::from(is_spoiled);
            let prefix = if is_spoiled { SPOILED_PREFIX } else { RECEIPT_PREFIX };
            received.push(Received {
                id: message.id.clone(),
                receipt: format!("{prefix}{number}/{}", message.receives),
                body: message.body.clone(),
                receives: message.receives,
                sent_at_ms: message.sent_at_ms,
            });
        }
        received
    }

    /// Any receipt of a message deletes it; one that is gone is deleted already.
    pub(super) fn delete(&mut self, receipt: &str) -> Result<(), BadReceipt> {
        let (number, _) = parse_receipt(receipt)?;
        self.deleted += u64::from(self.messages.remove(&number).is_some());
        Ok(())
    }

    pub(super) fn change_visibility(
        &mut self,
        receipt: &str,
        visibility_ms: i64,
        now_ms: i64,
    ) -> Result<(), BadReceipt> {
        let (number, receive) = parse_receipt(receipt)?;
        let message = self.messages.get_mut(&number).ok_or(BadReceipt::NotInFlight)?;
        if message.visible_at_ms <= now_ms || message.receives != receive {
            return Err(BadReceipt::NotInFlight);
        }
        message.visible_at_ms = now_ms + visibility_ms;
        Ok(())
    }
}

/// The message's number, and which receive it was.
fn parse_receipt(receipt: &str) -> Result<(u64, u32), BadReceipt> {
    receipt
        .strip_prefix(RECEIPT_PREFIX)
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(number, receive)| Some((number.parse().ok()?, receive.parse().ok()?)))
        .ok_or(BadReceipt::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        let mut queue = Queue::new(Rng::with_seed(1));
        queue.send("a".into(), 0);
        queue
    }

    #[test]
    fn a_message_that_is_not_deleted_in_time_comes_again_and_its_first_receipt_still_deletes() {
        let mut queue = queue();
        let first = queue.receive(10, 1_000, 0);
        assert!(queue.receive(10, 1_000, 999).is_empty());
        let second = queue.receive(10, 1_000, 1_000);
        assert_eq!((first[0].receives, second[0].receives), (1, 2));
        assert_eq!(
            queue.change_visibility(&first[0].receipt, 9_000, 1_001),
            Err(BadReceipt::NotInFlight)
        );
        assert_eq!(queue.change_visibility(&second[0].receipt, 9_000, 1_001), Ok(()));
        assert_eq!(queue.depth(2_000), QueueDepth { visible: 0, in_flight: 1 });
        assert_eq!(queue.delete(&first[0].receipt), Ok(()));
        assert_eq!(queue.depth(2_000).total(), 0);
    }

    #[test]
    fn a_spoiled_receipt_is_refused_and_the_message_comes_again() {
        let mut queue = queue();
        queue.spoiled_receipts = 1;
        let spoiled = queue.receive(10, 1_000, 0);
        assert_eq!(queue.delete(&spoiled[0].receipt), Err(BadReceipt::Invalid));
        let good = queue.receive(10, 1_000, 1_000);
        assert_eq!(queue.delete(&good[0].receipt), Ok(()));
    }
}
