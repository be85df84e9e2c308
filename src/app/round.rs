//! One round: every lane is swept until a sweep is complete, and everything that can be is
//! delivered; then it is told what was done and what is left.
//!
//! A round waits for whatever heals by itself (outages, throttling, a full store), as long as it
//! may. It doesn't wait for what needs a person (a hold, a pause, nodes that SSM can't tell of), nor
//! for findings that have failed so often that they are tried every quarter of an hour.
//!
//! Guarantees: nothing is left undone without being told; what waits is on disk for the next round.

use std::{collections::HashSet, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{App, Failure, Options, Purpose, ServedLane, StartError};
use crate::{
    config::Config,
    metrics::LaneState,
    queue::Queues,
    record::{Lane, UnixMillis},
};

/// How often a round is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// No sweep begins by itself, neither the first nor a second after a complete one.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// There is nothing left that time alone would change.
    Settled,
    TimedOut,
    Interrupted,
}

/// What a round came to.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub ended: Ended,
    pub lanes: Vec<LaneRound>,
    /// Findings that the hubs acknowledged.
    pub delivered: i64,
    /// Of what was taken in: a newer state of the node took its place.
    pub coalesced: i64,
    /// Of what was taken in: nothing to tell.
    pub unchanged: i64,
    /// Dead letters that this round made.
    pub dead: i64,
    /// In all queues of the store, other lanes' included.
    pub queued: i64,
    /// Why the organization's accounts could not be listed, where they are discovered: the lanes
    /// are those of the last list.
    pub organization_failure: Option<String>,
}

/// One lane of a round.
#[derive(Clone, Debug, Serialize)]
pub struct LaneRound {
    pub lane: Lane,
    /// Whether a sweep was complete.
    pub swept: bool,
    pub nodes: usize,
    /// New, changed or due: taken in.
    pub accepted: usize,
    /// Seen before as they are.
    pub unchanged: usize,
    pub delivered: u64,
    /// Findings that the hub is still to be told.
    pub waiting: i64,
    pub state: &'static str,
    /// Why something is left, as far as the lane knows.
    pub note: Option<String>,
}

impl Round {
    /// Whether every lane was swept and everything was acknowledged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let lanes_done = self.lanes.iter().all(LaneRound::is_complete);
        let all_lanes = self.organization_failure.is_none();
        self.ended == Ended::Settled
            && all_lanes
            && lanes_done
            && self.queued == 0
            && self.dead == 0
    }
}

impl LaneRound {
    /// Whether nothing is left to do: a dormant lane is as it is meant to be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        (self.swept || self.state == LaneState::Dormant.as_str()) && self.waiting == 0
    }
}

/// The configuration of a process that does one round: a lane isn't swept again, and events stay in
/// their queues, for a daemon.
pub(super) fn configured(mut config: Config) -> Config {
    config.queues.clear();
    config.ingest.poll_interval = NEVER;
    config
}

impl App {
    /// Opens the store and starts all stages, for [`App::round`].
    pub async fn start_for_round(options: Options) -> Result<Self, StartError> {
        let config = configured(options.config);
        let purpose = Purpose::Round { preview: None };
        Box::pin(Self::start_as(Options { config, ..options }, purpose)).await
    }

    /// Does one round with an app that was just started for it.
    ///
    /// A lane's sweep begins once the lane has been opened, its findings read back if they had to
    /// be: what the hub lost is told anew by a sweep that begins afterwards.
    pub async fn round(
        &mut self,
        time_max: Duration,
        stop: &CancellationToken,
    ) -> Result<Round, Failure> {
        let before = self.queues().accounting();
        let deadline = Instant::now() + time_max;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut begun = HashSet::new();
        let ended = loop {
            self.begin_sweeps(&mut begun);
            if self.has_settled() {
                break Ended::Settled;
            }
            tokio::select! {
                () = stop.cancelled() => break Ended::Interrupted,
                () = tokio::time::sleep_until(deadline) => break Ended::TimedOut,
                failure = self.failed() => return Err(failure),
                _ = looks.tick() => {}
            }
        };
        let now = self.queues().accounting();
        Ok(Round {
            ended,
            lanes: self.lanes().iter().map(|lane| lane_round(lane, self.queues())).collect(),
            delivered: now.delivered - before.delivered,
            coalesced: now.coalesced - before.coalesced,
            unchanged: now.unchanged - before.unchanged,
            dead: (now.dead - before.dead).max(0),
            queued: now.queued.total(),
            organization_failure: self.observer.organization_failure(),
        })
    }

    /// Has those lanes swept that have been opened, or can't be.
    fn begin_sweeps(&self, begun: &mut HashSet<Lane>) {
        for lane in self.lanes() {
            let is_open = {
                let view = lane.view.borrow();
                view.since != UnixMillis(0) && view.state != LaneState::ReadingBack
            };
            if is_open && begun.insert(lane.lane.clone()) {
                lane.trigger.notify_one();
            }
        }
    }

    /// Whether nothing that is left would be done by waiting.
    fn has_settled(&self) -> bool {
        let queues = self.queues();
        let queued = queues.accounting().queued;
        let mut all_flow = true;
        for lane in self.lanes() {
            if !has_been_swept(&lane, queues) {
                return false;
            }
            match delivery(&lane, queues) {
                Delivery::Busy => return false,
                Delivery::Stopped => all_flow = false,
                Delivery::Idle => {}
            }
        }
        // What a stopped lane has parked stays there.
        queued.observed == 0 && queued.assessed == 0 && (queued.parked == 0 || !all_flow)
    }
}

/// Whether the lane's sweep is complete, or no other is worth waiting for.
fn has_been_swept(lane: &ServedLane, queues: &Queues) -> bool {
    let sweeps = lane.sweeps.borrow();
    let rests = lane.view.borrow().state == LaneState::Dormant;
    let paused = queues.lane(&lane.lane).ingest_paused().is_some();
    sweeps.complete > 0 || sweeps.stuck || rests || paused
}

enum Delivery {
    Busy,
    /// A person must do something first.
    Stopped,
    Idle,
}

fn delivery(lane: &ServedLane, queues: &Queues) -> Delivery {
    let view = lane.view.borrow();
    let state = queues.lane(&lane.lane);
    let waiting = state.outbox_findings() + state.delayed_findings();
    let stubborn = i64::try_from(state.stubborn_findings()).unwrap_or(i64::MAX);
    match view.state {
        _ if view.since == UnixMillis(0) => Delivery::Busy,
        LaneState::Flowing if waiting <= stubborn => Delivery::Idle,
        LaneState::Flowing | LaneState::BackingOff | LaneState::ReadingBack => Delivery::Busy,
        _ => Delivery::Stopped,
    }
}

fn lane_round(served: &ServedLane, queues: &Queues) -> LaneRound {
    let (sweeps, view) = (served.sweeps.borrow().clone(), served.view.borrow().clone());
    let state = queues.lane(&served.lane);
    let paused = state.ingest_paused().map(|pause| pause.to_string());
    LaneRound {
        lane: served.lane.clone(),
        swept: sweeps.complete > 0,
        nodes: sweeps.last_report.nodes,
        accepted: sweeps.last_report.accepted,
        unchanged: sweeps.last_report.unchanged,
        delivered: view.acknowledged,
        waiting: state.outbox_findings() + state.delayed_findings(),
        state: view.state.as_str(),
        note: sweeps.failure.or(view.note).or(paused),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::LoadOptions;

    #[test]
    fn a_round_takes_no_event_out_of_its_queue() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("patchferry.toml");
        let url = "https://sqs.us-east-1.amazonaws.com/111122223333/patchferry";
        let file = format!("[[sqs]]\nurl = \"{url}\"\nregion = \"us-east-1\"\n");
        std::fs::write(&path, file).unwrap();
        let environment = BTreeMap::from([("HOME".into(), "/home/op".into())]);
        let options = LoadOptions { config: Some(path), environment, ..LoadOptions::default() };
        let config = Config::load(&options).unwrap();
        assert_eq!(config.queues.len(), 1);
        assert!(configured(config).queues.is_empty());
    }
}
