//! How long to wait: a lane's back-off and a finding's. The only code that knows the crate
//! `backoff`.

use std::time::Duration;

use ::backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// A lane waits at least this long after the hub was unavailable.
const LANE_DELAY_MIN: Duration = Duration::from_millis(500);
/// A lane probes at least this often.
const LANE_DELAY_MAX: Duration = Duration::from_secs(60);
/// A finding that failed by itself waits at least this long.
const FINDING_DELAY_MIN: Duration = Duration::from_secs(1);
/// A finding is tried at least this often, for ever.
pub const FINDING_DELAY_MAX: Duration = Duration::from_secs(15 * 60);

/// A lane's back-off: exponential, full jitter, no end.
pub struct LaneBackoff(ExponentialBackoff);

impl Default for LaneBackoff {
    fn default() -> Self {
        // The crate draws from interval * (1 +- factor): with factor 1 and half the interval,
        // that is full jitter between nothing and the whole interval.
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(LANE_DELAY_MIN)
            .with_randomization_factor(1.0)
            .with_multiplier(2.0)
            .with_max_interval(LANE_DELAY_MAX / 2)
            .with_max_elapsed_time(None)
            .build();
        Self(inner)
    }
}

impl LaneBackoff {
    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(LANE_DELAY_MAX).clamp(LANE_DELAY_MIN, LANE_DELAY_MAX)
    }

    /// The hub has answered.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// When to try a finding again that has failed `attempts` times: doubling, with jitter of a
/// quarter, up to [`FINDING_DELAY_MAX`].
pub fn finding_delay(attempts: u32) -> Duration {
    let doubled = FINDING_DELAY_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let capped = doubled.min(FINDING_DELAY_MAX);
    capped.mul_f64(1.0 - fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_backs_off_within_its_limits_for_ever() {
        let mut backoff = LaneBackoff::default();
        let mut longest = Duration::ZERO;
        for _ in 0..1_000 {
            let delay = backoff.next_delay();
            assert!((LANE_DELAY_MIN..=LANE_DELAY_MAX).contains(&delay));
            longest = longest.max(delay);
        }
        assert!(longest > LANE_DELAY_MAX / 2);
    }

    #[test]
    fn a_finding_is_never_given_up_and_never_waits_longer_than_a_quarter_hour() {
        for attempts in [1, 2, 10, 20, 1_000, u32::MAX] {
            let delay = finding_delay(attempts);
            assert!(delay >= FINDING_DELAY_MIN * 3 / 4 && delay <= FINDING_DELAY_MAX);
        }
    }
}
