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

use super::version::FormatVersion;

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

    /// `None` if the text is damaged.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let number = lines.next()?.strip_prefix("store-")?.parse().ok()?;
        let format = FormatVersion(lines.next()?.strip_prefix("format ")?.parse().ok()?);
        let mut previous = Previous::None;
        let mut line = lines.next();
        if let Some(discarded) = line.and_then(|line| line.strip_prefix("discards store-")) {
            previous = Previous::Discard(discarded.parse().ok()?);
            line = lines.next();
        } else if let Some(kept) = line.and_then(|line| line.strip_prefix("sets-aside store-")) {
            previous = Previous::SetAside(kept.parse().ok()?);
            line = lines.next();
        }
        match line {
            None if format == FormatVersion(1) && previous == Previous::None => {}
            Some(line) => {
                let crc = u32::from_str_radix(line.strip_prefix("crc ")?, 16).ok()?;
                let (body, _) = text.rsplit_once("crc ")?;
                if crc32fast::hash(body.as_bytes()) != crc {
                    return None;
                }
            }
            None => return None,
        }
        Some(Self { number, format, previous })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [Pointer; 3] = [
        Pointer { number: 1, format: FormatVersion(2), previous: Previous::None },
        Pointer { number: 20, format: FormatVersion(2), previous: Previous::Discard(19) },
        Pointer { number: 3, format: FormatVersion(7), previous: Previous::SetAside(1) },
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
