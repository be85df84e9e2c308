//! Where the lane stands: flowing, backing off or held, and who is told of it, once per change.

use tokio::time::Instant;

use super::{Opening, Task};
use crate::{
    aws::HoldReason,
    metrics::{self, LaneState as Shown},
    pipeline::deliver::gate::Stop,
    record::UnixMillis,
};

/// How much more rarely than a held lane one that is dormant is asked.
const DORMANT_INTERVALS: u32 = 60;

/// What a lane is doing, for whoever looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneView {
    pub state: Shown,
    pub since: UnixMillis,
    /// What the hub said last, if that is why.
    pub note: Option<String>,
    /// Findings that the hub has acknowledged since the start; it may be told late.
    pub acknowledged: u64,
}

impl Task {
    /// Whether the lane stopped for credentials, which should be loaded anew before a probe.
    pub(super) fn wants_new_credentials(&self) -> bool {
        matches!(self.gate.stop(), Some(Stop::Held(reason, _)) if is_about_credentials(*reason))
    }

    /// Whether a lane that is held for this is as it is meant to be.
    fn is_dormant_for(&self, reason: HoldReason) -> bool {
        match reason {
            HoldReason::RegionOff => true,
            HoldReason::HubOff => self.settings.hub_off,
            _ => false,
        }
    }

    pub(super) fn hold(&mut self, reason: HoldReason, why: &str) {
        if self.is_dormant_for(reason) {
            return self.rest(reason, why);
        }
        if self.gate.hold(reason, why.to_owned(), Instant::now()) {
            tracing::warn!(
                lane = %self.lane, %reason, why, advice = reason.advice(),
                "the lane is held: nothing is lost, it resumes by itself once this is mended"
            );
        }
    }

    fn rest(&mut self, reason: HoldReason, why: &str) {
        let interval = self.settings.probe_interval * DORMANT_INTERVALS;
        if self.gate.hold_for(interval, reason, why.to_owned(), Instant::now()) {
            tracing::info!(lane = %self.lane, %reason, why, "the lane is dormant: it is asked now and then, and resumes by itself");
        }
        self.session.set_dormant(true);
    }

    pub(super) fn back_off(&mut self, why: &str) {
        if self.gate.unavailable(why.to_owned(), Instant::now()) {
            tracing::warn!(lane = %self.lane, why, "the hub is unavailable: the lane backs off");
        }
    }

    pub(super) fn resumed(&mut self) {
        self.session.set_dormant(false);
        if let Some(stopped) = self.gate.answered() {
            let after = match stopped {
                Stop::BackingOff(why) => why,
                Stop::Held(reason, _) => format!("held: {reason}"),
            };
            tracing::info!(lane = %self.lane, after, "the lane flows again");
        }
    }

    pub(super) fn show_state(&self) {
        let paused = self.state.delivery_paused();
        let (state, note) = match self.gate.stop() {
            _ if paused.is_some() => (Shown::Paused, paused.map(|pause| pause.to_string())),
            Some(Stop::BackingOff(why)) => (Shown::BackingOff, Some(why.clone())),
            Some(Stop::Held(reason, why)) if self.is_dormant_for(*reason) => {
                (Shown::Dormant, Some(format!("{reason}: {why}")))
            }
            // Of one whose hub is declared off nothing else is known yet.
            None if self.session.is_dormant() => (Shown::Dormant, None),
            Some(Stop::Held(reason, why)) => {
                (Shown::Held(shown_reason(*reason)), Some(format!("{why}; {}", reason.advice())))
            }
            None if self.opening != Opening::Done => (Shown::ReadingBack, None),
            None => (Shown::Flowing, None),
        };
        let now = self.queues.clock().now();
        let acknowledged = self.acknowledged;
        let changed = self.view.send_if_modified(|view| {
            view.acknowledged = acknowledged;
            let known = view.state == state && view.since != UnixMillis(0);
            if known && view.note == note {
                return false;
            }
            let since = if known { view.since } else { now };
            *view = LaneView { state, since, note, acknowledged };
            true
        });
        if changed {
            self.lane_metrics.set_state(state);
        }
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

/// The metric's few reasons for the many.
fn shown_reason(reason: HoldReason) -> metrics::HoldReason {
    match reason {
        HoldReason::CredentialsMissing
        | HoldReason::CredentialsExpired
        | HoldReason::CredentialsInvalid
        | HoldReason::ClockSkewed => metrics::HoldReason::Credentials,
        // A lane whose Region is off is shown as dormant.
        HoldReason::AccessDenied | HoldReason::RegionOff | HoldReason::Misconfigured => {
            metrics::HoldReason::Permission
        }
        HoldReason::ForeignAccount => metrics::HoldReason::ForeignAccount,
        HoldReason::HubOff => metrics::HoldReason::HubOff,
        HoldReason::Rejecting => metrics::HoldReason::Rejecting,
    }
}
