//! `CURRENT`: which store is live, and what became of the one before.
//!
//! ```text
//! store-2
//! format 2
//! discards store-1
//! crc 5d41402a
//! ```
//!
//! The third line is there only if a store took another's place; it stays, so that what a kill
//! interrupts is finished at the next opening: `discards` after a copy of the same content,
//! `sets-aside` after a restore. The last line is the CRC-32 of all above it; format 1 had none.

use std::fmt::Write as _;

use super::version::{FORMAT_VERSION, FormatVersion};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub number: u64,
    /// As of when it was last opened; the authority is in the store.
    pub format: FormatVersion,
    pub previous: Previous,
}

/// What becomes of the store that was live before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    None,
    /// Its content is in the new one: removed.
    Discard(u64),
    /// Kept as `replaced-<n>`.
    SetAside(u64),
}

impl Pointer {
    pub fn render(&self) -> String {
        let mut text = format!("store-{}\nformat {}\n", self.number, self.format.0);
        match self.previous {
            Previous::None => {}
            Previous::Discard(number) => drop(writeln!(text, "discards store-{number}")),
            Previous::SetAside(number) => drop(writeln!(text, "sets-aside store-{number}")),
        }
        let crc = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "crc {crc:08x}");
        text
    }

    /// `None` if the text is damaged. Of a format that is newer than this patchferry only that is
    /// believed, whatever form its text has: it is to be left alone.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, is_checked) = checked(text)?;
        let mut lines = body.lines();
        let number = lines.next()?.strip_prefix("store-")?.parse().ok()?;
        let format = FormatVersion(lines.next()?.strip_prefix("format ")?.parse().ok()?);
        if format > FORMAT_VERSION {
            return Some(Self { number, format, previous: Previous::None });
        }
        let previous = lines.next().map_or(Some(Previous::None), Previous::parse)?;
        let is_format_1 = format == FormatVersion(1) && previous == Previous::None;
        let is_whole = lines.next().is_none() && (is_checked || is_format_1);
        is_whole.then_some(Self { number, format, previous })
    }
}

impl Previous {
    fn parse(line: &str) -> Option<Self> {
        if let Some(number) = line.strip_prefix("discards store-") {
            return Some(Self::Discard(number.parse().ok()?));
        }
        let number = line.strip_prefix("sets-aside store-")?;
        Some(Self::SetAside(number.parse().ok()?))
    }
}

/// The text before its checksum, and whether it has one; `None` if that doesn't match.
fn checked(text: &str) -> Option<(&str, bool)> {
    let Some((body, crc)) = text.rsplit_once("crc ") else { return Some((text, false)) };
    let crc = u32::from_str_radix(crc.trim_end_matches('\n'), 16).ok()?;
    (crc32fast::hash(body.as_bytes()) == crc).then_some((body, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [Pointer; 3] = [
        Pointer { number: 1, format: FormatVersion(2), previous: Previous::None },
        Pointer { number: 20, format: FormatVersion(2), previous: Previous::Discard(19) },
        Pointer { number: 3, format: FORMAT_VERSION, previous: Previous::SetAside(1) },
    ];

    #[test]
    fn what_is_written_is_read() {
        for pointer in SAMPLES {
            assert_eq!(Pointer::parse(&pointer.render()), Some(pointer));
        }
    }

    #[test]
    fn the_form_of_format_1_is_read() {
        let expected = Pointer { number: 1, format: FormatVersion(1), previous: Previous::None };
        assert_eq!(Pointer::parse("store-1\nformat 1\n"), Some(expected));
        assert_eq!(Pointer::parse("store-1\nformat 2\n"), None);
    }

    #[test]
    fn a_newer_format_is_known_as_such_whatever_else_is_said() {
        for text in ["store-4\nformat 9\n", "store-4\nformat 9\nby the way\n"] {
            assert_eq!(Pointer::parse(text).map(|it| it.format), Some(FormatVersion(9)));
        }
    }

    #[test]
    fn no_cut_and_no_flipped_bit_makes_it_name_another_store() {
        for pointer in SAMPLES {
            let text = pointer.render();
            for end in 0..text.len() {
                let cut = Pointer::parse(&text[..end]);
                assert!(cut.is_none_or(|cut| cut == pointer), "{:?}", &text[..end]);
                for bit in 0..8 {
                    let mut bytes = text.clone().into_bytes();
                    bytes[end] ^= 1 << bit;
                    let Ok(flipped) = String::from_utf8(bytes) else { continue };
                    let parsed = Pointer::parse(&flipped);
                    assert!(parsed.is_none_or(|it| it == pointer), "{flipped:?}");
                }
            }
        }
    }
}
