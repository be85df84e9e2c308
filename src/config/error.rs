//! What can be wrong with a configuration, said so that an operator can mend it at once.
//!
//! Guarantees: every problem says where the value came from (file and line, variable or flag) and
//! which key it belongs to; all problems of a configuration are reported together; the value of a
//! sensitive key is never repeated.

use std::{fmt, path::PathBuf};

use crate::record::ids::InvalidId;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A command line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What is wrong with one value or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("unknown key `{key}`; {hint}")]
    UnknownKey { key: String, hint: String },
    #[error("unknown section `[{section}]`; {hint}")]
    UnknownSection { section: String, hint: String },
    #[error("unknown variable; {hint}")]
    UnknownVariable { hint: String },
    #[error("`{key}` {advice}")]
    Shape { key: String, advice: &'static str },
    #[error("`{key}` must be {expected}, not {found}")]
    WrongType { key: String, expected: String, found: String },
    #[error("`{key}` is {value}; allowed: {allowed}")]
    OutOfRange { key: String, value: String, allowed: String },
    #[error("`{key}`: {reason}")]
    Invalid { key: String, reason: String },
    #[error("`{key}`: {reason}")]
    Id { key: String, reason: InvalidId },
    #[error("the value is not UTF-8 text")]
    NotUtf8,
}

/// One thing wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}", self.origin, self.fault)
    }
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "error: {}: can't read the configuration; check --config and the file's permissions",
        path.display()
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "error: {}: larger than {limit_bytes} bytes: this is no patchferry configuration",
        path.display()
    )]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error(
        "error: no place for the state: none of $PATCHFERRY_STATE_DIR, $STATE_DIRECTORY, \
         $XDG_STATE_HOME and $HOME is an absolute path; give --state-dir"
    )]
    NoStateDir,
    /// All that is wrong, in the order of the file.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// "did you mean", or everything there is to choose from.
pub(super) fn hint<'a>(given: &str, valid: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(given, valid.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("valid: {}", valid.collect::<Vec<_>>().join(", ")),
    }
}

/// How alike two names must be to be suggested, 0 to 1: a slip of a few letters, not a guess.
const LIKENESS_MIN: f64 = 0.6;

pub(super) fn nearest<'a>(given: &str, valid: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A long text is no slip, and comparing it costs its length squared.
    let given: String = given.chars().take(128).collect::<String>().to_lowercase();
    valid
        .map(|name| (likeness(&given, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Also finds a key that was put in the wrong section: its own name counts, a little less.
fn likeness(given: &str, name: &str) -> f64 {
    let own_name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    let whole = strsim::normalized_damerau_levenshtein(given, name);
    let last = strsim::normalized_damerau_levenshtein(&own_name(given), &own_name(name));
    whole.max(last * 0.9)
}
