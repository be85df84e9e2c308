//! A text that can't be longer than its type says.
//!
//! AWS documents most of its limits in prose only, so the SDK doesn't check them; here a limit
//! is part of the type, and a longer input is cut, visibly, when it is made.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a cut text ends with.
pub const TRUNCATION_MARK: char = '…';

/// A text of at most `MAX_CHARS` Unicode scalar values.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Text<const MAX_CHARS: usize>(Box<str>);

impl<const MAX_CHARS: usize> Text<MAX_CHARS> {
    /// Takes `value` whole, or its first `MAX_CHARS - 1` characters and [`TRUNCATION_MARK`].
    #[must_use]
    pub fn truncated(value: &str) -> Self {
        // Bytes are never fewer than characters: the common case needs no counting.
        if value.len() <= MAX_CHARS || value.chars().count() <= MAX_CHARS {
            return Self(value.into());
        }
        let mut cut: String = value.chars().take(MAX_CHARS.saturating_sub(1)).collect();
        cut.push(TRUNCATION_MARK);
        Self(cut.into_boxed_str())
    }

    /// `None` for an empty or blank text: AWS's way of saying "not given".
    #[must_use]
    pub fn non_blank(value: &str) -> Option<Self> {
        (!value.trim().is_empty()).then(|| Self::truncated(value))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// Whether the text was cut when it was made.
    #[must_use]
    pub fn was_truncated(&self) -> bool {
        self.0.ends_with(TRUNCATION_MARK) && self.0.chars().count() == MAX_CHARS
    }
}

impl<const MAX_CHARS: usize> fmt::Debug for Text<MAX_CHARS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX_CHARS: usize> fmt::Display for Text<MAX_CHARS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX_CHARS: usize> From<&str> for Text<MAX_CHARS> {
    fn from(value: &str) -> Self {
        Self::truncated(value)
    }
}

impl<const MAX_CHARS: usize> Serialize for Text<MAX_CHARS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX_CHARS: usize> Deserialize<'de> for Text<MAX_CHARS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|value| Self::truncated(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_its_limit_is_kept_whole() {
        assert_eq!(Text::<4>::truncated("äöüß").as_str(), "äöüß");
        assert!(!Text::<4>::truncated("äöüß").was_truncated());
    }

    #[test]
    fn a_longer_text_is_cut_and_says_so() {
        let cut = Text::<4>::truncated("abcdef");
        assert_eq!(cut.as_str(), "abc…");
        assert!(cut.was_truncated());
    }

    #[test]
    fn blank_means_not_given() {
        assert_eq!(Text::<4>::non_blank("  "), None);
    }
}
