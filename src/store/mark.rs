//! The high-water mark: up to which commit a store is known to be on disk.
//!
//! Constraints before mechanism:
//! - The engine opens a database file that was cut, or an older copy of it, as the consistent
//!   store that it once was, without a word. What came later is gone, and nobody would know.
//! - So each commit group that writes has a number, in its own batch, and after each flush that
//!   number goes to the file `mark` beside the store. A store whose number is lower than its mark
//!   has been rolled back.
//! - The file isn't fsynced: it is written after the flush that it tells of, so neither a kill nor
//!   a power cut can leave it ahead of its store. One that is missing, damaged, older, or of
//!   another store proves nothing and alarms nobody.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `PFMARK` and the version, 1, as u16 |
//! | 8 | the store's identity |
//! | 8 | the number of its directory, for people |
//! | 8 | commit number |
//! | 4 | CRC-32 of all above |
//!
//! Numbers are little endian.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::meta::Identity;

const MAGIC: [u8; 8] = *b"PFMARK\x01\x00";
const BYTES: usize = 36;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    pub identity: Identity,
    pub number: u64,
    pub commit: u64,
}

impl Marked {
    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.identity.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.commit.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let crc = u32::from_le_bytes(bytes[32..].try_into().ok()?);
        if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..32]) != crc {
            return None;
        }
        let number = |from: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes[from..from + 8].try_into().ok()?))
        };
        Some(Self { identity: Identity(number(8)?), number: number(16)?, commit: number(24)? })
    }
}

/// Reads the mark; `None` if there is none that can be trusted.
pub fn read(path: &Path) -> Option<Marked> {
    Marked::decode(&std::fs::read(path).ok()?)
}

/// Keeps the mark of one store.
pub struct Mark {
    file: Option<File>,
    identity: Identity,
    number: u64,
}

impl Mark {
    /// A mark that can't be kept is a safeguard less, and no reason to stop.
    pub fn open(path: &Path, identity: Identity, number: u64) -> Self {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .and_then(|file| match file.metadata()?.len() {
                0..=36 => Ok(file),
                _ => file.set_len(0).map(|()| file),
            });
        let file = match opened {
            Ok(file) => Some(file),
            Err(error) => {
                report(&error);
                None
            }
        };
        Self { file, identity, number }
    }

    /// Notes that everything up to `commit` is on disk.
    pub fn note(&mut self, commit: u64) {
        let Some(file) = &self.file else { return };
        let marked = Marked { identity: self.identity, number: self.number, commit };
        if let Err(error) = file.write_all_at(&marked.encode(), 0) {
            report(&error);
            self.file = None;
        }
    }
}

fn report(error: &io::Error) {
    tracing::warn!(
        %error,
        "the file `mark` can't be written: until the next start, a store that is replaced by an \
         older copy of itself isn't noticed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: Marked = Marked { identity: Identity(7), number: 3, commit: 1 << 40 };

    #[test]
    fn a_mark_is_read_as_it_was_noted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mark");
        assert_eq!(read(&path), None);
        let mut mark = Mark::open(&path, MARKED.identity, MARKED.number);
        mark.note(1);
        mark.note(MARKED.commit);
        assert_eq!(read(&path), Some(MARKED));
    }

    #[test]
    fn a_damaged_mark_is_none() {
        let bytes = MARKED.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(Marked::decode(&damaged), None, "byte {at}");
            assert_eq!(Marked::decode(&bytes[..at]), None);
        }
        assert_eq!(Marked::decode(&bytes), Some(MARKED));
    }
}
