//! A token bucket that never spends more than its quota and finds a smaller one by itself.
//!
//! Guarantees, whatever happens: within any `t` seconds at most `burst + rate * t` tokens are
//! taken, also across a restart, since the bucket starts empty. A throttled answer cuts the rate
//! (once per round trip), quiet time raises it again, up to the configured quota.
//!
//! Pure: time is given. Deliberately doesn't know what a token is spent on.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a throttled answer leaves of the rate.
const CUT: f64 = 0.7;
/// The rate never falls below this: one probe in five seconds.
const RATE_MIN: f64 = 0.2;
/// Quiet time that raises the rate by [`RAISE`].
const QUIET: Duration = Duration::from_secs(5);
/// Requests per second gained per quiet time.
const RAISE: f64 = 0.5;
/// Share of the burst that is left unused, at most [`RESERVE_MAX`] tokens: our bucket and AWS's
/// don't tick alike, and requests arrive closer together than they left.
const RESERVE_SHARE: f64 = 0.1;
const RESERVE_MAX: f64 = 2.0;

/// See the module.
#[derive(Debug)]
pub struct Limiter {
    quota_per_second: f64,
    capacity: f64,
    rate_per_second: f64,
    tokens: f64,
    refilled_at: Instant,
    raised_at: Instant,
    cut_at: Option<Instant>,
}

impl Limiter {
    /// An empty bucket for `quota_per_second` with `burst` tokens.
    pub fn new(quota_per_second: f64, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        let reserve = (burst * RESERVE_SHARE).min(RESERVE_MAX);
        Self {
            quota_per_second,
            capacity: (burst - reserve).max(1.0),
            rate_per_second: quota_per_second,
            tokens: 0.0,
            refilled_at: now,
            raised_at: now,
            cut_at: None,
        }
    }

    /// When the next token is there: `now` if one already is.
    pub fn ready_at(&mut self, now: Instant) -> Instant {
        self.refill(now);
        if self.tokens >= 1.0 {
            return now;
        }
        let wait_seconds = (1.0 - self.tokens) / self.rate_per_second;
        now + Duration::from_secs_f64(wait_seconds)
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// A request that was sent at `sent_at` was throttled. Requests sent before the last cut say
    /// nothing about the rate since, so there is one cut per round trip.
    pub fn throttled(&mut self, sent_at: Instant, now: Instant) {
        self.refill(now);
        self.tokens = 0.0;
        self.raised_at = now;
        if self.cut_at.is_some_and(|cut_at| sent_at <= cut_at) {
            return;
        }
        self.rate_per_second =
            (self.rate_per_second * CUT).max(RATE_MIN.min(self.quota_per_second));
        self.cut_at = Some(now);
    }

    /// Requests per second at present.
    pub fn rate_per_second(&self) -> f64 {
        self.rate_per_second
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let gained = elapsed.as_secs_f64() * self.rate_per_second;
        self.tokens = (self.tokens + gained).min(self.capacity);
        self.refilled_at = self.refilled_at.max(now);
        while self.rate_per_second < self.quota_per_second
            && now.saturating_duration_since(self.raised_at) >= QUIET
        {
            self.raised_at += QUIET;
            self.rate_per_second = (self.rate_per_second + RAISE).min(self.quota_per_second);
        }
        if self.rate_per_second >= self.quota_per_second {
            self.raised_at = now;
        }
    }
}

/// One bucket that several tasks spend from.
#[derive(Debug)]
pub struct SharedLimiter(Mutex<Limiter>);

impl SharedLimiter {
    #[must_use]
    pub fn new(limiter: Limiter) -> Self {
        Self(Mutex::new(limiter))
    }

    /// Waits for a token and takes it. Whoever waits holds up nobody else.
    pub async fn take(&self) {
        loop {
            let now = Instant::now();
            let ready_at = {
                let mut limiter = self.lock();
                if limiter.try_take(now) {
                    return;
                }
                limiter.ready_at(now)
            };
            tokio::time::sleep_until(ready_at).await;
        }
    }

    /// As [`Limiter::throttled`].
    pub fn throttled(&self, sent_at: Instant, now: Instant) {
        self.lock().throttled(sent_at, now);
    }

    fn lock(&self) -> MutexGuard<'_, Limiter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_burst_and_rate_allow(
            steps_ms in proptest::collection::vec(0_u64..400, 1..150),
        ) {
            let start = Instant::now();
            let mut limiter = Limiter::new(10.0, 30, start);
            let mut now = start;
            let mut taken = Vec::new();
            for step_ms in steps_ms {
                now += Duration::from_millis(step_ms);
                while limiter.try_take(now) {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (index, to) in taken.iter().enumerate().skip(first) {
                    let count = f64::from(u32::try_from(index - first + 1).unwrap());
                    let window = to.duration_since(*from).as_secs_f64();
                    prop_assert!(count <= 30.0 + 10.0 * window + 1e-6);
                }
            }
        }

        #[test]
        fn a_busy_bucket_uses_its_whole_quota(quota in 1_u32..200, tick_ms in 1_u64..90) {
            let start = Instant::now();
            let mut limiter = Limiter::new(f64::from(quota), 30, start);
            let mut taken = 0_u32;
            let mut now = start;
            while now < start + Duration::from_secs(60) {
                while limiter.try_take(now) {
                    taken += 1;
                }
                now += Duration::from_millis(tick_ms);
            }
            // The bucket starts empty: the first token takes its time.
            prop_assert!(f64::from(taken) + 1.0 >= f64::from(quota) * 60.0 * 0.99);
        }
    }

    #[test]
    fn it_starts_empty_so_that_a_restart_spends_nothing_twice() {
        let now = Instant::now();
        assert!(!Limiter::new(10.0, 30, now).try_take(now));
    }

    #[test]
    fn the_time_it_gives_is_the_time_of_the_next_token() {
        let now = Instant::now();
        let mut limiter = Limiter::new(10.0, 30, now);
        let ready = limiter.ready_at(now);
        assert!(limiter.try_take(ready + Duration::from_micros(1)));
    }

    #[test]
    fn throttling_cuts_once_per_round_trip_and_quiet_raises_again() {
        let start = Instant::now();
        let mut limiter = Limiter::new(10.0, 30, start);
        let later = start + Duration::from_secs(1);
        limiter.throttled(start, later);
        limiter.throttled(start, later + Duration::from_millis(50));
        assert!((limiter.rate_per_second() - 7.0).abs() < 1e-9);
        limiter.ready_at(later + Duration::from_secs(11));
        assert!((limiter.rate_per_second() - 8.0).abs() < 1e-9);
        limiter.ready_at(later + Duration::from_secs(600));
        assert!((limiter.rate_per_second() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_sweep_at_two_requests_a_second_is_delayed_by_seconds_when_it_meets_four_throttles() {
        let start = Instant::now();
        let mut limiter = Limiter::new(2.0, 4, start);
        let mut now = start + Duration::from_secs(60);
        for throttled in [true, true, true, true, false] {
            now = limiter.ready_at(now) + Duration::from_micros(1);
            assert!(limiter.try_take(now));
            if throttled {
                let sent_at = now;
                now += Duration::from_millis(20);
                limiter.throttled(sent_at, now);
            }
        }
        let delay = (now - start).saturating_sub(Duration::from_secs(60));
        assert!(delay < Duration::from_secs(7), "{delay:?}");
    }

    #[test]
    fn it_never_falls_silent() {
        let mut now = Instant::now();
        let mut limiter = Limiter::new(10.0, 30, now);
        for _ in 0..100 {
            now += Duration::from_secs(1);
            limiter.throttled(now, now);
        }
        assert!(limiter.rate_per_second() >= RATE_MIN);
    }
}
