//! A request that carried a finding and did not get it acknowledged.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Text, UnixMillis};

/// Failed attempts that are kept of one version of a finding: the first, and the latest.
pub const ATTEMPTS_KEPT_MAX: usize = 8;

/// How an attempt failed. The codes are stable: receipts are evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The hub failed this finding, with a code that may heal.
    FailedByHub,
    /// The hub called the finding, or the call that it was part of, invalid.
    CalledInvalid,
    Throttled,
    /// No answer, or a 5xx: timeout, connect, DNS, TLS, a cut body.
    Unavailable,
    /// Credentials, permission, or a hub that is off.
    Held,
    /// An answer that doesn't say what became of the finding.
    Unknown,
}

impl AttemptOutcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailedByHub => "failed_by_hub",
            Self::CalledInvalid => "called_invalid",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Held => "held",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub sent_at: UnixMillis,
    pub outcome: AttemptOutcome,
    /// What the hub or the connection said.
    pub detail: Text<128>,
}

/// The failed attempts of one version: the first, and the latest, [`ATTEMPTS_KEPT_MAX`] in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Attempts(Vec<Attempt>);

impl Attempts {
    pub fn push(&mut self, attempt: Attempt) {
        if self.0.len() == ATTEMPTS_KEPT_MAX {
            self.0.remove(1);
        }
        self.0.push(attempt);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Attempt> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Attempts {
    type Item = &'a Attempt;
    type IntoIter = std::slice::Iter<'a, Attempt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de> Deserialize<'de> for Attempts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut attempts = Vec::<Attempt>::deserialize(deserializer)?;
        attempts.truncate(ATTEMPTS_KEPT_MAX);
        Ok(Self(attempts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Attempt {
        Attempt {
            sent_at: UnixMillis(ms),
            outcome: AttemptOutcome::Throttled,
            detail: Text::default(),
        }
    }

    #[test]
    fn the_first_attempt_and_the_latest_are_kept() {
        let mut attempts = Attempts::default();
        for ms in 1..=20 {
            attempts.push(at(ms));
        }
        let kept: Vec<i64> = attempts.iter().map(|attempt| attempt.sent_at.0).collect();
        assert_eq!(kept, [1, 14, 15, 16, 17, 18, 19, 20]);
    }
}
