//! Keys: one table byte, then fields that sort as their values do.
//!
//! | part | bytes |
//! |---|---|
//! | table | 1, see [`Table`] |
//! | text | UTF-8 without NUL, then one NUL |
//! | u8, u16, u64 | big endian |
//!
//! A table's byte is reserved for ever, also when the table is retired.

/// The tables of the one tree. Since format 1 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Format version, counters.
    Meta = 0x01,
    /// Pages of observations: sequence, lane.
    Observed = 0x10,
    /// Pages of assessments: sequence, lane.
    Assessed = 0x11,
    /// Findings that wait for delivery: lane, priority, place.
    Outbox = 0x12,
    /// Findings that wait for their time: lane, due, place.
    Delayed = 0x13,
    /// Where a node's delayed finding is: lane, node, place.
    DelayedIndex = 0x14,
    /// Assessments whose lane is being read back: lane, node, read number or 0. Since format 2;
    /// in format 1, pages: lane, sequence.
    Parked = 0x15,
    /// Ledger row of ingest: lane, node.
    Seen = 0x20,
    /// Ledger row of transform: lane, node.
    Desired = 0x21,
    /// Ledger row of deliver: lane, node.
    Acked = 0x22,
    /// Patch lists: lane, node, read number, chunk.
    Details = 0x23,
    /// Nodes that no list names and of which nobody can say more: lane, node. Since format 3.
    Absent = 0x24,
    /// Findings that are closed and opened again since somebody had resolved them: lane, node.
    /// Since format 3.
    Reopening = 0x25,
    /// Dead letters: lane, node, stage, reason.
    Dead = 0x30,
    /// What became of dead letters that were redriven: lane, node. Since format 2.
    DeadHistory = 0x31,
    /// What is known of a lane: lane.
    Lane = 0x40,
    /// What an operator has paused: what, lane or nothing. Since format 2.
    Pause = 0x41,
    /// When a lane was last looked after, and what was found: lane. Since format 3.
    LaneCare = 0x42,
    /// Until when this store's owner was at work, and where: no fields. Since format 3.
    Tenure = 0x43,
}

impl Table {
    pub const ALL: [Self; 19] = [
        Self::Meta,
        Self::Observed,
        Self::Assessed,
        Self::Outbox,
        Self::Delayed,
        Self::DelayedIndex,
        Self::Parked,
        Self::Seen,
        Self::Desired,
        Self::Acked,
        Self::Details,
        Self::Absent,
        Self::Reopening,
        Self::Dead,
        Self::DeadHistory,
        Self::Lane,
        Self::Pause,
        Self::LaneCare,
        Self::Tenure,
    ];

    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        let byte = *key.first()?;
        Self::ALL.into_iter().find(|table| *table as u8 == byte)
    }
}

/// A key, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

impl Key {
    #[must_use]
    pub fn new(table: Table) -> Self {
        let mut bytes = Vec::with_capacity(56);
        bytes.push(table as u8);
        Self(bytes)
    }

    /// Wraps bytes that were read as a key.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Appends a text; NULs in it are replaced, since NUL ends it.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
        self.0.push(0);
        self
    }

    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first key after all keys that begin with this one; `None` if there is none.
    #[must_use]
    pub fn end_of_prefix(&self) -> Option<Self> {
        let mut bytes = self.0.clone();
        while let Some(last) = bytes.pop() {
            if last < u8::MAX {
                bytes.push(last + 1);
                return Some(Self(bytes));
            }
        }
        None
    }

    /// The key right after this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut bytes = self.0.clone();
        bytes.push(0);
        Self(bytes)
    }
}

/// Takes a key apart, field by field; each step gives `None` where the key has no such field.
pub struct KeyFields<'a>(&'a [u8]);

impl<'a> KeyFields<'a> {
    /// Fields after the table byte.
    #[must_use]
    pub fn of(key: &'a [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_as_their_fields(a in any::<(String, u8, u64)>(), b in any::<(String, u8, u64)>()) {
            let clean = |text: &str| text.replace('\0', "?");
            let (a, b) = ((clean(&a.0), a.1, a.2), (clean(&b.0), b.1, b.2));
            let key = |x: &(String, u8, u64)| Key::new(Table::Outbox).text(&x.0).u8(x.1).u64(x.2);
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_come_apart_as_they_were_made(text in "[^\0]{0,40}", small in any::<u8>(), large in any::<u64>()) {
            let key = Key::new(Table::Dead).text(&text).u8(small).u64(large);
            let mut fields = KeyFields::of(key.as_bytes());
            prop_assert_eq!(fields.text(), Some(text.as_str()));
            prop_assert_eq!(fields.u8(), Some(small));
            prop_assert_eq!(fields.u64(), Some(large));
            prop_assert_eq!(fields.u8(), None);
            prop_assert_eq!(Table::of(key.as_bytes()), Some(Table::Dead));
        }

        #[test]
        fn a_prefix_ends_after_all_its_keys(prefix in proptest::collection::vec(any::<u8>(), 0..4), rest in proptest::collection::vec(any::<u8>(), 0..4)) {
            let prefix = Key::from_bytes(prefix);
            let inside = Key::from_bytes([prefix.as_bytes(), &rest].concat());
            prop_assert!(inside >= prefix);
            if let Some(end) = prefix.end_of_prefix() {
                prop_assert!(inside < end);
            }
        }
    }
}
