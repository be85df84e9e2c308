//! The shapes that change between formats 1 and 2, frozen as they were, field by field in their
//! order on disk. What isn't named here is the same in both.

use serde::{Deserialize, Serialize};

/// How a waiting finding begins in format 1.
#[derive(Deserialize)]
pub struct Waiting1 {
    revision: u64,
    place: (u8, u64),
    since: i64,
    attempts: u32,
    first_sent_at: Option<i64>,
}

/// How it begins in format 2.
#[derive(Serialize)]
pub struct Waiting2 {
    revision: u64,
    place: (u8, u64),
    since: i64,
    attempts: u32,
    first_sent_at: Option<i64>,
    failures: NoFailures,
}

impl From<Waiting1> for Waiting2 {
    fn from(old: Waiting1) -> Self {
        let Waiting1 { revision, place, since, attempts, first_sent_at } = old;
        Self { revision, place, since, attempts, first_sent_at, failures: NO_FAILURES }
    }
}

/// A list of failed attempts; none is ever written here.
type NoFailures = Vec<()>;
const NO_FAILURES: NoFailures = Vec::new();

/// A row of `Acked` in format 1.
#[derive(Deserialize)]
pub struct Acked1 {
    revision: u64,
    change: Change,
    state: RecordState,
    severity: Severity,
    operation_end: Option<i64>,
    accepted_at: i64,
    first_sent_at: i64,
    acknowledged_at: i64,
    updated_at: i64,
    attempts: u32,
    aws_request_id: Option<String>,
}

/// A row of `Acked` in format 2.
#[derive(Serialize)]
pub struct Acked2 {
    revision: u64,
    change: Change,
    state: RecordState,
    severity: Severity,
    operation_end: Option<i64>,
    accepted_at: i64,
    first_sent_at: i64,
    acknowledged_at: i64,
    updated_at: i64,
    attempts: u32,
    failures: NoFailures,
    aws_request_id: Option<String>,
}

impl From<Acked1> for Acked2 {
    fn from(old: Acked1) -> Self {
        Self {
            revision: old.revision,
            change: old.change,
            state: old.state,
            severity: old.severity,
            operation_end: old.operation_end,
            accepted_at: old.accepted_at,
            first_sent_at: old.first_sent_at,
            acknowledged_at: old.acknowledged_at,
            updated_at: old.updated_at,
            attempts: old.attempts,
            failures: NO_FAILURES,
            aws_request_id: old.aws_request_id,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Change {
    Opened,
    Updated,
    Resolved,
    Reopened,
    Refreshed,
}

#[derive(Serialize, Deserialize)]
enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Serialize, Deserialize)]
enum RecordState {
    Open,
    Resolved,
    Gone(GoneReason),
}

#[derive(Serialize, Deserialize)]
enum GoneReason {
    Terminated,
    Deregistered,
    AbsentTooLong,
    Superseded,
}

/// A row of `Lane` in format 1.
#[derive(Deserialize)]
pub struct Lane1 {
    reads_reserved: u64,
    read_back: ReadBack,
}

/// A row of `Lane` in format 2.
#[derive(Serialize)]
pub struct Lane2 {
    reads_reserved: u64,
    read_back: ReadBack,
    parked: i64,
}

impl From<Lane1> for Lane2 {
    fn from(old: Lane1) -> Self {
        Self { reads_reserved: old.reads_reserved, read_back: old.read_back, parked: 0 }
    }
}

/// Format 2 has a fourth state after these.
#[derive(Serialize, Deserialize)]
enum ReadBack {
    Pending,
    Done { at: i64 },
    Denied { at: i64 },
}
