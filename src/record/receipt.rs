//! Proof of delivery.

use serde::{Deserialize, Serialize};

use super::{Attempts, Change, Revision, Severity, Text, UnixMillis, finding::RecordState};

/// What is known of one version of a finding that the hub has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub revision: Revision,
    pub change: Change,
    pub state: RecordState,
    pub severity: Severity,
    /// The end of the patch operation that was reported, if SSM gave one.
    pub operation_end: Option<UnixMillis>,
    /// When ingest had the observation on disk.
    pub accepted_at: UnixMillis,
    /// When it was first put in a request.
    pub first_sent_at: UnixMillis,
    pub acknowledged_at: UnixMillis,
    /// `UpdatedAt` that the hub now holds.
    pub updated_at: UnixMillis,
    /// Requests that carried it, the last one included.
    pub attempts: u32,
    /// Requests that carried it and failed. What a process knew when it was killed is missing.
    pub failures: Attempts,
    /// AWS's id of the request that was acknowledged; absent if the delivery was confirmed by
    /// reading the finding back.
    pub aws_request_id: Option<Text<128>>,
}
