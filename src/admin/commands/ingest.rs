//! `ingest`: lines that somebody hands in, a chunk at a time.
//!
//! A chunk is answered before the next is sent, so that neither side holds more than one. The
//! audit log has two entries for a run, its begin and its end, not one for every chunk.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::{
    command::{Caller, Command, Refusal, RefusalKind},
    handler::Admin,
};

/// A chunk of the longest lines, every byte of which JSON writes as six.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Somebody is about to hand lines in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginIngest {
    pub file: String,
    pub from_line: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// Whether a daemon takes the lines; else they wait in the store for the next start.
    pub running: bool,
}

/// Lines that follow each other; blank ones say nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestLines {
    /// As the run began: it doesn't go over from a daemon to its store, or back.
    pub running: bool,
    pub first_line: u64,
    pub lines: Vec<String>,
}

/// What became of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngestAnswer {
    /// On disk, but for the refused lines and the blank ones.
    Taken { refused: Vec<RefusedLine> },
    /// Nothing of it: hand it in again shortly, the stages are busy with what came before.
    Busy,
    /// Nothing of it, since nothing new is taken. Hand it in again.
    Paused { why: String },
}

/// A line that wasn't let in, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLine {
    pub line: u64,
    pub reason: String,
}

/// The run has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndIngest {
    pub accepted: u64,
    pub refused: u64,
}

impl Command for BeginIngest {
    const NAME: &'static str = "begin_ingest";
    type Answer = Begun;

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<Begun, Refusal> {
        // What stands against it is told before the first line is read.
        admin.host().ingest(self.from_line, Vec::new()).await?;
        Ok(Begun { running: admin.host().is_running() })
    }
}

impl Command for IngestLines {
    const NAME: &'static str = "ingest_lines";
    const REQUEST_BYTES_MAX: usize = REQUEST_BYTES_MAX;
    type Answer = IngestAnswer;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<IngestAnswer, Refusal> {
        let Self { running, first_line, lines } = self;
        match (running, admin.host().is_running()) {
            (true, false) => {
                Err(Refusal::new(RefusalKind::NotNow, "the daemon has stopped: start it again"))
            }
            (false, true) => Err(Refusal::new(RefusalKind::NotNow, "a daemon has started")),
            _ => admin.host().ingest(first_line, lines).await,
        }
    }
}

impl Command for EndIngest {
    const NAME: &'static str = "end_ingest";
    type Answer = ();

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, _: &Admin, _: Caller) -> Result<(), Refusal> {
        Ok(())
    }
}
