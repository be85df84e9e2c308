//! Points in time as milliseconds, and the clock that gives them.
//!
//! Milliseconds are what Security Hub keeps of a timestamp (it rounds nanoseconds; API Reference,
//! "Timestamps"), so nothing finer is kept here. Order never comes from these values.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

/// 9999-12-30T22:00:00Z, the last instant that jiff represents: it keeps a day free, so that no
/// offset leads beyond what RFC 3339 can say.
const LATEST: i64 = 253_402_207_200_000;

/// 1971-01-01: AWS's way of saying "no time" is older: epoch 0 for what isn't there, 0001-01-01 for
/// what Windows doesn't know.
const EARLIEST_GIVEN: i64 = 365 * 24 * 3_600 * 1_000;

impl UnixMillis {
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// `None` for a time that stands for "not given".
    #[must_use]
    pub fn given(self) -> Option<Self> {
        (self.0 >= EARLIEST_GIVEN).then_some(self)
    }

    /// From seconds since 1970, fractions included, as AWS writes times in JSON; `None` for one
    /// that no calendar has.
    #[must_use]
    pub fn from_epoch_seconds(seconds: f64) -> Option<Self> {
        let millis = (seconds * 1_000.0).round();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // below 2^53
        (millis.abs() <= LATEST as f64).then_some(Self(millis as i64))
    }

    /// Time from `earlier` to `self`; zero if the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC; milliseconds only if there are any (`2021-11-11T22:05:25Z`).
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let clamped = self.0.clamp(0, LATEST);
        let timestamp = jiff::Timestamp::from_millisecond(clamped)
            .expect("a millisecond between 1970 and 9999 is in jiff's range");
        timestamp.to_string()
    }

    /// Parses RFC 3339, any offset.
    ///
    /// # Errors
    /// If `text` is no RFC 3339 timestamp.
    pub fn parse_rfc3339(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(|timestamp| Self(timestamp.as_millisecond()))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Where "now" comes from: the machine, or a test.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Fn() -> UnixMillis + Send + Sync>>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that asks `now`: for tests that move time.
    #[must_use]
    pub fn custom(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    #[must_use]
    pub fn now(&self) -> UnixMillis {
        if let Some(custom) = &self.0 {
            return custom();
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(LATEST))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock::custom" } else { "Clock::system" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_written_as_aws_writes_them() {
        let end = UnixMillis::parse_rfc3339("2021-11-11T22:05:25Z").unwrap();
        assert_eq!(end.to_rfc3339(), "2021-11-11T22:05:25Z");
        assert_eq!(UnixMillis(end.0 + 7).to_rfc3339(), "2021-11-11T22:05:25.007Z");
    }

    #[test]
    fn times_out_of_range_are_clamped_not_fatal() {
        assert_eq!(UnixMillis(i64::MIN).to_rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixMillis(i64::MAX).to_rfc3339(), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn epoch_seconds_are_read_to_the_millisecond_and_only_within_the_calendar() {
        let from = UnixMillis::from_epoch_seconds;
        assert_eq!(from(1_636_668_325.123), Some(UnixMillis(1_636_668_325_123)));
        assert_eq!(from(-1.5), Some(UnixMillis(-1_500)));
        for none in [f64::NAN, f64::INFINITY, 1e300, -1e300, 253_402_207_201.0] {
            assert_eq!(from(none), None, "{none}");
        }
    }

    #[test]
    fn no_time_epoch_and_year_one_all_mean_not_given() {
        assert_eq!(UnixMillis(0).given(), None);
        assert_eq!(UnixMillis(-62_135_596_800_000).given(), None);
        let given = UnixMillis(1_636_668_325_000);
        assert_eq!(given.given(), Some(given));
    }

    #[test]
    fn a_clock_that_went_backwards_gives_a_zero_duration() {
        assert_eq!(UnixMillis(1).since(UnixMillis(5)), Duration::ZERO);
    }
}
