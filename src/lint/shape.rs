//! The words in which [`schema`](super::schema) says what a finding's members may be.

/// What a value must be.
#[derive(Debug)]
pub(super) enum Kind {
    /// Of so many characters, not all of them white space.
    Text {
        chars_min: usize,
        chars_max: usize,
    },
    /// A text for which AWS states no limit.
    AnyText,
    Url,
    Time,
    /// An account id: 12 digits.
    Account,
    OneOf(&'static [&'static str]),
    Partition,
    /// `namespace/category/classifier`.
    FindingType,
    /// A whole number from 0.
    Count {
        max: i64,
    },
    Number,
    Bool,
    List {
        items_min: usize,
        items_max: usize,
        of: &'static Kind,
    },
    /// A list for which AWS states no limit.
    AnyList(&'static Kind),
    /// A map of texts; limits in characters, inclusive.
    Pairs {
        pairs_max: usize,
        key_chars_max: usize,
        value_chars_max: usize,
    },
    Object(&'static [Member]),
    /// A part of ASFF that no patch finding has: its inside isn't looked at.
    Unchecked,
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// Why it had better not be there.
    pub advice: Option<&'static str>,
}

impl Member {
    /// A warning wherever the member is there.
    pub const fn but(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, required: true, advice: None }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, required: false, advice: None }
}

pub(super) const fn text(chars_max: usize) -> Kind {
    Kind::Text { chars_min: 1, chars_max }
}
