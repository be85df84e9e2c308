//! From what became of findings to one commit: receipts, retries, dead letters, and the latency
//! of what was delivered.

use tokio::time::Instant;

use super::{batch::Prepared, flight::Held};
use crate::{
    metrics::Metrics,
    pipeline::backoff::finding_delay,
    queue::{QueueError, Queues, Settlement, Waiting},
    record::{Change, Lane, Receipt, Source, Stage, Text, UnixMillis},
};

/// What to settle of one finding.
pub enum Verdict {
    /// By a reply, or by reading the finding back (then without a request id).
    Acknowledged {
        sent_at: UnixMillis,
        aws_request_id: Option<Text<128>>,
    },
    /// Tried again by itself.
    Later {
        sent_at: UnixMillis,
    },
    Rejected {
        message: Text<1024>,
    },
}

impl Verdict {
    pub fn settlement(self, prepared: Prepared, now: UnixMillis) -> Settlement {
        let mut claimed = prepared.claimed;
        match self {
            Self::Acknowledged { sent_at, aws_request_id } => {
                let receipt = receipt(&claimed.waiting, sent_at, now, aws_request_id);
                Settlement::Acknowledged { claimed, receipt }
            }
            Self::Later { sent_at } => {
                let attempts = claimed.waiting.attempts.saturating_add(1);
                claimed.waiting.first_sent_at.get_or_insert(sent_at);
                Settlement::Retry { claimed, due: now.plus(finding_delay(attempts)), attempts }
            }
            Self::Rejected { message } => {
                Settlement::Rejected { claimed, message: message.to_string() }
            }
        }
    }
}

/// The places and Ids of findings that are about to be settled.
pub fn held_by(verdicts: &[(Prepared, Verdict)]) -> Vec<Held> {
    verdicts
        .iter()
        .map(|(prepared, _)| (prepared.claimed.key.clone(), prepared.id.clone()))
        .collect()
}

/// Commits, and notes the latency of what was delivered as the newest version.
pub async fn settle(
    queues: &Queues,
    lane: &Lane,
    settlements: Vec<Settlement>,
    metrics: &Metrics,
) -> Result<(), QueueError> {
    let receipts: Vec<Option<(Receipt, Source)>> = settlements
        .iter()
        .map(|settlement| match settlement {
            Settlement::Acknowledged { receipt, claimed } => {
                Some((receipt.clone(), claimed.waiting.finding.source))
            }
            _ => None,
        })
        .collect();
    let began = Instant::now();
    let newest = queues.settle_delivery(lane, settlements).await?;
    metrics.stage_seconds[Stage::Deliver].record(began.elapsed().as_secs_f64());
    for (receipt, newest) in receipts.into_iter().zip(newest) {
        let Some((receipt, source)) = receipt.filter(|_| newest) else { continue };
        if receipt.change == Change::Reopened && source == Source::Derived {
            metrics.reopened_by_scan.increment(1);
        }
        let at = receipt.acknowledged_at;
        let scan_to_hub = receipt.operation_end.map(|end| at.since(end));
        metrics.record_delivery(receipt.severity, at.since(receipt.accepted_at), scan_to_hub);
    }
    Ok(())
}

fn receipt(
    waiting: &Waiting,
    sent_at: UnixMillis,
    now: UnixMillis,
    aws_request_id: Option<Text<128>>,
) -> Receipt {
    let finding = &waiting.finding;
    Receipt {
        revision: waiting.revision,
        change: finding.change,
        state: finding.state,
        severity: finding.severity,
        operation_end: finding.facts.operation_end,
        accepted_at: finding.accepted_at,
        first_sent_at: waiting.first_sent_at.unwrap_or(sent_at),
        acknowledged_at: now,
        updated_at: finding.updated_at,
        attempts: waiting.attempts.saturating_add(1),
        failures: waiting.failures.clone(),
        aws_request_id,
    }
}
