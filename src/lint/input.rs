//! Findings out of an input of any size: a request (`{"Findings": […]}`), an array, JSON lines,
//! or one finding written over several lines.
//!
//! A request or an array is taken as one call of `BatchImportFindings`, and judged as a whole as
//! well; lines are not.
//!
//! Guarantees: reads on, finding by finding, and holds no more than one; a line that is no JSON
//! is told of and passed over; an array or a request is read up to where it stops being JSON,
//! and that is told.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, BufRead, Cursor, Read as _},
};

use super::{
    json::{Json, compact_bytes},
    judge,
    report::{Level, Path, Place, Remark, Remarks, Told},
};

/// Of a whole input.
pub const INPUT_BYTES_MAX: u64 = 1 << 30;
/// A longer value is told of and not looked into; the hub takes 240 KB.
const VALUE_BYTES_MAX: usize = 4 << 20;
/// Room to see how the input begins.
const HEAD_BYTES: u64 = 4_096;
/// Findings and bytes of one request ("`BatchImportFindings`", API Reference and guidelines).
const BATCH_FINDINGS_MAX: usize = 100;
const BATCH_BYTES_MAX: usize = 6_000_000;
/// `{"Findings":[]}`.
const BATCH_FRAME_BYTES: usize = 15;
/// Ids that are remembered, to find those that come twice.
const IDS_MAX: usize = 1_000_000;

/// What an input came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub findings: usize,
    pub findings_with_errors: usize,
    pub errors: usize,
    pub warnings: usize,
}

/// Why an input was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the input can't be read on")]
    Io(#[from] io::Error),
    #[error("the input is larger than {INPUT_BYTES_MAX} bytes: split it")]
    TooLarge,
    /// Nobody listens any more.
    #[error("nothing more is wanted")]
    Unwanted,
}

/// Judges every finding of `input` at `now`; `tell` gets the remarks as they arise and says
/// whether it wants more.
pub fn lint(
    mut input: impl BufRead,
    now_unix_ms: i64,
    tell: &mut dyn FnMut(Told) -> bool,
) -> Result<Summary, Broken> {
    let mut head = Vec::new();
    (&mut input).take(HEAD_BYTES).read_to_end(&mut head)?;
    let begins = beginning(&head);
    let input = Cursor::new(head).chain(input);
    let reader = Reader { input, line: 1, bytes: 0 };
    let mut lint =
        Lint { reader, now_unix_ms, tell, summary: Summary::default(), ids: Ids::default() };
    match begins {
        Beginning::Nothing => lint.whole(Level::Error, "there is nothing in it")?,
        Beginning::Array => lint.array(&["["])?,
        Beginning::Request => lint.array(&["{", "\"Findings\"", ":", "["])?,
        Beginning::Object => lint.objects()?,
        Beginning::Other => {
            let text = "it is neither a finding nor a list of findings: give {\"Findings\": […]}, \
                        an array, or a finding a line";
            lint.whole(Level::Error, text)?;
        }
    }
    Ok(lint.summary)
}

enum Beginning {
    Nothing,
    Array,
    Request,
    Object,
    Other,
}

fn beginning(head: &[u8]) -> Beginning {
    let mut rest = head.trim_ascii_start();
    match rest.first() {
        None => return Beginning::Nothing,
        Some(b'[') => return Beginning::Array,
        Some(b'{') => {}
        Some(_) => return Beginning::Other,
    }
    for token in [&b"{"[..], b"\"Findings\"", b":", b"["] {
        match rest.strip_prefix(token) {
            Some(after) => rest = after.trim_ascii_start(),
            None => return Beginning::Object,
        }
    }
    Beginning::Request
}

struct Lint<'t, R> {
    reader: Reader<R>,
    now_unix_ms: i64,
    tell: &'t mut dyn FnMut(Told) -> bool,
    summary: Summary,
    ids: Ids,
}

impl<R: BufRead> Lint<'_, R> {
    /// A request or an array, whose findings follow `opening`.
    fn array(&mut self, opening: &[&str]) -> Result<(), Broken> {
        for token in opening {
            self.reader.skip_white()?;
            for _ in 0..token.len() {
                self.reader.next()?;
            }
        }
        let mut bytes = BATCH_FRAME_BYTES;
        self.reader.skip_white()?;
        if self.reader.peek()? == Some(b']') {
            self.reader.next()?;
        } else {
            loop {
                self.reader.skip_white()?;
                let value = self.reader.value()?;
                bytes += value.compact + 1;
                let whole = value.ends;
                self.finding(&value, true)?;
                self.reader.skip_white()?;
                match self.reader.next()? {
                    Some(b',') if whole => {}
                    Some(b']') if whole => break,
                    _ => return self.stops(),
                }
            }
        }
        if opening.len() > 1 {
            self.reader.skip_white()?;
            match self.reader.next()? {
                Some(b'}') => {}
                Some(b',') => {
                    let text = "BatchImportFindings takes Findings and nothing beside; what follows \
                                wasn't looked at";
                    self.whole(Level::Warning, text)?;
                    return self.batch(bytes);
                }
                _ => return self.stops(),
            }
        }
        self.reader.skip_white()?;
        if self.reader.peek()?.is_some() {
            return self.stops();
        }
        self.batch(bytes)
    }

    /// What a request may be as a whole.
    fn batch(&mut self, bytes: usize) -> Result<(), Broken> {
        let findings = self.summary.findings;
        if !(1..=BATCH_FINDINGS_MAX).contains(&findings) {
            let text =
                format!("there are {findings} findings; a request takes 1 to {BATCH_FINDINGS_MAX}");
            self.whole(Level::Error, &text)?;
        }
        if bytes > BATCH_BYTES_MAX {
            let text = format!("as a request it has {bytes} bytes; the hub takes 6 MB");
            self.whole(Level::Error, &text)?;
        }
        Ok(())
    }

    fn stops(&mut self) -> Result<(), Broken> {
        let line = self.reader.line;
        let text = format!("it stops being JSON in line {line}; what follows wasn't looked at");
        self.whole(Level::Error, &text)
    }

    /// Objects one after the other: lines, if the first is all of its line.
    fn objects(&mut self) -> Result<(), Broken> {
        self.reader.skip_white()?;
        let first = self.reader.value()?;
        let by_lines = first.line == self.reader.line;
        let mut ends = first.ends;
        if by_lines {
            let rest = self.reader.rest_of_line()?;
            let mut first = first;
            first.bytes.extend_from_slice(&rest);
            self.finding(&first, false)?;
            return self.lines();
        }
        self.finding(&first, false)?;
        loop {
            self.reader.skip_white()?;
            if self.reader.peek()?.is_none() {
                return Ok(());
            }
            if !ends {
                return self.stops();
            }
            let value = self.reader.value()?;
            // A bracket or comma that nothing has opened.
            if value.length == 0 {
                return self.stops();
            }
            ends = value.ends;
            self.finding(&value, false)?;
        }
    }

    fn lines(&mut self) -> Result<(), Broken> {
        while let Some(line) = self.reader.whole_line()? {
            if !line.bytes.trim_ascii().is_empty() || line.too_long {
                self.finding(&line, false)?;
            }
        }
        Ok(())
    }

    fn finding(&mut self, value: &Value, in_request: bool) -> Result<(), Broken> {
        let index = self.summary.findings;
        self.summary.findings += 1;
        let (json, mut remarks) = if value.too_long {
            let mut remarks = Remarks::default();
            let limit = "the hub takes 240 KB of a finding; it wasn't looked into";
            remarks.error(Path::ROOT, format!("has {} bytes; {limit}", value.length));
            (None, remarks)
        } else {
            judge(&value.bytes, self.now_unix_ms)
        };
        if let Some(json) = &json {
            self.compare(json, index, in_request, &mut remarks);
        }
        self.summary.errors += remarks.errors;
        self.summary.warnings += remarks.warnings;
        self.summary.findings_with_errors += usize::from(remarks.errors > 0);
        let id = json.as_ref().and_then(|json| json.text("Id")).map(ToOwned::to_owned);
        let place = Place { finding: index, line: value.line, id };
        for remark in remarks.into_vec() {
            self.say(Some(place.clone()), remark)?;
        }
        Ok(())
    }

    /// Looks for the same finding before it.
    fn compare(&mut self, json: &Json, index: usize, in_request: bool, remarks: &mut Remarks) {
        let Some(id) = json.text("Id") else { return };
        let Some(earlier) = self.ids.put(id, json.text("ProductArn"), in_request, index) else {
            return;
        };
        let at = Path::ROOT.member("Id");
        if in_request {
            let text = format!(
                "Findings[{earlier}] has it, too: of a request's findings with the same Id the hub \
                 processes one, and its answer names no other"
            );
            remarks.error(at, text);
        } else {
            let text = format!("Findings[{earlier}] has it, too: not in one request with it");
            remarks.warning(at, text);
        }
        if json.get("Findings").is_some() {
            remarks.warning(
                Path::ROOT,
                "has Findings: is it a request? Give each in a file of its own",
            );
        }
    }

    fn whole(&mut self, level: Level, text: &str) -> Result<(), Broken> {
        match level {
            Level::Error => self.summary.errors += 1,
            Level::Warning => self.summary.warnings += 1,
        }
        self.say(None, Remark { level, path: String::new(), text: text.to_owned() })
    }

    fn say(&mut self, place: Option<Place>, remark: Remark) -> Result<(), Broken> {
        if (self.tell)(Told { place, remark }) { Ok(()) } else { Err(Broken::Unwanted) }
    }
}

/// Ids that were there already, by their hashes.
#[derive(Default)]
struct Ids(HashMap<u64, usize>);

impl Ids {
    /// Where the same one was before. `FailedFindings` tells Ids only, so that in a request they
    /// alone count.
    fn put(&mut self, id: &str, product: Option<&str>, alone: bool, index: usize) -> Option<usize> {
        let mut hasher = DefaultHasher::new();
        (id, product.filter(|_| !alone)).hash(&mut hasher);
        let key = hasher.finish();
        if self.0.len() < IDS_MAX || self.0.contains_key(&key) {
            let first = *self.0.entry(key).or_insert(index);
            return (first != index).then_some(first);
        }
        None
    }
}

/// One value's text.
struct Value {
    bytes: Vec<u8>,
    line: u64,
    length: usize,
    /// Without the white space between its parts.
    compact: usize,
    too_long: bool,
    /// Its brackets and quotes are closed.
    ends: bool,
}

/// Reads byte by byte, counting lines.
struct Reader<R> {
    input: R,
    line: u64,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    fn peek(&mut self) -> Result<Option<u8>, Broken> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn next(&mut self) -> Result<Option<u8>, Broken> {
        let Some(byte) = self.peek()? else { return Ok(None) };
        self.input.consume(1);
        self.bytes += 1;
        self.line += u64::from(byte == b'\n');
        if self.bytes > INPUT_BYTES_MAX { Err(Broken::TooLarge) } else { Ok(Some(byte)) }
    }

    fn skip_white(&mut self) -> Result<(), Broken> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.next()?;
        }
        Ok(())
    }

    /// The next value, to where its brackets are closed; whether it is JSON is seen later.
    fn value(&mut self) -> Result<Value, Broken> {
        let mut value = Collected::new(self.line);
        let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
        loop {
            let Some(byte) = self.peek()? else {
                return Ok(value.end(depth == 0 && !in_text));
            };
            if in_text {
                in_text = escaped || byte != b'"';
                escaped = byte == b'\\' && !escaped;
            } else {
                match byte {
                    b'"' => in_text = true,
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' | b',' if depth == 0 => return Ok(value.end(true)),
                    b']' | b'}' => depth -= 1,
                    byte if depth == 0 && byte.is_ascii_whitespace() => {
                        return Ok(value.end(true));
                    }
                    _ => {}
                }
            }
            let white = !in_text && byte.is_ascii_whitespace();
            self.next()?;
            value.push(byte, white);
            if depth == 0 && !in_text && matches!(byte, b']' | b'}' | b'"') {
                return Ok(value.end(true));
            }
        }
    }

    /// What is left of the line, without its end.
    fn rest_of_line(&mut self) -> Result<Vec<u8>, Broken> {
        Ok(self.whole_line()?.map(|line| line.bytes).unwrap_or_default())
    }

    fn whole_line(&mut self) -> Result<Option<Value>, Broken> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        let mut value = Collected::new(self.line);
        while let Some(byte) = self.next()? {
            if byte == b'\n' {
                break;
            }
            value.push(byte, false);
        }
        let mut value = value.end(true);
        value.compact = compact_bytes(&value.bytes);
        Ok(Some(value))
    }
}

/// A value on its way in.
struct Collected(Value);

impl Collected {
    fn new(line: u64) -> Self {
        Self(Value { bytes: Vec::new(), line, length: 0, compact: 0, too_long: false, ends: false })
    }

    fn push(&mut self, byte: u8, white: bool) {
        let value = &mut self.0;
        value.length += 1;
        value.compact += usize::from(!white);
        if value.length <= VALUE_BYTES_MAX {
            value.bytes.push(byte);
        } else if !value.too_long {
            value.too_long = true;
            value.bytes = Vec::new();
        }
    }

    fn end(mut self, ends: bool) -> Value {
        self.0.ends = ends;
        self.0
    }
}
