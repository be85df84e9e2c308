//! Carrying out fates: deleting messages, showing them again, and hiding those that are worked on.
//!
//! Guarantees: of a batch that fails in part, only the parts that failed are tried again; what can't
//! be deleted is given up and comes again, which does no harm.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    held::{HeldMessage, VISIBILITY},
};
use crate::{
    aws::{AwsError, FailedEntry, Receipt, sqs::BATCH_MESSAGES_MAX},
    metrics::SqsOperation,
    pipeline::{backoff::LaneBackoff, ingest::event::Fate},
};

const EXTEND_INTERVAL: Duration = Duration::from_secs(5);
/// A delete is tried so often; then the message comes again, which does no harm.
const DELETE_ATTEMPTS_MAX: u32 = 8;
/// For the deletes that are due when the daemon stops.
const LAST_DELETES_MAX: Duration = Duration::from_secs(3);

/// A message that is to be deleted.
struct Doomed {
    number: u64,
    attempts: u32,
}

/// See the module.
pub(super) struct Keeper<'a> {
    shared: &'a Shared,
    deletes: VecDeque<Doomed>,
    backoff: LaneBackoff,
    /// Until when deletes wait after a failure.
    retry_at: Option<Instant>,
}

impl<'a> Keeper<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, deletes: VecDeque::new(), backoff: LaneBackoff::default(), retry_at: None }
    }

    /// Until shutdown; then what is decided is carried out, if that is quick.
    pub async fn run(
        mut self,
        mut decided: mpsc::UnboundedReceiver<(u64, Fate)>,
        shutdown: &CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(EXTEND_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut fates = Vec::with_capacity(BATCH_MESSAGES_MAX);
        loop {
            let retry_at = self.retry_at.unwrap_or_else(Instant::now);
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = decided.recv_many(&mut fates, BATCH_MESSAGES_MAX) => {
                    self.decide(&mut fates).await;
                }
                () = tokio::time::sleep_until(retry_at), if !self.deletes.is_empty() => {}
                _ = ticks.tick() => self.extend().await,
            }
            if self.retry_at.is_none_or(|at| at <= Instant::now()) {
                self.delete().await;
            }
        }
        while let Ok(fate) = decided.try_recv() {
            fates.push(fate);
        }
        let last = async {
            self.decide(&mut fates).await;
            while !self.deletes.is_empty() && self.retry_at.is_none() {
                self.delete().await;
            }
        };
        // What isn't deleted comes again.
        let _ = tokio::time::timeout(LAST_DELETES_MAX, last).await;
    }

    async fn decide(&mut self, fates: &mut Vec<(u64, Fate)>) {
        let mut shown = Vec::new();
        for (number, fate) in fates.drain(..) {
            match fate {
                Fate::Delete => self.deletes.push_back(Doomed { number, attempts: 0 }),
                Fate::PutBack(delay) => {
                    let message = self.let_go(number);
                    shown.extend(message.map(|message| (message.receipt, delay)));
                }
            }
        }
        for batch in shown.chunks(BATCH_MESSAGES_MAX) {
            // Failed, it comes again a little sooner or later.
            let _ = self.hide(batch).await;
        }
    }

    fn let_go(&self, number: u64) -> Option<HeldMessage> {
        let message = self.shared.held.remove(number);
        if message.is_some() {
            self.shared.metrics.event_messages_held.decrement(1.0);
        }
        message
    }

    /// Deletes a batch.
    async fn delete(&mut self) {
        let count = self.deletes.len().min(BATCH_MESSAGES_MAX);
        let batch: Vec<Doomed> = self.deletes.drain(..count).collect();
        let held = &self.shared.held;
        // One that was held too long has its place in the table no more: it comes again.
        let batch: Vec<(Doomed, Receipt)> = batch
            .into_iter()
            .filter_map(|doomed| held.receipt(doomed.number).map(|receipt| (doomed, receipt)))
            .collect();
        if batch.is_empty() {
            self.retry_at = None;
            return;
        }
        let receipts: Vec<Receipt> = batch.iter().map(|(_, receipt)| receipt.clone()).collect();
        let answer = self.shared.sqs().delete(&receipts).await;
        self.shared.count_batch(SqsOperation::DeleteMessageBatch, &answer);
        let failed: HashMap<usize, bool> = match &answer {
            Ok(failed) => failed.iter().map(|entry| (entry.index, entry.for_good)).collect(),
            Err(error) => {
                tracing::debug!(%error, "messages can't be deleted: tried again");
                (0..batch.len()).map(|index| (index, false)).collect()
            }
        };
        let mut retried = false;
        for (index, (Doomed { number, attempts }, _)) in batch.into_iter().enumerate() {
            match failed.get(&index) {
                Some(false) if attempts + 1 < DELETE_ATTEMPTS_MAX => {
                    retried = true;
                    self.deletes.push_back(Doomed { number, attempts: attempts + 1 });
                }
                _ => drop(self.let_go(number)),
            }
        }
        self.retry_at = retried.then(|| Instant::now() + self.backoff.next_delay());
        if !retried {
            self.backoff.reset();
        }
    }

    /// Keeps hidden what is still worked on.
    async fn extend(&self) {
        let let_go = self.shared.held.let_go_of_old(Instant::now());
        #[allow(clippy::cast_precision_loss)] // at most thousands
        self.shared.metrics.event_messages_held.decrement(let_go as f64);
        let expiring = self.shared.held.expiring(Instant::now());
        for batch in expiring.chunks(BATCH_MESSAGES_MAX) {
            let asked_at = Instant::now();
            let entries: Vec<(Receipt, Duration)> =
                batch.iter().map(|(_, receipt)| (receipt.clone(), VISIBILITY)).collect();
            let Ok(failed) = self.hide(&entries).await else { return };
            for (index, (number, _)) in batch.iter().enumerate() {
                if !failed.iter().any(|entry| entry.index == index) {
                    self.shared.held.hidden(*number, asked_at + VISIBILITY);
                }
            }
        }
    }

    async fn hide(&self, batch: &[(Receipt, Duration)]) -> Result<Vec<FailedEntry>, AwsError> {
        let answer = self.shared.sqs().hide(batch).await;
        self.shared.count_batch(SqsOperation::ChangeMessageVisibilityBatch, &answer);
        answer
    }
}
