//! Exit codes, and the errors that lead to them.

use std::{error::Error, fmt, process::ExitCode};

/// How a command ended; after BSD's `sysexits.h` where it has a code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// A guarantee was broken, a check failed, a change wasn't confirmed, there is no receipt,
    /// differences were left, or something failed that has no code of its own.
    Failed,
    /// Something is left to do: it is kept for the next run, or waits for a person.
    Incomplete,
    /// The command line or the configuration is wrong.
    Usage,
    /// Some of the input was refused; the rest was accepted. Or `lint` found errors.
    InputRefused,
    /// AWS, the network or an address is out of reach.
    Unavailable,
    /// The store can't be opened.
    Store,
    /// The store has failed; starting again recovers it.
    StartAgain,
    /// The caller may not do this.
    NotPermitted,
}

pub const HELP: &str = "\
Exit codes: 0 success · 1 failed, a guarantee was broken, a check failed, --yes was missing, there \
is no receipt, or differences were left · 2 a sweep came to no end, or something waits · 64 wrong command line or configuration · 65 some of the input was refused · 69 AWS or \
an address is out of reach · 73 the store can't be opened · \
75 the store has failed: start again · 77 not permitted

Every configuration key can be given in the environment: PATCHFERRY_SECTION__KEY.
AWS settings (credentials, profile, Region, endpoint, proxy) are taken as every AWS tool takes them.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Incomplete => 2,
            Exit::Usage => 64,
            Exit::InputRefused => 65,
            Exit::Unavailable => 69,
            Exit::Store => 73,
            Exit::StartAgain => 75,
            Exit::NotPermitted => 77,
        })
    }
}

/// A command that failed: what to print, and how to exit.
#[derive(Debug)]
pub struct Failed {
    pub exit: Exit,
    text: String,
}

impl Failed {
    /// `text` says what happened, to what, and what to do next.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: format!("error: {}", text.into()) }
    }

    /// An error with all its sources.
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let said = source.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = source.source();
        }
        Self::new(exit, text)
    }

    /// A text that is complete as it is.
    pub fn verbatim(exit: Exit, text: String) -> Self {
        Self { exit, text }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}
