//! What is said of a finding, and where in it.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// Remarks on one finding that are kept; the others are counted.
const REMARKS_MAX: usize = 100;
/// Of a text that is repeated in a remark.
const SHOWN_CHARS_MAX: usize = 60;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The hub takes it, but it should be otherwise.
    Warning,
    /// The hub refuses it.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing about one finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub level: Level,
    /// Within the finding, such as `Resources[0].Id`; empty: the finding itself.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub text: String,
}

/// Which finding of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Counted from 0, as in a path.
    pub finding: usize,
    /// Where it begins, counted from 1.
    pub line: u64,
    /// If it has one that can be read.
    pub id: Option<String>,
}

/// A remark, and what it is about; without a place it is about the input as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    #[serde(flatten)]
    pub place: Option<Place>,
    #[serde(flatten)]
    pub remark: Remark,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remark { level, path, text } = &self.remark;
        if let Some(Place { finding, line, id }) = &self.place {
            write!(f, "Findings[{finding}] (line {line}")?;
            if let Some(id) = id {
                write!(f, ", {}", shown(id))?;
            }
            f.write_str("): ")?;
        }
        write!(f, "{level}: ")?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(text)
    }
}

/// Remarks on one finding, at most so many of them; all are counted.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    kept: Vec<Remark>,
    pub errors: usize,
    pub warnings: usize,
}

impl Remarks {
    pub fn error(&mut self, at: impl fmt::Display, text: impl Into<String>) {
        self.errors += 1;
        self.keep(Level::Error, &at, text.into());
    }

    pub fn warning(&mut self, at: impl fmt::Display, text: impl Into<String>) {
        self.warnings += 1;
        self.keep(Level::Warning, &at, text.into());
    }

    fn keep(&mut self, level: Level, at: &dyn fmt::Display, text: String) {
        if self.kept.len() < REMARKS_MAX {
            self.kept.push(Remark { level, path: at.to_string(), text });
        }
    }

    pub fn into_vec(self) -> Vec<Remark> {
        let omitted = self.errors + self.warnings - self.kept.len();
        let mut kept = self.kept;
        if omitted > 0 {
            // Whatever is left out, an error among it must show.
            let level = if self.errors > 0 { Level::Error } else { Level::Warning };
            let text = format!("and {omitted} more of the kind");
            kept.push(Remark { level, path: String::new(), text });
        }
        kept
    }
}

/// Where in a finding a value stands; written only when there is something to say.
#[derive(Clone, Copy)]
pub(super) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p str),
    Key(&'p str),
    Index(usize),
}

impl Path<'static> {
    pub const ROOT: Self = Path { parent: None, step: Step::Root };
}

impl<'p> Path<'p> {
    /// A member of an object, whatever its name.
    pub fn member(&'p self, name: &'p str) -> Path<'p> {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let step = if plain { Step::Member(name) } else { Step::Key(name) };
        Path { parent: Some(self), step }
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Member(name) => {
                let dot = if self.parent.is_some_and(|it| !it.is_root()) { "." } else { "" };
                write!(f, "{dot}{}", cut(name))
            }
            Step::Key(name) => write!(f, "[{}]", shown(name)),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A text from outside, in quotes, short and without anything that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::from("\"");
    let mut chars = text.chars();
    for c in chars.by_ref().take(SHOWN_CHARS_MAX) {
        match c {
            '"' | '\\' => {
                shown.push('\\');
                shown.push(c);
            }
            // Controls, and what changes the direction or the look of the text around it.
            c if c.is_control() || is_invisible(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

fn cut(name: &str) -> &str {
    name.get(..SHOWN_CHARS_MAX).unwrap_or(name)
}
