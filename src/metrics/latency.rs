//! Quantiles of the latencies seen since the start, for the status page, in constant memory.
//!
//! Guarantees: 5 KiB whatever is recorded; a quantile is at most 1/16 above the true one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Each power of two of milliseconds is divided in as many buckets.
const STEPS: u64 = 16;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// 2^40 ms are 35 years.
const EXPONENT_MAX: u32 = 40;
const BUCKETS: usize = ((EXPONENT_MAX - STEPS_LOG2 + 2) as usize) << STEPS_LOG2;

pub(super) struct Sketch {
    counts: Box<[AtomicU64]>,
}

/// Latencies from acceptance to the hub's acknowledgement, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Deliveries since the start.
    pub count: u64,
    pub p50_seconds: f64,
    pub p95_seconds: f64,
    pub p99_seconds: f64,
}

impl Sketch {
    pub fn new() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }

    pub fn record(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.counts[bucket(latency_ms)].fetch_add(1, Ordering::Relaxed);
    }

    /// `None` before the first delivery.
    pub fn summary(&self) -> Option<LatencySummary> {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        if count == 0 {
            return None;
        }
        let quantile = |percent: u64| {
            let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).max(1);
            let mut below = 0_u128;
            let bucket = counts.iter().position(|bucket_count| {
                below += u128::from(*bucket_count);
                below >= rank
            });
            Duration::from_millis(upper_bound_ms(bucket.unwrap_or(BUCKETS - 1))).as_secs_f64()
        };
        Some(LatencySummary {
            count,
            p50_seconds: quantile(50),
            p95_seconds: quantile(95),
            p99_seconds: quantile(99),
        })
    }
}

fn bucket(latency_ms: u64) -> usize {
    let latency_ms = latency_ms.min((1 << EXPONENT_MAX) - 1);
    let exponent = latency_ms.max(1).ilog2();
    let index = if exponent < STEPS_LOG2 {
        latency_ms
    } else {
        let shift = exponent - STEPS_LOG2;
        u64::from(shift + 1) * STEPS + ((latency_ms >> shift) - STEPS)
    };
    usize::try_from(index).unwrap_or(BUCKETS - 1).min(BUCKETS - 1)
}

/// The largest latency that falls in the bucket.
fn upper_bound_ms(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_known_latencies_are_near_the_truth() {
        let sketch = Sketch::new();
        assert_eq!(sketch.summary(), None);
        for latency_ms in 1..=1000 {
            sketch.record(Duration::from_millis(latency_ms));
        }
        let summary = sketch.summary().unwrap();
        assert_eq!(summary.count, 1000);
        assert!((0.5..0.535).contains(&summary.p50_seconds), "{summary:?}");
        assert!((0.99..1.06).contains(&summary.p99_seconds), "{summary:?}");
    }

    proptest! {
        #[test]
        fn a_latency_lies_at_most_a_sixteenth_below_its_bucket_s_bound(latency_ms in 0..1_u64 << 40) {
            let bound_ms = upper_bound_ms(bucket(latency_ms));
            prop_assert!(bound_ms >= latency_ms);
            prop_assert!(bound_ms <= latency_ms + latency_ms / STEPS + 1);
        }

        #[test]
        fn no_latency_is_too_long_to_be_recorded(latency_ms: u64) {
            Sketch::new().record(Duration::from_millis(latency_ms));
        }
    }
}
