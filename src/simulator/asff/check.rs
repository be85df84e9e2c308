//! Checks of single values, with complaints in the words of the validator that the service uses
//! (`data.Title should NOT be longer than 256 characters`). No check knows a field of ASFF.

use std::fmt;

use super::shapes::{Pairs, Str};
use crate::simulator::clock::parse_timestamp;

/// Where in a finding a value stands; rendered only when there is something to complain about.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

impl At<'static> {
    pub(super) const ROOT: Self = At { parent: None, step: Step::Root };
}

impl<'p> At<'p> {
    pub(super) fn field(&'p self, name: &'p str) -> At<'p> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    pub(super) fn index(&'p self, index: usize) -> At<'p> {
        At { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("data"),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// Collects complaints.
#[derive(Default)]
pub(super) struct Check {
    pub complaints: Vec<String>,
}

impl Check {
    pub(super) fn complain(&mut self, at: &At<'_>, complaint: impl fmt::Display) {
        self.complaints.push(format!("{at} {complaint}"));
    }

    pub(super) fn missing(&mut self, at: &At<'_>, name: &str) {
        self.complain(at, format_args!("should have required property '{name}'"));
    }

    /// The value of a required property, or a complaint.
    pub(super) fn required<'v, T>(
        &mut self,
        at: &At<'_>,
        name: &str,
        value: Option<&'v T>,
    ) -> Option<&'v T> {
        if value.is_none() {
            self.missing(at, name);
        }
        value
    }

    /// A text of 1..=`chars_max` characters, one of them no white space.
    pub(super) fn text(
        &mut self,
        at: &At<'_>,
        name: &str,
        text: Option<&Str<'_>>,
        chars_max: usize,
    ) {
        if let Some(text) = text {
            self.bare_text(&at.field(name), text, chars_max);
        }
    }

    pub(super) fn required_text(
        &mut self,
        at: &At<'_>,
        name: &str,
        text: Option<&Str<'_>>,
        chars_max: usize,
    ) {
        let text = self.required(at, name, text);
        self.text(at, name, text, chars_max);
    }

    pub(super) fn bare_text(&mut self, at: &At<'_>, text: &str, chars_max: usize) {
        if text.is_empty() {
            self.complain(at, "should NOT be shorter than 1 characters");
        } else if text.trim_start().is_empty() {
            self.complain(at, r#"should match pattern ".*\S.*""#);
        }
        self.at_most(at, text, chars_max);
    }

    fn at_most(&mut self, at: &At<'_>, text: &str, chars_max: usize) {
        // No text has more characters than bytes, so most need no counting.
        if text.len() > chars_max && text.chars().count() > chars_max {
            self.complain(at, format_args!("should NOT be longer than {chars_max} characters"));
        }
    }

    pub(super) fn texts(
        &mut self,
        at: &At<'_>,
        name: &str,
        texts: Option<&Vec<Str<'_>>>,
        (items_max, chars_max): (usize, usize),
    ) {
        let Some(texts) = texts else { return };
        let at = at.field(name);
        self.items(&at, texts.len(), 0, items_max);
        for (index, text) in texts.iter().enumerate() {
            self.bare_text(&at.index(index), text, chars_max);
        }
    }

    pub(super) fn items(&mut self, at: &At<'_>, len: usize, items_min: usize, items_max: usize) {
        if len < items_min {
            self.complain(at, format_args!("should NOT have fewer than {items_min} items"));
        }
        if len > items_max {
            self.complain(at, format_args!("should NOT have more than {items_max} items"));
        }
    }

    /// A map of at most `pairs_max`; limits in characters, both inclusive.
    pub(super) fn pairs(
        &mut self,
        at: &At<'_>,
        pairs: &Pairs<'_>,
        pairs_max: usize,
        (key_chars_max, value_chars_max): (usize, usize),
    ) {
        if pairs.0.len() > pairs_max {
            self.complain(at, format_args!("should NOT have more than {pairs_max} properties"));
        }
        for (key, value) in &pairs.0 {
            let at = at.field(key);
            if key.trim_start().is_empty() {
                self.complain(&at, "property name is blank");
            }
            self.at_most(&at, key, key_chars_max);
            self.bare_text(&at, value, value_chars_max);
        }
    }

    pub(super) fn one_of(
        &mut self,
        at: &At<'_>,
        name: &str,
        value: Option<&Str<'_>>,
        allowed: &[&str],
    ) {
        if value.is_some_and(|value| !allowed.contains(&&**value)) {
            let at = at.field(name);
            self.complain(&at, "should be equal to one of the allowed values");
        }
    }

    pub(super) fn number(&mut self, at: &At<'_>, name: &str, value: Option<i64>, max: i64) {
        let Some(value) = value else { return };
        if value < 0 {
            self.complain(&at.field(name), "should be >= 0");
        }
        if value > max {
            self.complain(&at.field(name), format_args!("should be <= {max}"));
        }
    }

    pub(super) fn time(&mut self, at: &At<'_>, name: &str, time: Option<&Str<'_>>) {
        if time.is_some_and(|time| parse_timestamp(time).is_none()) {
            self.complain(&at.field(name), r#"should match format "date-time""#);
        }
    }
}
