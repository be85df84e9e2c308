//! Receiving messages, and dealing them out.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{EventQueueStatus, Shared, Source, held::VISIBILITY};
use crate::{
    aws::{AwsError, Fault, QueueMessage},
    metrics::{EventOutcome, EventQueueState, Label as _, SqsOperation},
    pipeline::{
        backoff::LaneBackoff,
        ingest::event::{
            Fate, Hint, Message, Routes,
            parse::{self, Malformed, Told},
        },
    },
    queue::{Death, PauseWhat, QueueError, Queues},
    record::{Lane, Stage},
};

/// How often a full store is looked at again.
const FULL_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// An empty answer that comes sooner than it should is no reason to ask again at once.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);
/// A message that can't be taken now comes again after this time.
const REFUSED_PUT_BACK: Duration = Duration::from_secs(20);
/// Lanes that aren't served are told of once each; so many are remembered.
const FOREIGN_LANES_MAX: usize = 1_000;

/// See the module.
pub(super) struct Receiver<'a> {
    name: String,
    shared: &'a Shared,
    routes: Routes,
    queues: Queues,
    probe_interval: Duration,
    status: watch::Sender<EventQueueStatus>,
    fates: mpsc::UnboundedSender<(u64, Fate)>,
    foreign: BTreeSet<Lane>,
}

impl<'a> Receiver<'a> {
    pub fn new(
        shared: &'a Shared,
        routes: Routes,
        queues: Queues,
        probe_interval: Duration,
        status: watch::Sender<EventQueueStatus>,
        fates: mpsc::UnboundedSender<(u64, Fate)>,
    ) -> Self {
        let (name, foreign) = (shared.source.name(), BTreeSet::new());
        Self { name, shared, routes, queues, probe_interval, status, fates, foreign }
    }

    /// Until shutdown, or until the store has failed.
    pub async fn run(mut self, shutdown: &CancellationToken) -> Result<(), QueueError> {
        let mut backoff = LaneBackoff::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ready = self.ready() => ready?,
            }
            let sqs = self.shared.sqs();
            let asked_at = Instant::now();
            let received = tokio::select! {
                // What is received at this moment comes again.
                () = shutdown.cancelled() => return Ok(()),
                received = sqs.receive(VISIBILITY) => received,
            };
            self.shared.count(SqsOperation::ReceiveMessage, &received);
            let wait = match received {
                Ok(messages) => {
                    backoff.reset();
                    self.state(EventQueueState::Reading, None);
                    let unasked = messages.is_empty() && asked_at.elapsed() < EMPTY_INTERVAL;
                    for message in messages {
                        self.take(message, asked_at).await?;
                    }
                    if unasked { EMPTY_INTERVAL } else { continue }
                }
                Err(error) => self.failed(&error, &mut backoff).await,
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until something may be received: its source keeps what can't be accepted.
    async fn ready(&self) -> Result<(), QueueError> {
        loop {
            if self.queues.pauses().whole(PauseWhat::Ingest).is_some() {
                self.state(EventQueueState::Paused, None);
                self.queues.ingest_resumed().await;
            } else if self.queues.store().space().pause.is_some() && !self.queues.has_room().await?
            {
                self.state(EventQueueState::Paused, None);
                tokio::time::sleep(FULL_STORE_INTERVAL).await;
            } else if self.shared.held.has_room() {
                return Ok(());
            } else {
                self.shared.held.gone.notified().await;
            }
        }
    }

    async fn failed(&self, error: &AwsError, backoff: &mut LaneBackoff) -> Duration {
        match error.fault {
            Fault::Throttled { .. } => backoff.next_delay(),
            Fault::Unavailable { .. } => {
                self.state(EventQueueState::Unavailable, Some(error));
                backoff.next_delay()
            }
            Fault::Held { .. } | Fault::Refused { .. } => {
                self.state(EventQueueState::Held, Some(error));
                self.shared.renew().await;
                self.probe_interval
            }
        }
    }

    /// Tells of a change once.
    fn state(&self, state: EventQueueState, error: Option<&AwsError>) {
        let before = self.status.borrow().state;
        let now = self.queues.clock().now();
        let note = error.map(ToString::to_string);
        self.status.send_modify(|status| {
            if status.state != state {
                status.since = now;
            }
            *status = EventQueueStatus { state, since: status.since, note: note.clone() };
        });
        if before == state {
            return;
        }
        let (queue, note) = (&self.name, note.unwrap_or_default());
        match state {
            EventQueueState::Unavailable => {
                tracing::warn!(
                    queue,
                    error = note,
                    "a queue of events is out of reach: it is tried again, and sweeps go on"
                );
            }
            EventQueueState::Held => {
                tracing::warn!(
                    queue,
                    error = note,
                    "a queue of events can't be read until somebody acts; sweeps go on"
                );
            }
            EventQueueState::Reading | EventQueueState::Paused => {
                tracing::info!(
                    queue,
                    state = state.value(),
                    before = before.value(),
                    "a queue of events"
                );
            }
        }
    }

    async fn take(
        &mut self,
        message: QueueMessage,
        received_at: Instant,
    ) -> Result<(), QueueError> {
        let QueueMessage { body, receipt, receives, sent_at: _ } = message;
        self.shared.metrics.event_messages_held.increment(1.0);
        let number = self.shared.held.add(receipt, received_at);
        let held = Message { number, receives, fates: self.fates.clone() };
        let metrics = &self.shared.metrics;
        match parse::parse(&body) {
            Ok(None) => held.done(EventOutcome::Ignored, metrics),
            Ok(Some(told)) => self.deal_out(told, held),
            Err(malformed) => match self.bury(&malformed, &body).await {
                Ok(()) => held.done(EventOutcome::Malformed, metrics),
                Err(error) if error.is_full() => self.refuse(&held),
                Err(error) => return Err(error),
            },
        }
        Ok(())
    }

    fn deal_out(&mut self, told: Told, message: Message) {
        let Some(lane) = self.routes.to(&told.lane) else {
            let unheard =
                self.foreign.len() < FOREIGN_LANES_MAX && self.foreign.insert(told.lane.clone());
            if unheard {
                tracing::warn!(queue = self.name, lane = %told.lane, "an event of a lane that isn't served here: such events are deleted and counted");
            }
            return message.done(EventOutcome::Foreign, &self.shared.metrics);
        };
        if self.queues.lane(&told.lane).ingest_paused().is_some() {
            return self.refuse(&message);
        }
        match lane.try_send(Hint { told, message }) {
            Ok(()) => {}
            Err(
                mpsc::error::TrySendError::Full(Hint { message, .. })
                | mpsc::error::TrySendError::Closed(Hint { message, .. }),
            ) => self.refuse(&message),
        }
    }

    /// It comes again when there may be room for it.
    fn refuse(&self, message: &Message) {
        self.shared.metrics.events[EventOutcome::PutBack].increment(1);
        let _ = message.fates.send((message.number, Fate::PutBack(REFUSED_PUT_BACK)));
    }

    async fn bury(&self, malformed: &Malformed, body: &str) -> Result<(), QueueError> {
        let served = malformed.lane.clone().filter(|lane| self.routes.to(lane).is_some());
        let Source { account, region, .. } = &self.shared.source;
        let lane = served.unwrap_or_else(|| Lane::new(*account, region.clone()));
        let name = self.name.rsplit('/').next().unwrap_or_default();
        let (node, said) = (format!("(queue {name})"), malformed.message.as_str());
        let death = Death::undecodable(&node, Stage::Ingest, said, body.as_bytes(), 1);
        self.queues.accept_dead(&lane, death).await
    }
}
