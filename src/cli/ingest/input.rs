//! The input, line by line, cut into chunks by a thread that reads one chunk ahead.
//!
//! Guarantees: however long the input and its lines are, two chunks of it are in memory; a line
//! that hasn't come yet doesn't keep those that have from being handed on; lines are numbered
//! from 1, skipped ones included.
//!
//! Deliberately doesn't know: what is in a line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    thread,
};

use tokio::sync::mpsc;

use crate::app::ingest::{CHUNK_LINES_MAX, LINE_BYTES_MAX, LineRefusal as Refusal};

/// Of the lines of one chunk; the last may go beyond it.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// A part of the input, in its order.
#[derive(Debug)]
pub enum Piece {
    /// Lines that follow each other.
    Chunk { first_line: u64, lines: Vec<String> },
    /// A line that is no text, or too long to be kept.
    Unfit { line: u64, refusal: Refusal },
    /// The input can't be read on; all before it was handed on.
    Failed(io::Error),
}

/// Opens a file, or standard input if its name is `-`.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(Box::new(file))
}

/// Reads `input` in a thread of its own, which ends with the input or with the receiver.
pub fn pieces(input: Box<dyn Read + Send>, from_line: u64) -> io::Result<mpsc::Receiver<Piece>> {
    let (sender, pieces) = mpsc::channel(1);
    thread::Builder::new().name("input".into()).spawn(move || {
        let reader = BufReader::with_capacity(CHUNK_BYTES_MAX, input);
        // The receiver has gone away: nobody wants the rest.
        let _ = Pump { reader, sender, first_line: 1, lines: Vec::new(), bytes: 0 }.run(from_line);
    })?;
    Ok(pieces)
}

type Sent = Result<(), mpsc::error::SendError<Piece>>;

struct Pump<R> {
    reader: BufReader<R>,
    sender: mpsc::Sender<Piece>,
    /// Of `lines`.
    first_line: u64,
    lines: Vec<String>,
    bytes: usize,
}

/// One line as it was read, without its end.
enum Raw {
    Bytes(Vec<u8>),
    TooLong { bytes: usize },
}

impl<R: Read> Pump<R> {
    fn run(mut self, from_line: u64) -> Sent {
        for number in 1.. {
            // Reading on may take as long as somebody types.
            if !self.reader.buffer().contains(&b'\n') {
                self.flush()?;
            }
            let raw = match self.line() {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(error) => {
                    self.flush()?;
                    return self.sender.blocking_send(Piece::Failed(error));
                }
            };
            if number >= from_line {
                self.push(number, raw)?;
            }
        }
        self.flush()
    }

    fn push(&mut self, number: u64, raw: Raw) -> Sent {
        let text = match raw {
            Raw::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| Refusal::NotText),
            Raw::TooLong { bytes } => Err(Refusal::TooLong { bytes }),
        };
        match text {
            Ok(text) => {
                if self.lines.is_empty() {
                    self.first_line = number;
                }
                self.bytes += text.len();
                self.lines.push(text);
                if self.lines.len() == CHUNK_LINES_MAX || self.bytes >= CHUNK_BYTES_MAX {
                    self.flush()?;
                }
                Ok(())
            }
            Err(refusal) => {
                self.flush()?;
                self.sender.blocking_send(Piece::Unfit { line: number, refusal })
            }
        }
    }

    fn flush(&mut self) -> Sent {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        self.sender.blocking_send(Piece::Chunk { first_line: self.first_line, lines })
    }

    /// The next line; `None` at the end of the input.
    fn line(&mut self) -> io::Result<Option<Raw>> {
        // Room for the line's end, which doesn't count.
        let kept_max = LINE_BYTES_MAX as u64 + 2;
        let mut bytes = Vec::new();
        (&mut self.reader).take(kept_max).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut = !bytes.ends_with(b"\n") && bytes.len() as u64 == kept_max;
        // Its own end isn't part of it.
        let more = if cut { self.reader.skip_until(b'\n')?.saturating_sub(1) } else { 0 };
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        match bytes.len() + more {
            length if length > LINE_BYTES_MAX => Ok(Some(Raw::TooLong { bytes: length })),
            _ => Ok(Some(Raw::Bytes(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its parts one by one, as a pipe does.
    struct Parts(Vec<Vec<u8>>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let part = self.0.remove(0);
            buffer[..part.len()].copy_from_slice(&part);
            Ok(part.len())
        }
    }

    fn read(input: impl Read + Send + 'static, from_line: u64) -> Vec<Piece> {
        let mut pieces = pieces(Box::new(input), from_line).unwrap();
        std::iter::from_fn(move || pieces.blocking_recv()).collect()
    }

    /// First line and lines of each chunk; line and refusal of what is unfit.
    fn told(pieces: Vec<Piece>) -> Vec<(u64, String)> {
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Chunk { first_line, lines } => (first_line, lines.join("|")),
                Piece::Unfit { line, refusal } => (line, refusal.to_string()),
                Piece::Failed(error) => (0, error.to_string()),
            })
            .collect()
    }

    #[test]
    fn lines_keep_their_numbers_whatever_their_ends() {
        let pieces = told(read(&b"a\r\n\nb\nc"[..], 1));
        assert_eq!(pieces, [(1, "a||b".into()), (4, "c".into())]);
        assert_eq!(told(read(&b"a\nb\nc\n"[..], 3)), [(3, "c".into())]);
        assert_eq!(told(read(&b"a\n"[..], 7)), []);
        assert_eq!(told(read(&b""[..], 1)), []);
    }

    #[test]
    fn what_has_come_is_handed_on_before_more_is_waited_for() {
        let parts = Parts(vec![b"a\nb\nc".to_vec(), b"d\n".to_vec()]);
        assert_eq!(told(read(parts, 1)), [(1, "a|b".into()), (3, "cd".into())]);
    }

    #[test]
    fn a_chunk_is_limited_in_lines_and_in_bytes() {
        let many = "x\n".repeat(CHUNK_LINES_MAX * 2 + 1);
        let first: Vec<u64> =
            told(read(io::Cursor::new(many), 1)).into_iter().map(|(line, _)| line).collect();
        assert_eq!(first, [1, 501, 1_001]);
        let long = format!("{}\n", "x".repeat(CHUNK_BYTES_MAX)).repeat(3);
        assert_eq!(told(read(io::Cursor::new(long), 1)).len(), 3);
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_told_and_skipped() {
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        let whole = "y".repeat(LINE_BYTES_MAX);
        let mut input = format!("a\n{long}\n{whole}\r\n").into_bytes();
        input.extend(b"\xff\nb\n");
        let told = told(read(io::Cursor::new(input), 1));
        assert_eq!(told[0], (1, "a".into()));
        assert!(told[1].0 == 2 && told[1].1.contains("1048581 bytes"), "{:?}", told[1]);
        assert!(told[2].0 == 3 && told[2].1.len() == LINE_BYTES_MAX);
        assert!(told[3].0 == 4 && told[3].1.contains("UTF-8"), "{:?}", told[3]);
        assert_eq!(told[4..], [(5, "b".into())]);
    }
}
