//! The task of one lane: waits for work, tokens, replies and its turn, and for nothing else.
//!
//! [`replies`] carries out what a reply means, [`standing`] is where the lane stands and who is
//! told of it.

mod replies;
mod standing;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::standing::LaneView;
use super::{
    Settings,
    batch::Prepared,
    confirm::{Confirmations, Unconfirmed},
    flight::{Flight, Held},
    gate::{Gate, Permit},
    preview::Preview,
    read_back::{OpenError, Product, open_lane},
};
use crate::{
    aws::{
        AwsError, Fault, HoldReason, ImportReply, Unavailability,
        security_hub::{HubRecord, IMPORT_FINDINGS_MAX},
    },
    failpoint::{self, FailPoint},
    metrics::{Correction, LaneMetrics, Metrics},
    pipeline::{backoff::FINDING_DELAY_MAX, limiter::Limiter, session::LaneSession},
    queue::{LaneState, QueueError, Queues},
    record::{Lane, Text, UnixMillis},
};

/// The lane looks at its outbox this often even without a signal.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What is in flight may take this long to end after shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What a lane's task is made of.
pub struct LaneDelivery {
    pub session: Arc<LaneSession>,
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub view: watch::Sender<LaneView>,
    /// In a dry run: where findings end instead of in the hub.
    pub preview: Option<Preview>,
}

impl LaneDelivery {
    /// Delivers until shutdown or until the store has failed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), QueueError> {
        Task::new(self).run(shutdown).await
    }
}

/// What a background job of the lane came to.
enum Done {
    Opened(Result<(), OpenError>),
    Replied { batch: Vec<Prepared>, reply: ImportReply, sent: Sent },
    Confirmed { asked: Vec<Unconfirmed>, held: Result<Vec<HubRecord>, AwsError> },
    Settled { held: Vec<Held>, result: Result<(), QueueError> },
}

/// When a request went out, by both clocks: for durations, and for receipts.
#[derive(Clone, Copy)]
struct Sent {
    instant: Instant,
    at: UnixMillis,
}

/// Whether the credentials are known to be the lane's and its ledger is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Wanted,
    UnderWay,
    Done,
}

struct Task {
    lane: Lane,
    session: Arc<LaneSession>,
    queues: Queues,
    metrics: Arc<Metrics>,
    lane_metrics: Arc<LaneMetrics>,
    settings: Settings,
    state: Arc<LaneState>,
    gate: Gate,
    limiter: Limiter,
    jobs: JoinSet<Done>,
    opening: Opening,
    requests: usize,
    flight: Flight,
    confirmations: Confirmations,
    /// There was nothing to claim when last looked.
    idle: bool,
    probes: u64,
    next_due: Option<UnixMillis>,
    stubborn: HashSet<String>,
    /// Findings that the hub has acknowledged since the start.
    acknowledged: u64,
    /// When it last looked around, by the wall clock: that goes on while a machine is suspended.
    looked_at: UnixMillis,
    /// It was not there for so long that the hub may have been told newer states.
    overslept: bool,
    view: watch::Sender<LaneView>,
    preview: Option<Preview>,
}

impl Task {
    fn new(delivery: LaneDelivery) -> Self {
        let LaneDelivery { session, queues, metrics, settings, view, preview } = delivery;
        let lane = session.lane().clone();
        let (rate, burst) = (settings.requests_per_second, settings.burst_requests);
        Self {
            state: queues.lane(&lane),
            lane_metrics: metrics.lane(&lane),
            gate: Gate::new(settings.probe_interval),
            limiter: Limiter::new(rate, burst, Instant::now()),
            jobs: JoinSet::new(),
            opening: Opening::Wanted,
            requests: 0,
            flight: Flight::default(),
            confirmations: Confirmations::default(),
            idle: false,
            probes: 0,
            next_due: None,
            stubborn: HashSet::new(),
            acknowledged: 0,
            looked_at: queues.clock().now(),
            overslept: false,
            view,
            preview,
            lane,
            session,
            queues,
            metrics,
            settings,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut look_again = Instant::now() + LOOK_AGAIN;
        loop {
            self.notice_absence().await?;
            self.check_doubt().await?;
            self.show_state();
            self.promote_due().await?;
            let wake_at = self.act().await?.min(look_again);
            let state = Arc::clone(&self.state);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.jobs.join_next() => self.finish(done).await?,
                () = state.deliver.notified() => self.idle = false,
                () = sleep_until(wake_at) => {}
            }
            if Instant::now() >= look_again {
                look_again = Instant::now() + LOOK_AGAIN;
                self.idle = false;
                self.flight.rewind();
            }
        }
        self.drain().await
    }

    /// Has the lane read back if its task has not been there for long.
    async fn notice_absence(&mut self) -> Result<(), QueueError> {
        let now = self.queues.clock().now();
        let absence = now.since(self.looked_at);
        self.looked_at = now;
        if absence > self.settings.absence_max {
            tracing::warn!(
                lane = %self.lane, seconds = absence.as_secs(),
                "nobody looked after the lane: its hub is read back before anything is sent"
            );
            self.overslept = true;
        }
        // What an opening under way has read may be from before.
        if self.overslept && self.opening != Opening::UnderWay {
            self.opening = Opening::Wanted;
            self.overslept = false;
            self.flight.give_back();
            self.queues.begin_read_back(&self.lane).await?;
        }
        Ok(())
    }

    /// Starts whatever may start now; when to look again.
    async fn act(&mut self) -> Result<Instant, QueueError> {
        loop {
            let now = Instant::now();
            let due = self.due_at(now);
            if self.state.delivery_paused().is_some() {
                return Ok(due);
            }
            let under_way = self.requests + usize::from(self.opening == Opening::UnderWay);
            let probe = match self.gate.permit(now, under_way) {
                Permit::Wait => return Ok(due),
                Permit::NotBefore(at) => return Ok(at),
                Permit::Flow => false,
                Permit::Probe => true,
            };
            match self.opening {
                Opening::UnderWay => return Ok(due),
                Opening::Wanted => {
                    self.start_opening(probe);
                    return Ok(due);
                }
                Opening::Done => {}
            }
            if self.idle || self.requests >= self.settings.in_flight_max {
                return Ok(due);
            }
            let ready = self.limiter.ready_at(now);
            if ready > now {
                return Ok(due.min(ready));
            }
            if !self.start_request(probe).await? {
                self.idle = true;
                self.bury_last_condemned();
                return Ok(due);
            }
        }
    }

    /// Opens the lane anew if somebody who reads it has found its Region off.
    async fn check_doubt(&mut self) -> Result<(), QueueError> {
        if self.session.take_doubt() && self.opening == Opening::Done {
            self.opening = Opening::Wanted;
            self.flight.give_back();
            self.queues.begin_read_back(&self.lane).await?;
        }
        Ok(())
    }

    /// Brings delayed findings back whose time has come.
    async fn promote_due(&mut self) -> Result<(), QueueError> {
        let now = self.queues.clock().now();
        // Further off than any delay means that the clock was moved.
        let horizon = now.plus(FINDING_DELAY_MAX);
        let is_due = |due: UnixMillis| due <= now || due > horizon;
        if self.state.delayed_findings() > 0 && self.next_due.is_none_or(is_due) {
            self.next_due = self.queues.promote_due(&self.lane, FINDING_DELAY_MAX).await?;
        }
        Ok(())
    }

    /// When the next delayed finding is due.
    fn due_at(&self, now: Instant) -> Instant {
        match self.next_due {
            Some(due) if self.state.delayed_findings() > 0 => {
                now + due.since(self.queues.clock().now())
            }
            _ => now + LOOK_AGAIN,
        }
    }

    fn start_opening(&mut self, probe: bool) {
        self.opening = Opening::UnderWay;
        if probe {
            self.gate.probe_sent();
        }
        let (session, queues) = (Arc::clone(&self.session), self.queues.clone());
        let product = Product {
            arn: self.settings.product_arn.clone(),
            one_per_node: self.settings.reads_back,
        };
        let renew = self.wants_new_credentials();
        self.jobs.spawn(async move {
            if renew {
                session.renew().await;
            }
            Done::Opened(open_lane(&session, &queues, &product).await)
        });
    }

    /// Takes a batch and sends it; `false` if there is nothing to send.
    async fn start_request(&mut self, probe: bool) -> Result<bool, QueueError> {
        let findings_max = self.findings_max(probe);
        let next = self.flight.next_batch(&self.lane, &self.queues, &self.state, findings_max);
        let Some(batch) = next.await? else { return Ok(false) };
        failpoint::reach(FailPoint::BatchClaimed);
        let taken = self.limiter.try_take(Instant::now());
        debug_assert!(taken, "a token was there when the batch was asked for");
        if probe {
            self.gate.probe_sent();
            self.probes += 1;
        }
        self.requests += 1;
        #[allow(clippy::cast_precision_loss)] // at most 100
        self.metrics.batch_findings.record(batch.len() as f64);
        let truncated: u32 = batch.iter().map(Prepared::truncated).sum();
        self.metrics.corrections[Correction::Truncated].increment(u64::from(truncated));
        let clamped: u32 = batch.iter().map(Prepared::clamped).sum();
        self.metrics.corrections[Correction::CountClamped].increment(u64::from(clamped));
        self.send(batch);
        Ok(true)
    }

    /// A lane held because everything is rejected probes with whole batches and single findings
    /// in turn, walking through its outbox, lest the same poison stop each probe.
    fn findings_max(&self, probe: bool) -> usize {
        let single = probe && self.gate.is_held(HoldReason::Rejecting) && self.probes % 2 == 1;
        if single { 1 } else { IMPORT_FINDINGS_MAX }
    }

    fn send(&mut self, mut batch: Vec<Prepared>) {
        let (session, lane) = (Arc::clone(&self.session), self.lane.clone());
        let sent = Sent { instant: Instant::now(), at: self.queues.clock().now() };
        let renew = self.wants_new_credentials();
        let preview = self.preview.clone();
        self.jobs.spawn(async move {
            if renew {
                session.renew().await;
            }
            let reply = match (session.clients().await, preview) {
                (Ok(clients), Some(preview)) => preview.look(&session, &clients, &mut batch).await,
                (Ok(clients), None) => {
                    let findings = batch.iter_mut().map(|it| it.rendered(&lane)).collect();
                    clients.hub.import(findings).await
                }
                (Err(error), _) => reply_of(error.fault),
            };
            Done::Replied { batch, reply, sent }
        });
    }

    async fn finish(&mut self, done: Result<Done, JoinError>) -> Result<(), QueueError> {
        match done {
            Ok(Done::Opened(result)) => self.opened(result),
            Ok(Done::Replied { batch, reply, sent }) => {
                failpoint::reach(FailPoint::DeliverySent);
                self.requests -= 1;
                self.metrics.hub_request_seconds.record(sent.instant.elapsed().as_secs_f64());
                self.replied(batch, reply, sent).await
            }
            Ok(Done::Confirmed { asked, held }) => {
                self.confirmed(asked, held);
                Ok(())
            }
            Ok(Done::Settled { held, result }) => {
                failpoint::reach(FailPoint::DeliverySettled);
                self.next_due = None;
                self.idle = false;
                self.flight.release(&held);
                result
            }
            Err(error) => {
                tracing::error!(lane = %self.lane, %error, "a delivery job died, a defect: what it had in flight is claimed again");
                self.forget_flight();
                Ok(())
            }
        }
    }

    fn opened(&mut self, result: Result<(), OpenError>) -> Result<(), QueueError> {
        self.opening = Opening::Wanted;
        let fault = match result {
            Ok(()) => {
                self.opening = Opening::Done;
                self.idle = false;
                self.resumed();
                return Ok(());
            }
            Err(OpenError::Queue(error)) => return Err(error),
            Err(OpenError::TooSlow) => Fault::Unavailable {
                kind: Unavailability::Timeout,
                detail: "reading back took too long".into(),
            },
            Err(OpenError::Aws(error)) => error.fault,
        };
        match fault {
            Fault::Held { reason, detail } => self.hold(reason, detail.as_str()),
            Fault::Refused { .. } => self.hold(HoldReason::Misconfigured, &fault.to_string()),
            Fault::Throttled { .. } | Fault::Unavailable { .. } => {
                self.back_off(&fault.to_string());
            }
        }
        Ok(())
    }

    /// Nothing is known of what was in flight: all of it is claimed again.
    fn forget_flight(&mut self) {
        self.jobs.abort_all();
        self.jobs = JoinSet::new();
        self.requests = 0;
        if self.opening == Opening::UnderWay {
            self.opening = Opening::Wanted;
        }
        self.flight = Flight::default();
        self.confirmations = Confirmations::default();
        self.idle = false;
    }

    /// Lets what is in flight end, and settles it. What is cut here is sent again later.
    async fn drain(mut self) -> Result<(), QueueError> {
        let deadline = Instant::now() + DRAIN_MAX;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.jobs.join_next()).await {
            self.finish(done).await?;
        }
        Ok(())
    }
}

pub(super) fn reply_of(fault: Fault) -> ImportReply {
    match fault {
        Fault::Throttled { code } => ImportReply::Throttled { code },
        Fault::Unavailable { kind, detail } => ImportReply::Unavailable { kind, detail },
        Fault::Held { reason, detail } => ImportReply::Held { reason, detail },
        refused @ Fault::Refused { .. } => ImportReply::Held {
            reason: HoldReason::Misconfigured,
            detail: Text::truncated(&refused.to_string()),
        },
    }
}
