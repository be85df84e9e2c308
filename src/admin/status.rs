//! The state of a daemon at one moment: the same for the status page, the API and `status`.
//!
//! Guarantees: nothing sensitive is in here, so all of it may be served; what needs attention is
//! derived from the rest (see [`super::attention`]), never stored beside it.
//!
//! Deliberately doesn't know: where the numbers come from.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    metrics::{Accounting, LaneState, LatencySummary},
    queue::{PauseWhat, Queues},
    record::{Lane, Reason, Severity, Stage, UnixMillis},
};

/// Everything there is to know at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub started_at_unix_ms: UnixMillis,
    /// When this was true.
    pub at_unix_ms: UnixMillis,
    /// Nothing is sent: findings are rendered and compared only.
    pub dry_run: bool,
    /// Which of the machines that divide the lanes this is, such as `0 of 3`; `None`: the only one.
    #[serde(default)]
    pub shard: Option<String>,
    /// By lane name.
    pub lanes: Vec<LaneStatus>,
    pub queues: Vec<QueueStatus>,
    pub accounting: Accounting,
    /// Since the start; absent before the first delivery.
    pub latency: Option<LatencySummary>,
    /// Only those that there are.
    pub dead_letters: Vec<DeadLetterCount>,
    pub stubborn_findings: u64,
    /// Reasons (`live_bytes`, `free_space`, `operator`); empty while ingest takes more.
    pub ingest_paused: Vec<String>,
    /// What operators have paused.
    pub pauses: Vec<PauseStatus>,
    /// `None`: no accounts are discovered, or no daemon runs.
    #[serde(default)]
    pub discovery: Option<DiscoveryStatus>,
    /// Queues that events come from; only a daemon that runs knows of them.
    #[serde(default)]
    pub event_queues: Vec<EventQueueStatus>,
    pub store: StoreStatus,
}

/// What is known of the organization's accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryStatus {
    /// Of the last list.
    pub accounts: u64,
    /// When it was read; `None`: never.
    pub last_read_unix_ms: Option<UnixMillis>,
    /// Why the accounts can't be listed now.
    pub failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    pub lane: Lane,
    /// JSON: `"state": "held", "hold_reason": "hub_off"`.
    #[serde(flatten, serialize_with = "write_state", deserialize_with = "read_state")]
    pub state: LaneState,
    /// Since when it is in this state.
    pub since_unix_ms: UnixMillis,
    /// What the hub or SSM said last, if that is why.
    pub note: Option<String>,
    pub outbox_findings: u64,
    /// `None`: nothing waits.
    pub oldest_age_seconds: Option<u64>,
    pub open_findings: BySeverity,
    pub nodes: NodeCounts,
    /// `None`: never.
    pub last_complete_sweep_unix_ms: Option<UnixMillis>,
    pub poll_interval_seconds: u64,
    /// Too many nodes at once would have been resolved as gone.
    pub gone_withheld_nodes: u64,
    /// By an operator.
    pub ingest_paused: bool,
    /// When the hub was last compared with the ledger; `None`: never, or no daemon runs.
    #[serde(default)]
    pub last_reconcile_unix_ms: Option<UnixMillis>,
    /// Differences that it left.
    #[serde(default)]
    pub reconcile_unrepaired: u64,
    /// Why the last comparison failed, if it did.
    #[serde(default)]
    pub reconcile_failure: Option<String>,
    /// The role that is assumed for it; `None`: the daemon's own identity, or no daemon runs.
    #[serde(default)]
    pub role_arn: Option<String>,
}

/// A queue that events come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQueueStatus {
    /// `account/region/name`.
    pub queue: String,
    /// `reading`, `paused`, `unavailable` or `held`.
    pub state: String,
    pub since_unix_ms: UnixMillis,
    /// What SQS said last, if it can't be read.
    pub note: Option<String>,
}

/// A pause that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    pub what: PauseWhat,
    /// `None`: all lanes.
    pub lane: Option<Lane>,
    pub since_unix_ms: UnixMillis,
    pub by_uid: u32,
    /// The operator's own words; may be empty.
    pub reason: String,
}

impl PauseStatus {
    /// Everything that is paused.
    #[must_use]
    pub fn all(queues: &Queues) -> Vec<Self> {
        let pauses = queues.pauses();
        let pauses = pauses.iter().map(|(what, lane, pause)| Self {
            what,
            lane: lane.cloned(),
            since_unix_ms: pause.since,
            by_uid: pause.by_uid,
            reason: pause.reason.to_string(),
        });
        pauses.collect()
    }

    /// `delivery of all lanes, since … by uid 0: reason`.
    #[must_use]
    pub fn to_sentence(&self) -> String {
        let lane = self.lane.as_ref().map_or("all lanes".into(), Lane::to_string);
        let Self { what, since_unix_ms, by_uid, reason, .. } = self;
        let mut text = format!("{what} of {lane}, since {since_unix_ms} by uid {by_uid}");
        if !reason.is_empty() {
            text.push_str(": ");
            text.extend(reason.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        text
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BySeverity {
    pub critical: u64,
    pub high: u64,
    pub medium: u64,
    pub low: u64,
    pub informational: u64,
}

impl BySeverity {
    pub fn get_mut(&mut self, severity: Severity) -> &mut u64 {
        match severity {
            Severity::Critical => &mut self.critical,
            Severity::High => &mut self.high,
            Severity::Medium => &mut self.medium,
            Severity::Low => &mut self.low,
            Severity::Informational => &mut self.informational,
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        [self.critical, self.high, self.medium, self.low, self.informational]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    pub non_compliant: u64,
    pub compliant: u64,
    pub never_scanned: u64,
    pub stale: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// As in the metrics: `observed`, `assessed`, `outbox`, `delayed`, `parked`.
    pub queue: String,
    pub items: u64,
    /// `None`: it is empty.
    pub oldest_age_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCount {
    pub stage: Stage,
    pub reason: Reason,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    pub live_bytes: u64,
    pub max_bytes: u64,
    pub file_bytes: u64,
    /// Of the file system.
    pub free_bytes: u64,
    /// Stores that were found corrupt and are kept.
    #[serde(default)]
    pub quarantines: u64,
    /// When it was opened, the store was older than it was known to be.
    #[serde(default)]
    pub rolled_back: bool,
    /// Its file grows without what it holds.
    #[serde(default)]
    pub file_grows: bool,
}

/// The status with what follows from it: what `/api/v1/status` and `status --json` give.
#[derive(Serialize)]
struct Report<'a> {
    /// Empty: all is well.
    attention: Vec<String>,
    #[serde(flatten)]
    status: &'a Status,
    /// `accepted` minus everything it became; must be 0.
    accounting_imbalance: i64,
}

impl Status {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let imbalance = self.accounting.imbalance();
        let report = Report {
            attention: self.attention(),
            status: self,
            accounting_imbalance: i64::try_from(imbalance).unwrap_or(i64::MAX),
        };
        serde_json::to_string(&report).expect("a status has text keys and finite numbers only")
    }

    /// Aligned, at most 100 columns. The first line says whether all is well.
    #[must_use]
    pub fn to_text(&self) -> String {
        super::text::render(self)
    }
}

#[derive(Serialize, Deserialize)]
struct StateParts {
    state: String,
    hold_reason: Option<String>,
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn write_state<S: Serializer>(state: &LaneState, serializer: S) -> Result<S::Ok, S::Error> {
    use crate::metrics::Label as _;
    let hold_reason = state.hold_reason().map(|reason| reason.value().to_string());
    StateParts { state: state.as_str().to_string(), hold_reason }.serialize(serializer)
}

fn read_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LaneState, D::Error> {
    let parts = StateParts::deserialize(deserializer)?;
    LaneState::from_parts(&parts.state, parts.hold_reason.as_deref())
        .ok_or_else(|| serde::de::Error::custom(format!("unknown lane state `{}`", parts.state)))
}
