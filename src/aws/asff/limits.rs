//! Values that fit ASFF's limits because they can't be made otherwise.
//!
//! Sources of the limits: the Security Hub model's text (most are in prose, so the SDK doesn't
//! check them) and "Required/Optional top-level ASFF attributes". Every `NonEmptyString` has the
//! pattern `.*\S.*`: no value may be empty or blank.
//!
//! Guarantees: a [`Value`] has 1 to `MAX_CHARS` characters, not all blank, none of them a
//! control character; every cut is marked with `…` and counted; every byte is metered, as JSON.

use std::collections::HashMap;

use crate::record::{Text, text::TRUNCATION_MARK};

/// Pairs of `ProductFields` and of `Details.Other` (Security Hub model).
const PAIRS_MAX: usize = 50;
const PATCH_COUNT_MAX: u32 = 100_000;
/// Around a member: quotes, colon, comma, and a name.
const MEMBER_OVERHEAD_BYTES: usize = 40;
/// Around a pair of a map: four quotes, colon, comma.
const PAIR_OVERHEAD_BYTES: usize = 6;

/// A text that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value<const MAX_CHARS: usize>(String);

impl<const MAX_CHARS: usize> Value<MAX_CHARS> {
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Makes values, and keeps account of what was cut and how large it all becomes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    truncated: u32,
    clamped: u32,
    bytes: usize,
}

impl Meter {
    pub(super) fn truncated(&self) -> u32 {
        self.truncated
    }

    pub(super) fn clamped(&self) -> u32 {
        self.clamped
    }

    /// `PatchSummary` counts: 0..100000 (Security Hub model).
    pub(super) fn patch_count(&mut self, count: u32) -> i32 {
        self.clamped += u32::from(count > PATCH_COUNT_MAX);
        any_count(count.min(PATCH_COUNT_MAX))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `None` if `text` is blank.
    pub(super) fn value<const MAX_CHARS: usize>(&mut self, text: &str) -> Option<Value<MAX_CHARS>> {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if clean.chars().all(is_blank) {
            return None;
        }
        let mut fitting = clean;
        if fitting.chars().count() > MAX_CHARS {
            fitting = fitting.chars().take(MAX_CHARS - 1).collect();
            fitting.push(TRUNCATION_MARK);
        }
        // Counts the cuts of the records' own texts as well as those made here.
        if fitting.ends_with(TRUNCATION_MARK) {
            self.truncated += 1;
        }
        self.bytes += MEMBER_OVERHEAD_BYTES + json_bytes(&fitting);
        Some(Value(fitting))
    }

    /// A value as the SDK takes it.
    pub(super) fn text<const MAX_CHARS: usize>(&mut self, text: &str) -> Option<String> {
        self.value::<MAX_CHARS>(text).map(Value::into_string)
    }

    /// Of an optional text.
    pub(super) fn optional<const MAX_CHARS: usize, const GIVEN: usize>(
        &mut self,
        text: Option<&Text<GIVEN>>,
    ) -> Option<String> {
        self.text::<MAX_CHARS>(text?.as_str())
    }

    /// A list that had to be cut.
    pub(super) fn count_cut(&mut self) {
        self.truncated += 1;
    }

    /// Something of ours whose size is known: a number, a constant, the braces of an object.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

/// A map that fits: `ProductFields` (keys up to 128 characters, values up to 2048) and
/// `Details.Other` (both limits exclusive: 127 and 1023).
#[derive(Debug, Default)]
pub(super) struct Pairs<const VALUE_CHARS_MAX: usize> {
    pairs: HashMap<String, String>,
}

impl<const VALUE_CHARS_MAX: usize> Pairs<VALUE_CHARS_MAX> {
    /// Leaves out a blank value, and whatever comes after the 50th pair.
    ///
    /// Keys are constants of ours: the shortest limit, 127 characters, is theirs by construction.
    pub(super) fn put(&mut self, meter: &mut Meter, key: &'static str, value: &str) {
        debug_assert!(key.len() <= 127 && !key.starts_with("aws/"), "{key}");
        if self.pairs.len() == PAIRS_MAX {
            return;
        }
        if let Some(value) = meter.text::<VALUE_CHARS_MAX>(value) {
            meter.add(PAIR_OVERHEAD_BYTES + key.len());
            self.pairs.insert(key.to_owned(), value);
        }
    }

    pub(super) fn put_given<const GIVEN: usize>(
        &mut self,
        meter: &mut Meter,
        key: &'static str,
        value: Option<&Text<GIVEN>>,
    ) {
        if let Some(value) = value {
            self.put(meter, key, value.as_str());
        }
    }

    /// `None` if there is nothing in it.
    pub(super) fn into_map(self) -> Option<HashMap<String, String>> {
        (!self.pairs.is_empty()).then_some(self.pairs)
    }
}

/// Counts without a documented limit.
pub(super) fn any_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// ECMAScript's `\s`, by which the service judges, has U+FEFF as well.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// Bytes of `text` in JSON, without its quotes. Control characters are gone already.
fn json_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| matches!(b, b'"' | b'\\')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_blank_or_too_long_and_cuts_are_counted() {
        let mut meter = Meter::default();
        assert_eq!(meter.text::<4>(" \n\u{feff}"), None);
        assert_eq!(meter.text::<4>("abcd").as_deref(), Some("abcd"));
        assert_eq!(meter.truncated(), 0);
        assert_eq!(meter.text::<4>("äöüßx").as_deref(), Some("äöü…"));
        assert_eq!(meter.truncated(), 1);
    }

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(Meter::default().text::<9>("a\u{0}b\n").as_deref(), Some("a b "));
    }

    #[test]
    fn patch_counts_stop_at_the_documented_maximum() {
        let mut meter = Meter::default();
        assert_eq!((meter.patch_count(100_000), meter.clamped()), (100_000, 0));
        assert_eq!((meter.patch_count(u32::MAX), meter.clamped()), (100_000, 1));
    }
}
