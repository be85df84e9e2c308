//! Whether a lane may send: flowing, backing off, held. Pure: time is given.
//!
//! After the hub was unavailable or refused, exactly one probe is sent when its time has come;
//! its outcome decides. Failures of requests that were under way at the same time say nothing
//! new. State changes are reported once.

use std::time::Duration;

use tokio::time::Instant;

use crate::{aws::HoldReason, pipeline::backoff::LaneBackoff};

/// What the lane may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// As many requests as tokens and window allow.
    Flow,
    /// One request, and nothing else meanwhile.
    Probe,
    /// Nothing before this.
    NotBefore(Instant),
    /// Nothing until the request under way has ended.
    Wait,
}

/// Why the lane doesn't flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    BackingOff(String),
    Held(HoldReason, String),
}

/// See the module.
pub struct Gate {
    stop: Option<(Stop, Instant)>,
    backoff: LaneBackoff,
    probe_interval: Duration,
    probing: bool,
}

impl Gate {
    pub fn new(probe_interval: Duration) -> Self {
        Self { stop: None, backoff: LaneBackoff::default(), probe_interval, probing: false }
    }

    pub fn permit(&self, now: Instant, requests_in_flight: usize) -> Permit {
        match &self.stop {
            None => Permit::Flow,
            Some(_) if requests_in_flight > 0 => Permit::Wait,
            Some((_, until)) if now < *until => Permit::NotBefore(*until),
            Some(_) => Permit::Probe,
        }
    }

    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref().map(|(stop, _)| stop)
    }

    pub fn is_held(&self, reason: HoldReason) -> bool {
        matches!(&self.stop, Some((Stop::Held(held, _), _)) if *held == reason)
    }

    /// A probe is on its way.
    pub fn probe_sent(&mut self) {
        self.probing = true;
    }

    /// The hub has answered; what the lane stopped for, if it did.
    pub fn answered(&mut self) -> Option<Stop> {
        self.probing = false;
        self.backoff.reset();
        self.stop.take().map(|(stop, _)| stop)
    }

    /// The hub is unavailable; whether that is news.
    pub fn unavailable(&mut self, why: String, now: Instant) -> bool {
        if self.stop.is_some() && !self.probing {
            return false;
        }
        self.probing = false;
        let news = !matches!(self.stop, Some((Stop::BackingOff(_), _)));
        self.stop = Some((Stop::BackingOff(why), now + self.backoff.next_delay()));
        news
    }

    /// Sending can't succeed until somebody acts; whether that is news.
    pub fn hold(&mut self, reason: HoldReason, why: String, now: Instant) -> bool {
        self.hold_for(self.probe_interval, reason, why, now)
    }

    /// As [`Gate::hold`], asked again after another time.
    pub fn hold_for(
        &mut self,
        interval: Duration,
        reason: HoldReason,
        why: String,
        now: Instant,
    ) -> bool {
        let news = !self.is_held(reason);
        if !news && !self.probing {
            return false;
        }
        self.probing = false;
        self.stop = Some((Stop::Held(reason, why), now + interval));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(60);

    #[test]
    fn one_probe_reopens_a_lane_that_backed_off() {
        let now = Instant::now();
        let mut gate = Gate::new(PROBE);
        assert!(gate.unavailable("503".into(), now));
        assert!(matches!(gate.permit(now, 0), Permit::NotBefore(_)));
        let later = now + PROBE;
        assert_eq!(gate.permit(later, 0), Permit::Probe);
        gate.probe_sent();
        assert_eq!(gate.permit(later, 1), Permit::Wait);
        assert!(gate.answered().is_some());
        assert_eq!(gate.permit(later, 1), Permit::Flow);
    }

    #[test]
    fn failures_of_requests_under_way_are_no_news_and_delay_nothing() {
        let now = Instant::now();
        let mut gate = Gate::new(PROBE);
        gate.unavailable("503".into(), now);
        let before = gate.permit(now, 0);
        assert!(!gate.unavailable("503".into(), now + Duration::from_millis(100)));
        assert_eq!(gate.permit(now, 0), before);
    }

    #[test]
    fn a_hold_is_reported_once_and_probed_regularly() {
        let now = Instant::now();
        let mut gate = Gate::new(PROBE);
        assert!(gate.hold(HoldReason::HubOff, "off".into(), now));
        gate.probe_sent();
        assert!(!gate.hold(HoldReason::HubOff, "off".into(), now + PROBE));
        assert_eq!(gate.permit(now + PROBE, 0), Permit::NotBefore(now + PROBE + PROBE));
        gate.probe_sent();
        assert!(gate.hold(HoldReason::AccessDenied, "no".into(), now + PROBE + PROBE));
    }
}
