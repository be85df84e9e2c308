//! What a reply does to the lane and to each of its findings: the outcome table, carried out.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Done, Opening, Sent, Task};
use crate::{
    aws::{
        AwsError, HoldReason, ImportReply,
        security_hub::{HubQuery, HubRecord},
    },
    pipeline::deliver::{
        batch::Prepared,
        confirm::{Unconfirmed, is_held},
        outcome::{self, Fate, LaneEffect, Plan},
        verdict::{self, Verdict, held_by},
    },
    queue::QueueError,
    record::{Attempt, UnixMillis},
};

/// Rejections in a row, none acknowledged, after which nothing is buried and the lane is held.
const REJECTIONS_IN_A_ROW_MAX: usize = 20;
/// A finding that failed this often is stubborn: still tried, but counted.
const STUBBORN_ATTEMPTS: u32 = 20;
impl Task {
    pub(super) async fn replied(
        &mut self,
        batch: Vec<Prepared>,
        reply: ImportReply,
        sent: Sent,
    ) -> Result<(), QueueError> {
        let ids: Vec<&str> = batch.iter().map(|prepared| prepared.id.as_str()).collect();
        let plan = outcome::plan(&ids, reply);
        self.metrics.hub_requests[plan.outcome].increment(1);
        let acknowledged = plan.acknowledged() > 0;
        self.apply_lane_effect(&plan.lane, acknowledged, sent.instant).await?;
        self.apply_fates(batch, &plan, sent.at);
        self.idle = false;
        if acknowledged {
            self.bury_condemned();
        } else if self.flight.condemned() >= REJECTIONS_IN_A_ROW_MAX {
            // Everything is called invalid: that is no finding's fault, so none is buried.
            self.flight.give_back();
            let why = format!("{REJECTIONS_IN_A_ROW_MAX} findings in a row were called invalid");
            self.hold(HoldReason::Rejecting, &why);
        }
        Ok(())
    }

    async fn apply_lane_effect(
        &mut self,
        effect: &LaneEffect,
        acknowledged: bool,
        sent_at: Instant,
    ) -> Result<(), QueueError> {
        match effect {
            // A lane that is held as rejecting wants an acknowledgement, not just an answer.
            LaneEffect::Open if acknowledged || !self.gate.is_held(HoldReason::Rejecting) => {
                self.resumed();
            }
            LaneEffect::Open => {
                self.hold(HoldReason::Rejecting, "the hub still calls everything invalid");
            }
            LaneEffect::Throttled => {
                self.limiter.throttled(sent_at, Instant::now());
                let rate = self.limiter.rate_per_second();
                tracing::debug!(lane = %self.lane, rate, "throttled by the hub");
                if self.gate.stop().is_some() {
                    self.back_off("throttled");
                }
            }
            LaneEffect::BackOff(why) => self.back_off(why),
            LaneEffect::Hold(reason, why) => {
                self.hold(*reason, why);
                let off = matches!(reason, HoldReason::HubOff | HoldReason::RegionOff);
                if off && self.opening == Opening::Done {
                    // What the hub holds when it is on again may not be what it was told.
                    self.opening = Opening::Wanted;
                    // Nor may a version from before outlive the floors that are read back.
                    self.flight.give_back();
                    self.queues.begin_read_back(&self.lane).await?;
                }
            }
        }
        Ok(())
    }

    fn apply_fates(&mut self, batch: Vec<Prepared>, plan: &Plan, sent_at: UnixMillis) {
        let rejecting = self.gate.is_held(HoldReason::Rejecting);
        let (mut verdicts, mut released, mut halves) = (Vec::new(), Vec::new(), Vec::new());
        let before = self.acknowledged;
        self.acknowledged += plan.acknowledged();
        for (index, mut prepared) in batch.into_iter().enumerate() {
            if let Some((outcome, detail)) = plan.failure(index) {
                let attempt = Attempt { sent_at, outcome, detail };
                prepared.claimed.waiting.failures.push(attempt);
            }
            if plan.is_called_invalid(index) {
                prepared.called_invalid_at.get_or_insert(before);
            }
            match &plan.fates[index] {
                Fate::Isolate(_) | Fate::Halve | Fate::Condemned(_) if rejecting => {
                    released.push(prepared);
                }
                Fate::Acknowledged => {
                    self.no_longer_stubborn(&prepared.id);
                    let aws_request_id = plan.aws_request_id.clone();
                    verdicts.push((prepared, Verdict::Acknowledged { sent_at, aws_request_id }));
                }
                Fate::Later(_) => verdicts.push((prepared, Verdict::Later { sent_at })),
                Fate::Again => released.push(prepared),
                Fate::Isolate(_) => self.flight.isolate(prepared),
                Fate::Halve => halves.push(prepared),
                Fate::Confirm => self.confirmations.add(prepared, sent_at),
                Fate::Condemned(message) if self.is_its_own_fault(&prepared) => {
                    verdicts.push((prepared, Verdict::Rejected { message: message.clone() }));
                }
                Fate::Condemned(message) => self.flight.condemn(prepared, message.clone()),
            }
        }
        self.confirm();
        self.flight.halve(halves);
        if !released.is_empty() {
            self.flight.put_back(released);
            // A lane that is rejecting walks on; any other begins anew with what it gave back.
            if !rejecting {
                self.flight.rewind();
            }
        }
        self.settle(verdicts);
    }

    /// Whether the hub has taken others since it first called this one invalid.
    fn is_its_own_fault(&self, prepared: &Prepared) -> bool {
        prepared.called_invalid_at.is_some_and(|acknowledged| self.acknowledged > acknowledged)
    }

    /// Commits what became of findings; they stay in flight until it stands.
    fn settle(&mut self, verdicts: Vec<(Prepared, Verdict)>) {
        if verdicts.is_empty() {
            return;
        }
        let now = self.queues.clock().now();
        let held = held_by(&verdicts);
        for (prepared, verdict) in &verdicts {
            let stubborn = prepared.claimed.waiting.attempts + 1 >= STUBBORN_ATTEMPTS;
            if stubborn
                && matches!(verdict, Verdict::Later { .. })
                && self.stubborn.insert(prepared.id.clone())
            {
                self.state.set_stubborn_findings(self.stubborn.len() as u64);
            }
        }
        let settlements =
            verdicts.into_iter().map(|(prepared, it)| it.settlement(prepared, now)).collect();
        let (queues, lane) = (self.queues.clone(), self.lane.clone());
        let metrics = Arc::clone(&self.metrics);
        self.jobs.spawn(async move {
            let result = verdict::settle(&queues, &lane, settlements, &metrics).await;
            Done::Settled { held, result }
        });
    }

    /// Asks the hub whether it holds findings whose requests were answered with nonsense.
    fn confirm(&mut self) {
        let Some((product_arn, asked)) = self.confirmations.ask(&self.lane) else { return };
        let session = Arc::clone(&self.session);
        self.jobs.spawn(async move {
            let ids = asked.iter().map(|(prepared, _)| prepared.id.clone()).collect();
            let query = HubQuery::Ids { product_arn, ids };
            session.hub_reads().take().await;
            let held = match session.clients().await {
                Ok(clients) => clients.hub.get_findings(&query, None).await.map(|page| page.items),
                Err(error) => Err(error),
            };
            Done::Confirmed { asked, held }
        });
    }

    pub(super) fn confirmed(
        &mut self,
        asked: Vec<Unconfirmed>,
        held: Result<Vec<HubRecord>, AwsError>,
    ) {
        self.confirmations.answered();
        let records = held.unwrap_or_else(|error| {
            tracing::debug!(lane = %self.lane, %error, "outcomes are unknown and can't be confirmed");
            Vec::new()
        });
        let mut verdicts = Vec::with_capacity(asked.len());
        for (prepared, sent_at) in asked {
            let verdict = if is_held(&prepared, &records) {
                self.no_longer_stubborn(&prepared.id);
                Verdict::Acknowledged { sent_at, aws_request_id: None }
            } else {
                Verdict::Later { sent_at }
            };
            verdicts.push((prepared, verdict));
        }
        self.settle(verdicts);
        self.confirm();
    }

    /// With nothing left to try, few rejections are the findings' own fault.
    pub(super) fn bury_last_condemned(&mut self) {
        let rejecting = self.gate.is_held(HoldReason::Rejecting);
        if self.requests == 0 && !self.flight.has_follow_ups() && !rejecting {
            self.bury_condemned();
        }
    }

    /// Buries what was called invalid, sent alone, while others were not.
    fn bury_condemned(&mut self) {
        let verdicts = self
            .flight
            .take_condemned()
            .into_iter()
            .map(|(prepared, message)| (prepared, Verdict::Rejected { message }))
            .collect();
        self.settle(verdicts);
    }
    fn no_longer_stubborn(&mut self, id: &str) {
        if self.stubborn.remove(id) {
            self.state.set_stubborn_findings(self.stubborn.len() as u64);
        }
    }
}
