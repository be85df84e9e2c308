//! The task of one lane: waits for work, tokens, replies and its turn, and for nothing else.
//!
//! In memory alone, bounded by `in_flight_max` requests of 100: what is in flight, what follows
//! from a reply (halves, singles), and what the hub has called invalid and awaits its fate. All
//! of it is still in the outbox and is claimed again after a restart.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    batch::{Prepared, select},
    gate::{Gate, Permit, Stop},
    outcome::{self, Fate, LaneEffect, Plan},
    read_back::{OpenError, Product, open_lane},
};
use crate::{
    aws::{
        AwsError, Fault, HoldReason, ImportReply,
        security_hub::{HubQuery, IMPORT_FINDINGS_MAX},
    },
    metrics::{self, Correction, LaneMetrics, Metrics},
    pipeline::{
        backoff::{FINDING_DELAY_MAX, finding_delay},
        limiter::Limiter,
        session::LaneSession,
    },
    queue::{LaneState, QueueError, Queues, Settlement, Waiting},
    record::{Lane, Receipt, Text, UnixMillis},
    store::keys::Key,
};

/// Rejections in a row, none acknowledged, after which nothing is buried and the lane is held.
const REJECTIONS_IN_A_ROW_MAX: usize = 20;
/// Findings that may wait for a request of their own before normal batches wait for them.
const FOLLOW_UPS_PREFERRED: usize = 200;
/// A finding that failed this often is stubborn: still tried, but counted.
const STUBBORN_ATTEMPTS: u32 = 20;
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
    Replied { batch: Vec<Prepared>, reply: ImportReply, sent_at: Instant, began_at: UnixMillis },
    Confirmed { prepared: Box<Prepared>, held: Result<bool, AwsError>, began_at: UnixMillis },
    Settled { keys: Vec<(Key, String)>, result: Result<(), QueueError> },
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
    /// The credentials are the lane's and its ledger is complete.
    opened: bool,
    opening: bool,
    requests: usize,
    keys_in_flight: HashSet<Key>,
    ids_in_flight: HashSet<String>,
    cursor: Option<Key>,
    /// Nothing to claim when last looked.
    idle: bool,
    rescan: bool,
    follow_ups: VecDeque<Vec<Prepared>>,
    followed_up_last: bool,
    condemned: Vec<(Prepared, Text<1024>)>,
    rejections_in_a_row: usize,
    probes: u64,
    next_due: Option<UnixMillis>,
    stubborn: HashSet<String>,
}

impl Task {
    fn new(delivery: LaneDelivery) -> Self {
        let LaneDelivery { session, queues, metrics, settings } = delivery;
        let lane = session.lane().clone();
        Self {
            state: queues.lane(&lane),
            lane_metrics: metrics.lane(&lane),
            gate: Gate::new(settings.probe_interval),
            limiter: Limiter::new(
                settings.requests_per_second,
                settings.burst_requests,
                Instant::now(),
            ),
            jobs: JoinSet::new(),
            opened: false,
            opening: false,
            requests: 0,
            keys_in_flight: HashSet::new(),
            ids_in_flight: HashSet::new(),
            cursor: None,
            idle: false,
            rescan: false,
            follow_ups: VecDeque::new(),
            followed_up_last: false,
            condemned: Vec::new(),
            rejections_in_a_row: 0,
            probes: 0,
            next_due: None,
            stubborn: HashSet::new(),
            lane,
            session,
            queues,
            metrics,
            settings,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut look_again = Instant::now();
        loop {
            self.show_state();
            self.promote_due().await?;
            let wake_at = self.act().await?.min(look_again + LOOK_AGAIN);
            let state = Arc::clone(&self.state);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.jobs.join_next() => self.finish(done).await?,
                () = state.deliver.notified() => self.idle = false,
                () = sleep_until(wake_at) => {
                    if wake_at >= look_again + LOOK_AGAIN {
                        look_again = Instant::now();
                        self.idle = false;
                        self.cursor = None;
                    }
                }
            }
        }
        self.drain().await
    }

    /// Starts whatever may start now; when to look again.
    async fn act(&mut self) -> Result<Instant, QueueError> {
        loop {
            let now = Instant::now();
            let due = self.due_at(now);
            match self.gate.permit(now, self.requests + usize::from(self.opening)) {
                Permit::Wait => return Ok(due),
                Permit::NotBefore(at) => return Ok(at),
                Permit::Flow | Permit::Probe if self.opening => return Ok(due),
                permit if !self.opened => {
                    self.start_opening(permit == Permit::Probe);
                    return Ok(due);
                }
                permit => {
                    if self.idle || self.requests >= self.settings.in_flight_max {
                        return Ok(due);
                    }
                    let ready = self.limiter.ready_at(now);
                    if ready > now {
                        return Ok(due.min(ready));
                    }
                    if !self.start_request(permit == Permit::Probe).await? {
                        self.idle = true;
                        self.bury_last_condemned();
                        return Ok(due);
                    }
                }
            }
        }
    }

    /// Brings delayed findings back whose time has come.
    async fn promote_due(&mut self) -> Result<(), QueueError> {
        let now = self.queues.clock().now();
        if self.state.delayed_findings() > 0 && self.next_due.is_none_or(|due| due <= now) {
            self.next_due = self.queues.promote_due(&self.lane, FINDING_DELAY_MAX).await?;
        }
        Ok(())
    }

    /// When the next delayed finding is due.
    fn due_at(&self, now: Instant) -> Instant {
        match self.next_due {
            Some(due) => now + due.since(self.queues.clock().now()),
            None => now + LOOK_AGAIN,
        }
    }

    fn start_opening(&mut self, probe: bool) {
        self.opening = true;
        if probe {
            self.gate.probe_sent();
        }
        let (session, queues) = (Arc::clone(&self.session), self.queues.clone());
        let product = Product {
            arn: self.settings.product_arn.clone(),
            one_per_node: self.settings.reads_back,
        };
        let renew = matches!(
            self.gate.stop(),
            Some(Stop::Held(reason, _)) if is_about_credentials(*reason)
        );
        self.jobs.spawn(async move {
            if renew {
                session.renew().await;
            }
            Done::Opened(open_lane(&session, &queues, &product).await)
        });
    }

    /// Takes a batch and sends it; `false` if there is nothing to send.
    async fn start_request(&mut self, probe: bool) -> Result<bool, QueueError> {
        let Some(batch) = self.next_batch(probe).await? else { return Ok(false) };
        let taken = self.limiter.try_take(Instant::now());
        debug_assert!(taken, "a token was there when the batch was asked for");
        if probe {
            self.gate.probe_sent();
            self.probes += 1;
        }
        self.requests += 1;
        self.metrics.batch_findings.record(count_f64(batch.len()));
        let truncated: u32 = batch.iter().map(Prepared::truncated).sum();
        self.metrics.corrections[Correction::Truncated].increment(u64::from(truncated));
        self.send(batch);
        Ok(true)
    }

    fn send(&mut self, mut batch: Vec<Prepared>) {
        let (session, lane) = (Arc::clone(&self.session), self.lane.clone());
        let (sent_at, began_at) = (Instant::now(), self.queues.clock().now());
        let renew = matches!(
            self.gate.stop(),
            Some(Stop::Held(reason, _)) if is_about_credentials(*reason)
        );
        self.jobs.spawn(async move {
            if renew {
                session.renew().await;
            }
            let reply = match session.clients().await {
                Ok(clients) => {
                    let findings = batch.iter_mut().map(|it| it.rendered(&lane)).collect();
                    clients.hub.import(findings).await
                }
                Err(error) => reply_of(error.fault),
            };
            Done::Replied { batch, reply, sent_at, began_at }
        });
    }

    /// Follow-ups and fresh findings take turns, until too many follow-ups wait.
    async fn next_batch(&mut self, probe: bool) -> Result<Option<Vec<Prepared>>, QueueError> {
        let waiting: usize = self.follow_ups.iter().map(Vec::len).sum();
        let follow_up_first = !self.followed_up_last || waiting > FOLLOW_UPS_PREFERRED;
        if follow_up_first && let Some(batch) = self.follow_ups.pop_front() {
            self.followed_up_last = true;
            return Ok(Some(batch));
        }
        if let Some(batch) = self.claim(probe).await? {
            self.followed_up_last = false;
            return Ok(Some(batch));
        }
        Ok(self.follow_ups.pop_front())
    }

    /// Claims the next findings of the outbox.
    async fn claim(&mut self, probe: bool) -> Result<Option<Vec<Prepared>>, QueueError> {
        if let Some(written) = self.state.take_rewind()
            && self.cursor.as_ref().is_some_and(|cursor| written < *cursor)
        {
            self.cursor = None;
        }
        let findings_max = self.findings_max(probe);
        loop {
            let from = self.cursor.clone();
            let claim = self
                .queues
                .claim_outbox(&self.lane, from, IMPORT_FINDINGS_MAX, self.keys_in_flight.clone())
                .await?;
            if !claim.undecodable.is_empty() {
                let mut claim = claim;
                let undecodable = std::mem::take(&mut claim.undecodable);
                self.queues.bury_undecodable(&self.lane, undecodable).await?;
                continue;
            }
            let selection = select(&self.lane, claim, &self.ids_in_flight, findings_max);
            self.rescan |= selection.passed_over;
            let from_start = self.cursor.is_none();
            self.cursor = selection.next.or(self.cursor.take());
            if !selection.batch.is_empty() {
                for prepared in &selection.batch {
                    self.keys_in_flight.insert(prepared.claimed.key.clone());
                    self.ids_in_flight.insert(prepared.id.clone());
                }
                return Ok(Some(selection.batch));
            }
            if from_start {
                return Ok(None);
            }
            self.cursor = None;
        }
    }

    /// A lane held because everything is rejected probes with whole batches and single findings
    /// in turn, walking through its outbox, lest the same poison stop each probe.
    fn findings_max(&self, probe: bool) -> usize {
        if probe && self.gate.is_held(HoldReason::Rejecting) && self.probes % 2 == 1 {
            return 1;
        }
        IMPORT_FINDINGS_MAX
    }

    async fn finish(
        &mut self,
        done: Result<Done, tokio::task::JoinError>,
    ) -> Result<(), QueueError> {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(lane = %self.lane, %error, "a delivery job died: what it had in flight is claimed again");
                self.forget_flight();
                return Ok(());
            }
        };
        match done {
            Done::Opened(result) => self.opened(result),
            Done::Replied { batch, reply, sent_at, began_at } => {
                self.requests -= 1;
                let elapsed = sent_at.elapsed();
                self.metrics.hub_request_seconds.record(elapsed.as_secs_f64());
                self.replied(batch, reply, sent_at, began_at).await
            }
            Done::Confirmed { prepared, held, began_at } => {
                self.confirmed(*prepared, held, began_at);
                Ok(())
            }
            Done::Settled { keys, result } => {
                self.next_due = None;
                self.release(&keys);
                result
            }
        }
    }

    fn opened(&mut self, result: Result<(), OpenError>) -> Result<(), QueueError> {
        self.opening = false;
        let fault = match result {
            Ok(()) => {
                self.opened = true;
                self.idle = false;
                self.resumed();
                return Ok(());
            }
            Err(OpenError::Queue(error)) => return Err(error),
            Err(OpenError::TooSlow) => Fault::Unavailable {
                kind: crate::aws::Unavailability::Timeout,
                detail: "reading back took too long".into(),
            },
            Err(OpenError::Aws(error)) => error.fault,
        };
        let now = Instant::now();
        match fault {
            Fault::Held { reason, detail } => self.hold(reason, detail.to_string(), now),
            Fault::Refused { .. } => {
                self.hold(HoldReason::Misconfigured, fault.to_string(), now);
            }
            Fault::Throttled { .. } | Fault::Unavailable { .. } => {
                self.back_off(fault.to_string(), now);
            }
        }
        Ok(())
    }

    async fn replied(
        &mut self,
        batch: Vec<Prepared>,
        reply: ImportReply,
        sent_at: Instant,
        began_at: UnixMillis,
    ) -> Result<(), QueueError> {
        let ids: Vec<&str> = batch.iter().map(|prepared| prepared.id.as_str()).collect();
        let plan = outcome::plan(&ids, reply);
        self.metrics.hub_requests[plan.outcome].increment(1);
        let acknowledged = plan.fates.contains(&Fate::Acknowledged);
        self.apply_lane_effect(&plan.lane, acknowledged, sent_at).await?;
        self.apply_fates(batch, plan, began_at);
        self.idle = false;
        if acknowledged {
            self.bury_condemned();
        } else if self.rejections_in_a_row >= REJECTIONS_IN_A_ROW_MAX {
            self.hold_rejecting();
        }
        Ok(())
    }

    async fn apply_lane_effect(
        &mut self,
        effect: &LaneEffect,
        acknowledged: bool,
        sent_at: Instant,
    ) -> Result<(), QueueError> {
        let now = Instant::now();
        match effect {
            // A lane that is held as rejecting wants an acknowledgement, not just an answer.
            LaneEffect::Open if acknowledged || !self.gate.is_held(HoldReason::Rejecting) => {
                self.resumed();
            }
            LaneEffect::Open => {
                let why = "the hub still calls everything invalid".into();
                self.gate.hold(HoldReason::Rejecting, why, now);
            }
            LaneEffect::Throttled => {
                self.limiter.throttled(sent_at, now);
                let rate = self.limiter.rate_per_second();
                tracing::debug!(lane = %self.lane, rate, "throttled by the hub");
                if self.gate.stop().is_some() {
                    self.back_off("throttled".into(), now);
                }
            }
            LaneEffect::BackOff(why) => self.back_off(why.clone(), now),
            LaneEffect::Hold(reason, why) => {
                self.hold(*reason, why.clone(), now);
                if *reason == HoldReason::HubOff && self.opened {
                    // What the hub holds when it is on again may not be what it was told.
                    self.opened = false;
                    self.queues.begin_read_back(&self.lane).await?;
                }
            }
        }
        Ok(())
    }

    fn apply_fates(&mut self, batch: Vec<Prepared>, plan: Plan, began_at: UnixMillis) {
        let now = self.queues.clock().now();
        let mut settlements = Vec::new();
        let mut released = Vec::new();
        let mut halves = Vec::new();
        let rejecting = self.gate.is_held(HoldReason::Rejecting);
        for (prepared, fate) in batch.into_iter().zip(plan.fates) {
            match fate {
                Fate::Isolate | Fate::Halve | Fate::Condemned(_) if rejecting => {
                    released.push((prepared.claimed.key, prepared.id));
                }
                Fate::Acknowledged => {
                    self.no_longer_stubborn(&prepared.id);
                    let receipt = receipt(
                        &prepared.claimed.waiting,
                        began_at,
                        now,
                        plan.aws_request_id.clone(),
                    );
                    settlements.push((prepared, Verdict::Acknowledged(receipt)));
                }
                Fate::Later => settlements.push((prepared, Verdict::Later(began_at))),
                Fate::Again => released.push((prepared.claimed.key, prepared.id)),
                Fate::Isolate => self.follow_ups.push_back(vec![prepared]),
                Fate::Halve => halves.push(prepared),
                Fate::Confirm => self.confirm(prepared, began_at),
                Fate::Condemned(message) => {
                    self.rejections_in_a_row += 1;
                    self.condemned.push((prepared, message));
                }
            }
        }
        if !halves.is_empty() {
            let second = halves.split_off(halves.len() / 2);
            self.follow_ups.push_back(halves);
            self.follow_ups.push_back(second);
        }
        if !released.is_empty() {
            // A lane that is rejecting walks on; any other begins anew with what it gave back.
            if !rejecting {
                self.cursor = None;
            }
            self.release(&released);
        }
        self.settle(settlements);
    }

    /// Commits what became of findings; they stay in flight until it stands.
    fn settle(&mut self, verdicts: Vec<(Prepared, Verdict)>) {
        if verdicts.is_empty() {
            return;
        }
        let keys = verdicts
            .iter()
            .map(|(prepared, _)| (prepared.claimed.key.clone(), prepared.id.clone()))
            .collect();
        let now = self.queues.clock().now();
        let settlements = verdicts
            .into_iter()
            .map(|(prepared, verdict)| self.settlement(prepared, verdict, now))
            .collect();
        let (queues, lane, metrics) =
            (self.queues.clone(), self.lane.clone(), Arc::clone(&self.metrics));
        self.jobs.spawn(async move {
            let result = settle(&queues, &lane, settlements, &metrics).await;
            Done::Settled { keys, result }
        });
    }

    fn settlement(&mut self, prepared: Prepared, verdict: Verdict, now: UnixMillis) -> Settlement {
        let Prepared { mut claimed, id, .. } = prepared;
        match verdict {
            Verdict::Acknowledged(receipt) => Settlement::Acknowledged { claimed, receipt },
            Verdict::Rejected(message) => {
                Settlement::Rejected { claimed, message: message.to_string() }
            }
            Verdict::Later(began_at) => {
                let attempts = claimed.waiting.attempts.saturating_add(1);
                claimed.waiting.first_sent_at.get_or_insert(began_at);
                if attempts >= STUBBORN_ATTEMPTS && self.stubborn.insert(id) {
                    self.metrics.stubborn_findings.increment(1);
                }
                let due = now.plus(finding_delay(attempts));
                Settlement::Retry { claimed, due, attempts }
            }
        }
    }

    /// Asks the hub whether it holds a finding whose request was answered with nonsense.
    fn confirm(&mut self, prepared: Prepared, began_at: UnixMillis) {
        let session = Arc::clone(&self.session);
        let product_arn = prepared.claimed.waiting.finding.policy.product_arn(&self.lane);
        self.jobs.spawn(async move {
            let query = HubQuery::Ids { product_arn, ids: vec![prepared.id.clone()] };
            let updated_at = prepared.claimed.waiting.finding.updated_at;
            let held = match session.clients().await {
                Ok(clients) => clients.hub.get_findings(&query, None).await.map(|page| {
                    page.items.iter().any(|record| {
                        record.id == prepared.id && record.updated_at >= Some(updated_at)
                    })
                }),
                Err(error) => Err(error),
            };
            Done::Confirmed { prepared: Box::new(prepared), held, began_at }
        });
    }

    fn confirmed(
        &mut self,
        prepared: Prepared,
        held: Result<bool, AwsError>,
        began_at: UnixMillis,
    ) {
        let verdict = match held {
            Ok(true) => {
                let now = self.queues.clock().now();
                Verdict::Acknowledged(receipt(&prepared.claimed.waiting, began_at, now, None))
            }
            Ok(false) => Verdict::Later(began_at),
            Err(error) => {
                tracing::debug!(lane = %self.lane, id = prepared.id, %error, "the outcome is unknown and can't be confirmed");
                Verdict::Later(began_at)
            }
        };
        self.settle(vec![(prepared, verdict)]);
    }

    /// With nothing left to try, few rejections are the findings' own fault.
    fn bury_last_condemned(&mut self) {
        let rejecting = self.gate.is_held(HoldReason::Rejecting);
        if self.requests == 0 && self.follow_ups.is_empty() && !rejecting {
            self.bury_condemned();
        }
    }

    /// Buries what was called invalid, sent alone, while others were not.
    fn bury_condemned(&mut self) {
        let condemned = std::mem::take(&mut self.condemned);
        let verdicts = condemned
            .into_iter()
            .map(|(prepared, message)| (prepared, Verdict::Rejected(message)))
            .collect();
        self.rejections_in_a_row = 0;
        self.settle(verdicts);
    }

    /// Everything is called invalid: that is no finding's fault, so none is buried.
    fn hold_rejecting(&mut self) {
        let mut released: Vec<(Key, String)> = Vec::new();
        for (prepared, _) in std::mem::take(&mut self.condemned) {
            released.push((prepared.claimed.key, prepared.id));
        }
        for prepared in std::mem::take(&mut self.follow_ups).into_iter().flatten() {
            released.push((prepared.claimed.key, prepared.id));
        }
        self.release(&released);
        self.rejections_in_a_row = 0;
        let why = format!("{REJECTIONS_IN_A_ROW_MAX} findings in a row were called invalid");
        self.hold(HoldReason::Rejecting, why, Instant::now());
    }

    fn hold(&mut self, reason: HoldReason, why: String, now: Instant) {
        if self.gate.hold(reason, why.clone(), now) {
            tracing::warn!(
                lane = %self.lane, %reason, why, advice = reason.advice(),
                "the lane is held: nothing is lost, it resumes by itself once this is mended"
            );
        }
    }

    fn back_off(&mut self, why: String, now: Instant) {
        if self.gate.unavailable(why.clone(), now) {
            tracing::warn!(lane = %self.lane, why, "the hub is unavailable: the lane backs off");
        }
    }

    fn resumed(&mut self) {
        if let Some(stopped) = self.gate.answered() {
            let why = match stopped {
                Stop::BackingOff(why) => why,
                Stop::Held(reason, _) => format!("held: {reason}"),
            };
            tracing::info!(lane = %self.lane, after = why, "the lane flows again");
        }
    }

    fn release(&mut self, keys: &[(Key, String)]) {
        for (key, id) in keys {
            self.keys_in_flight.remove(key);
            self.ids_in_flight.remove(id);
        }
        self.idle = false;
        if std::mem::take(&mut self.rescan) {
            self.cursor = None;
        }
    }

    /// Nothing is known of what was in flight: all of it is claimed again.
    fn forget_flight(&mut self) {
        self.jobs.abort_all();
        self.jobs = JoinSet::new();
        self.requests = 0;
        self.opening = false;
        self.keys_in_flight.clear();
        self.ids_in_flight.clear();
        self.follow_ups.clear();
        self.condemned.clear();
        self.rejections_in_a_row = 0;
        self.cursor = None;
        self.idle = false;
    }

    /// Lets what is in flight end, and settles it. What is cut here is sent again later.
    async fn drain(mut self) -> Result<(), QueueError> {
        self.follow_ups.clear();
        let deadline = Instant::now() + DRAIN_MAX;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.jobs.join_next()).await {
            self.finish(done).await?;
            self.follow_ups.clear();
        }
        Ok(())
    }

    fn show_state(&self) {
        use metrics::LaneState as Shown;
        let shown = match self.gate.stop() {
            Some(Stop::BackingOff(_)) => Shown::BackingOff,
            Some(Stop::Held(reason, _)) => Shown::Held(shown_reason(*reason)),
            None if !self.opened => Shown::ReadingBack,
            None => Shown::Flowing,
        };
        self.lane_metrics.set_state(shown);
    }

    fn no_longer_stubborn(&mut self, id: &str) {
        if self.stubborn.remove(id) {
            self.metrics.stubborn_findings.decrement(1);
        }
    }
}

/// What to settle of one finding.
enum Verdict {
    Acknowledged(Receipt),
    Later(UnixMillis),
    Rejected(Text<1024>),
}

async fn settle(
    queues: &Queues,
    lane: &Lane,
    settlements: Vec<Settlement>,
    metrics: &Metrics,
) -> Result<(), QueueError> {
    let receipts: Vec<Option<Receipt>> = settlements
        .iter()
        .map(|settlement| match settlement {
            Settlement::Acknowledged { receipt, .. } => Some(receipt.clone()),
            _ => None,
        })
        .collect();
    let newest = queues.settle_delivery(lane, settlements).await?;
    for (receipt, newest) in receipts.into_iter().zip(newest) {
        let Some(receipt) = receipt.filter(|_| newest) else { continue };
        let at = receipt.acknowledged_at;
        let scan_to_hub = receipt.operation_end.map(|end| at.since(end));
        metrics.record_delivery(receipt.severity, at.since(receipt.accepted_at), scan_to_hub);
    }
    Ok(())
}

fn receipt(
    waiting: &Waiting,
    began_at: UnixMillis,
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
        first_sent_at: waiting.first_sent_at.unwrap_or(began_at),
        acknowledged_at: now,
        updated_at: finding.updated_at,
        attempts: waiting.attempts.saturating_add(1),
        aws_request_id,
    }
}

fn reply_of(fault: Fault) -> ImportReply {
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

fn is_about_credentials(reason: HoldReason) -> bool {
    matches!(
        reason,
        HoldReason::CredentialsMissing
            | HoldReason::CredentialsExpired
            | HoldReason::CredentialsInvalid
            | HoldReason::AccessDenied
            | HoldReason::ForeignAccount
    )
}

fn shown_reason(reason: HoldReason) -> metrics::HoldReason {
    match reason {
        HoldReason::CredentialsMissing
        | HoldReason::CredentialsExpired
        | HoldReason::CredentialsInvalid
        | HoldReason::ClockSkewed => metrics::HoldReason::Credentials,
        HoldReason::AccessDenied | HoldReason::RegionOff | HoldReason::Misconfigured => {
            metrics::HoldReason::Permission
        }
        HoldReason::ForeignAccount => metrics::HoldReason::ForeignAccount,
        HoldReason::HubOff => metrics::HoldReason::HubOff,
        HoldReason::Rejecting => metrics::HoldReason::Rejecting,
    }
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn count_f64(count: usize) -> f64 {
    count as f64
}
