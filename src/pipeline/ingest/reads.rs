//! Requests to SSM at a lane's pace, each with its read number, each tried again while time may
//! heal what stands against it. All that read one lane share one of these.
//!
//! Guarantees: every request that goes out has taken a token of the lane's limiter, the ones that
//! are tried again too (the SDK's own retries are off), so that there is one place that slows
//! down: a throttled answer cuts the limiter's rate, and the same request goes out again with
//! the next token. A request is throttled [`THROTTLED_MAX`] times and fails otherwise
//! [`FAILED_MAX`] times at most; then its error is the caller's.
//!
//! Deliberately doesn't know: what is asked, and what an answer means.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::associations::Memory;
use crate::{
    aws::{AwsError, Fault, Page, Ssm},
    metrics::{Metrics, SsmOperation, SsmOutcome},
    pipeline::{
        limiter::{Limiter, SharedLimiter},
        session::LaneSession,
    },
    queue::{QueueError, Queues},
    record::{Lane, ReadNumber, RecordState, observation::GoneReason},
};

/// SSM requests that may go out at once after a quiet time.
const SSM_BURST_REQUESTS: u32 = 4;
/// At the limiter's lowest rate these take a minute.
const THROTTLED_MAX: u32 = 12;
/// As often as AWS's SDKs try.
const FAILED_MAX: u32 = 3;
/// The longest wait after the first failure; it doubles with each, drawn between nothing and that.
const FAILED_WAIT: Duration = Duration::from_secs(1);

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("ingest is paused by an operator")]
    Paused,
}

/// See the module.
pub struct LaneReads {
    session: Arc<LaneSession>,
    queues: Queues,
    metrics: Arc<Metrics>,
    limiter: SharedLimiter,
    pub(super) associations: Memory,
}

/// A page, and the number of the request that it answers.
pub(super) struct Read<T> {
    pub number: ReadNumber,
    pub page: Page<T>,
}

impl LaneReads {
    #[must_use]
    pub fn new(
        session: Arc<LaneSession>,
        queues: Queues,
        metrics: Arc<Metrics>,
        ssm_requests_per_second: f64,
    ) -> Self {
        let limiter = Limiter::new(ssm_requests_per_second, SSM_BURST_REQUESTS, Instant::now());
        let limiter = SharedLimiter::new(limiter);
        Self { session, queues, metrics, limiter, associations: Memory::new(true) }
    }

    /// Whether what associations have found counts.
    #[must_use]
    pub fn with_associations(mut self, wanted: bool) -> Self {
        self.associations = Memory::new(wanted);
        self
    }

    pub fn lane(&self) -> &Lane {
        self.session.lane()
    }

    pub fn session(&self) -> &LaneSession {
        &self.session
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Why a node is gone, if that is the last that is known of it.
    pub(super) async fn gone_as(&self, node: &str) -> Result<Option<GoneReason>, QueueError> {
        let desired = match self.queues.ledger(self.lane(), node).await {
            Ok((desired, _)) => desired,
            // Whoever writes the row says that it is damaged.
            Err(QueueError::Decode(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(desired.and_then(|desired| match desired.finding.state {
            RecordState::Gone(reason) => Some(reason),
            _ => None,
        }))
    }

    pub(super) fn is_paused(&self) -> bool {
        self.queues.lane(self.lane()).ingest_paused().is_some()
    }

    /// Sends the request that `call` makes until it is answered.
    pub(super) async fn ask<T, F, C>(
        &self,
        operation: SsmOperation,
        mut call: C,
    ) -> Result<Read<T>, ReadError>
    where
        C: FnMut(Ssm) -> F,
        F: Future<Output = Result<Page<T>, AwsError>>,
    {
        let (mut throttled, mut failed) = (0, 0);
        loop {
            self.limiter.take().await;
            // The last chance to stop.
            if self.is_paused() {
                return Err(ReadError::Paused);
            }
            let ssm = self.session.clients().await?.ssm;
            let number = self.queues.next_read(self.lane()).await?;
            let sent_at = Instant::now();
            let answer = call(ssm).await;
            let outcome = outcome(&answer);
            self.metrics.ssm_requests[operation][outcome].increment(1);
            let error = match answer {
                Ok(page) => return Ok(Read { number, page }),
                Err(error) => error,
            };
            match outcome {
                SsmOutcome::Throttled if throttled < THROTTLED_MAX => {
                    throttled += 1;
                    self.limiter.throttled(sent_at, Instant::now());
                }
                SsmOutcome::Failed
                    if failed + 1 < FAILED_MAX
                        && matches!(error.fault, Fault::Unavailable { .. }) =>
                {
                    let longest = FAILED_WAIT * 2_u32.pow(failed);
                    failed += 1;
                    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
                }
                _ => return Err(error.into()),
            }
        }
    }
}

/// How a request ended.
pub(super) fn outcome<T>(answer: &Result<T, AwsError>) -> SsmOutcome {
    match answer {
        Ok(_) => SsmOutcome::Ok,
        Err(AwsError { fault: Fault::Throttled { .. }, .. }) => SsmOutcome::Throttled,
        Err(AwsError { fault: Fault::Held { .. }, .. }) => SsmOutcome::Denied,
        Err(_) => SsmOutcome::Failed,
    }
}
