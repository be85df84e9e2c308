//! A token bucket, full at the start: how AWS counts requests against a quota.

use tokio::time::Instant;

use super::config::Quota;

/// Counts requests against a [`Quota`]; without one, lets all pass.
#[derive(Debug)]
pub(super) struct TokenBucket {
    quota: Option<Quota>,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    pub(super) fn full(quota: Option<Quota>, now: Instant) -> Self {
        Self { quota, tokens: quota.map_or(0.0, |quota| quota.burst), filled_at: now }
    }

    /// Takes a token if there is one; a refused request costs nothing.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let Some(quota) = self.quota else { return true };
        let elapsed_seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed_seconds * quota.per_second).min(quota.burst);
        self.filled_at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// Changes the quota; what is in the bucket stays, as far as it still fits.
    pub(super) fn set_quota(&mut self, quota: Option<Quota>, now: Instant) {
        match (self.quota, quota) {
            (Some(_), Some(new)) => self.tokens = self.tokens.min(new.burst),
            (None, Some(new)) => self.tokens = new.burst,
            (_, None) => {}
        }
        self.quota = quota;
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let quota = Quota { per_second: 10.0, burst: 30.0 };
        let mut bucket = TokenBucket::full(Some(quota), start);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 30);
        let second_later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(second_later)).count(), 10);
    }

    #[test]
    fn without_a_quota_everything_passes() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(None, start);
        assert!((0..1_000).all(|_| bucket.take(start)));
    }

    #[test]
    fn a_lowered_quota_counts_at_once() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(Some(Quota { per_second: 10.0, burst: 30.0 }), start);
        bucket.set_quota(Some(Quota { per_second: 1.0, burst: 2.0 }), start);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 2);
    }
}
