//! Gauges and status, from what the stages leave behind: counters of the store, lane states,
//! sweeps. Looks every few seconds, changes nothing.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    ServedQueue,
    fleet::{Fleet, ServedLane},
    ingest::{RunningIngest, Taking},
    lanes::Shared,
    offline, reconcile,
    retire::{self, Ground},
    watchdog,
};
use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        commands::reconcile::{ReconcileLane, Reconciled},
        handler::{GivenRole, Host, Opening},
        http::{Health, StatusSource},
        status::{DiscoveryStatus, EventQueueStatus, LaneStatus, QueueStatus, Status, StoreStatus},
    },
    aws::Aws,
    config::Config,
    metrics::{EventQueueState, Label as _, LaneState, Metrics, PauseReason, Queue, StoreAlarm},
    queue::{PauseWhat, QueueError, Queues},
    record::{Lane, Reason, Severity, Stage, UnixMillis},
    store::Pause,
};

/// How often gauges are brought up to date.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Observer {
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub started_at: UnixMillis,
    fleet: Arc<Fleet>,
    pub event_queues: Vec<ServedQueue>,
    ingest: RunningIngest,
    discovery: Option<watch::Receiver<DiscoveryStatus>>,
    config: Arc<Config>,
    aws: Arc<Aws>,
}

impl Observer {
    pub fn new(
        shared: Shared,
        fleet: Arc<Fleet>,
        event_queues: Vec<ServedQueue>,
        discovery: Option<watch::Receiver<DiscoveryStatus>>,
        started_at: UnixMillis,
    ) -> Self {
        let Shared { config, aws, queues, metrics, checks: _, preview: _ } = shared;
        let ingest = RunningIngest::new(queues.clone(), Arc::clone(&metrics), Arc::clone(&fleet));
        Self { queues, metrics, started_at, fleet, event_queues, ingest, discovery, config, aws }
    }

    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.refresh().await;
            self.metrics.run_upkeep();
            if self.health().not_alive.is_empty() {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }

    /// Brings all gauges up to date.
    pub async fn refresh(&self) {
        if let Err(error) = self.try_refresh().await {
            tracing::debug!(%error, "the gauges could not be brought up to date");
        }
    }

    async fn try_refresh(&self) -> Result<(), QueueError> {
        let metrics = &self.metrics;
        let now = self.queues.accounting();
        metrics.set_accounting(&offline::accounting(&now));
        for queue in offline::queues(&self.queues, now.queued).await? {
            let Some(label) = queue_label(&queue.queue) else { continue };
            metrics.queue_items[label].set(f64_of(queue.items));
            metrics.queue_oldest_age_seconds[label]
                .set(f64_of(queue.oldest_age_seconds.unwrap_or(0)));
        }
        let dead = self.queues.dead_counts();
        for stage in Stage::ALL {
            for reason in Reason::ALL {
                let count = dead.get(&(stage, reason)).copied().unwrap_or(0);
                metrics.dead_letters[stage][reason].set(f64_of(count.unsigned_abs()));
            }
        }
        let lanes = self.queues.lanes();
        for lane in &lanes {
            self.refresh_lane(lane).await?;
        }
        metrics.retain_lanes(|lane| lanes.binary_search(lane).is_ok() || self.fleet.serves(lane));
        let stubborn: u64 =
            lanes.iter().map(|lane| self.queues.lane(lane).stubborn_findings()).sum();
        metrics.stubborn_findings.set(f64_of(stubborn));
        metrics.reconcile_oldest_age_seconds.set(f64_of(self.reconcile_oldest_age_seconds()));
        self.refresh_store();
        self.refresh_pauses();
        self.refresh_event_queues();
        Ok(())
    }

    async fn refresh_lane(&self, lane: &Lane) -> Result<(), QueueError> {
        let state = self.queues.lane(lane);
        let waiting = state.outbox_findings() + state.delayed_findings();
        let gauges = self.metrics.lane(lane);
        gauges.outbox_findings.set(f64_of(waiting.unsigned_abs()));
        let age = offline::lane_age(&self.queues, lane).await?;
        gauges.oldest_age_seconds.set(f64_of(age.unwrap_or(0)));
        for severity in Severity::ALL {
            let open = state.open_findings(severity);
            gauges.open_findings(severity).set(f64_of(open.unsigned_abs()));
        }
        if !self.fleet.serves(lane) {
            gauges.set_state(LaneState::Orphaned);
        }
        Ok(())
    }

    /// Of the lane that was compared longest ago; the start counts where none was.
    fn reconcile_oldest_age_seconds(&self) -> u64 {
        let now = self.queues.clock().now();
        let lanes = self.fleet.all();
        let last = |lane: &ServedLane| lane.reconciled.borrow().last_complete_at;
        let oldest = lanes.iter().map(|lane| last(lane).unwrap_or(self.started_at)).min();
        oldest.map_or(0, |at| now.since(at).as_secs())
    }

    fn refresh_store(&self) {
        let space = self.queues.store().space();
        let metrics = &self.metrics;
        metrics.store_live_bytes.set(f64_of(space.live_bytes));
        metrics.store_file_bytes.set(f64_of(space.file_bytes));
        metrics.store_max_bytes.set(f64_of(space.live_bytes_max));
        metrics.store_free_bytes.set(f64_of(space.free_bytes));
        let store = self.queues.store();
        for (label, is_on) in [
            (StoreAlarm::Quarantine, !store.quarantines().is_empty()),
            (StoreAlarm::RolledBack, store.alarms().rolled_back.is_some()),
            (StoreAlarm::FileGrows, space.bloated),
        ] {
            metrics.store_alarm[label].set(if is_on { 1.0 } else { 0.0 });
        }
        for (label, pause) in
            [(PauseReason::LiveBytes, Pause::LiveBytes), (PauseReason::FreeSpace, Pause::FreeSpace)]
        {
            metrics.ingest_paused[label].set(if space.pause == Some(pause) { 1.0 } else { 0.0 });
        }
    }

    fn refresh_pauses(&self) {
        let pauses = self.queues.pauses();
        let paused = pauses.iter().any(|(what, _, _)| what == PauseWhat::Ingest);
        let gauge = &self.metrics.ingest_paused[PauseReason::Operator];
        gauge.set(if paused { 1.0 } else { 0.0 });
    }

    fn refresh_event_queues(&self) {
        let states: Vec<EventQueueState> =
            self.event_queues.iter().map(|queue| queue.status.borrow().state).collect();
        for state in EventQueueState::VALUES {
            let queues = states.iter().filter(|it| *it == state).count();
            self.metrics.event_queues[*state].set(f64_of(queues as u64));
        }
    }

    /// Why the organization's accounts can't be listed, if they are to be and can't.
    pub fn organization_failure(&self) -> Option<String> {
        self.discovery.as_ref()?.borrow().failure.clone()
    }

    fn event_queues(&self) -> Vec<EventQueueStatus> {
        let shown = self.event_queues.iter().map(|queue| {
            let status = queue.status.borrow().clone();
            EventQueueStatus {
                queue: queue.name.clone(),
                state: status.state.value().into(),
                since_unix_ms: status.since,
                note: status.note,
            }
        });
        shown.collect()
    }

    async fn current_status(&self) -> Result<Status, QueueError> {
        let mut status = offline::status(&self.queues, self.started_at).await?;
        status.latency = self.metrics.latency_summary();
        status.discovery = self.discovery.as_ref().map(|discovery| discovery.borrow().clone());
        status.event_queues = self.event_queues();
        status.shard = offline::shard_of(self.config.shard.shard);
        for lane in &mut status.lanes {
            self.complete_lane(lane);
        }
        Ok(status)
    }

    /// What only a running daemon knows of a lane.
    fn complete_lane(&self, status: &mut LaneStatus) {
        let Some(looked) = self.fleet.get(&status.lane) else {
            status.state = LaneState::Orphaned;
            status.note = Some("no longer configured; what the store has of it is kept".into());
            return;
        };
        status.role_arn.clone_from(&looked.role_arn);
        let view = looked.view.borrow().clone();
        status.state = view.state;
        status.since_unix_ms = view.since;
        let sweeps = looked.sweeps.borrow().clone();
        status.note = view.note.or(sweeps.failure);
        status.last_complete_sweep_unix_ms = sweeps.last_complete_at;
        let report = sweeps.last_report;
        status.nodes.non_compliant = report.non_compliant as u64;
        status.nodes.compliant = report.compliant as u64;
        status.nodes.never_scanned = report.never_scanned as u64;
        status.nodes.stale = report.stale as u64;
        status.gone_withheld_nodes = sweeps.gone.withheld as u64;
        status.poll_interval_seconds = sweeps.next_interval.as_secs();
        let reconciled = looked.reconciled.borrow();
        status.last_reconcile_unix_ms = reconciled.last_complete_at;
        status.reconcile_unrepaired = reconciled.unrepaired;
        status.reconcile_failure.clone_from(&reconciled.failure);
    }
}

impl StatusSource for Observer {
    fn status(&self) -> Pin<Box<dyn Future<Output = Status> + Send + '_>> {
        Box::pin(async move {
            self.current_status().await.unwrap_or_else(|error| {
                tracing::error!(%error, "the status can't be read");
                empty_status(self.started_at, self.queues.clock().now())
            })
        })
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        let busy = self.queues.store().busy_for();
        if busy > watchdog::commit_time_max() {
            health
                .not_alive
                .push(format!("a commit has taken {} s: the disk hangs", busy.as_secs()));
        }
        if let Some(error) = self.queues.store().fatal().borrow().as_ref() {
            health.not_alive.push(error.to_string());
        }
        let lanes = self.fleet.all();
        let unknown = lanes.iter().filter(|lane| lane.view.borrow().since.0 == 0).count();
        let discovery = self.discovery.as_ref().map(|discovery| discovery.borrow().clone());
        if discovery.is_some_and(|discovery| discovery.last_read_unix_ms.is_none()) {
            health.not_ready.push("the organization's accounts are not known yet".into());
        }
        if unknown > 0 {
            health.not_ready.push(format!("{unknown} lanes have not started yet"));
        }
        health
    }
}

impl Host for Observer {
    fn is_running(&self) -> bool {
        true
    }

    fn status(&self) -> Pin<Box<dyn Future<Output = Result<Status, QueueError>> + Send + '_>> {
        Box::pin(self.current_status())
    }

    fn served(&self) -> Vec<Lane> {
        self.fleet.lanes()
    }

    fn keep_out(&self, lane: &Lane) -> Result<Box<dyn Send>, Refusal> {
        match self.fleet.retire(lane) {
            Some(retiring) => Ok(Box::new(retiring)),
            None if self.fleet.serves(lane) => Err(still_served(lane)),
            None => {
                let text = format!("lane {lane} is being retired already");
                Err(Refusal::new(RefusalKind::NotNow, text))
            }
        }
    }

    fn open_way(&self, lane: &Lane, role: Option<GivenRole>) -> Opening<'_> {
        let lane = lane.clone();
        Box::pin(async move {
            let ground = Ground {
                config: &self.config,
                aws: Arc::clone(&self.aws),
                queues: &self.queues,
                metrics: &self.metrics,
            };
            retire::open(ground, &lane, role).await
        })
    }

    fn ingest(&self, first_line: u64, lines: Vec<String>) -> Taking<'_> {
        Box::pin(async move { self.ingest.take(first_line, &lines).await })
    }

    fn reconcile(
        &self,
        asked: ReconcileLane,
    ) -> Pin<Box<dyn Future<Output = Result<Reconciled, Refusal>> + Send + '_>> {
        Box::pin(reconcile::reconcile(self.fleet.get(&asked.lane), asked))
    }
}

/// Why a lane can't be retired.
pub(super) fn still_served(lane: &Lane) -> Refusal {
    let text = format!(
        "lane {lane} is served: take it out of [[lanes]], or exclude its account from [discovery], and \
         restart the daemon, then retire it"
    );
    Refusal::new(RefusalKind::NotNow, text)
}

fn empty_status(started_at: UnixMillis, now: UnixMillis) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at_unix_ms: started_at,
        at_unix_ms: now,
        dry_run: false,
        shard: None,
        lanes: Vec::new(),
        queues: Vec::<QueueStatus>::new(),
        accounting: crate::metrics::Accounting::default(),
        latency: None,
        dead_letters: Vec::new(),
        stubborn_findings: 0,
        ingest_paused: Vec::new(),
        pauses: Vec::new(),
        discovery: None,
        event_queues: Vec::new(),
        store: StoreStatus::default(),
    }
}

fn queue_label(name: &str) -> Option<Queue> {
    Queue::VALUES.iter().copied().find(|queue| queue.value() == name)
}

#[allow(clippy::cast_precision_loss)] // a gauge
fn f64_of(value: u64) -> f64 {
    value as f64
}
