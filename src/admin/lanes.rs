//! All lanes as a table, each with what to do about it.
//!
//! Deliberately doesn't know: where the numbers come from.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    status::{LaneStatus, Status},
    text::{age, short, swept, wrapped},
};
use crate::metrics::LaneState;

/// Notes are broken at this width.
const COLUMNS_MAX: usize = 100;

impl LaneStatus {
    /// What to do about the lane's state, or that there is nothing to do.
    #[must_use]
    pub fn advice(&self) -> String {
        match self.state {
            LaneState::Flowing => String::new(),
            LaneState::BackingOff => {
                "nothing to do: it tries again by itself, at most a minute apart".into()
            }
            LaneState::Held(_) => {
                "mend what the note says; it resumes by itself within deliver.probe_interval".into()
            }
            LaneState::ReadingBack => {
                "nothing to do: it sends once it knows what the hub holds".into()
            }
            LaneState::Paused => "`patchferry resume`, with --lane for a pause of its own".into(),
            LaneState::Dormant => {
                "nothing to do: it is asked about once an hour, and resumes by itself".into()
            }
            LaneState::Orphaned => {
                "configure it again, or give it up by `patchferry lanes retire` (--archive closes \
                 its open findings first)"
                    .into()
            }
            LaneState::Stopped => "start the daemon".into(),
        }
    }
}

/// A lane with what to do about it, as `lanes --json` gives it.
#[derive(Serialize)]
struct Advised<'a> {
    #[serde(flatten)]
    lane: &'a LaneStatus,
    /// Empty: there is nothing to say.
    advice: String,
}

/// One JSON array.
#[must_use]
pub fn to_json(status: &Status) -> String {
    let lanes: Vec<Advised<'_>> =
        status.lanes.iter().map(|lane| Advised { lane, advice: lane.advice() }).collect();
    serde_json::to_string_pretty(&lanes).expect("a status has text keys and finite numbers only")
}

/// A line for each lane, and what there is to say of it below.
#[must_use]
pub fn to_text(status: &Status) -> String {
    let mut text = format!(
        "{:<29} {:<13} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>8}  {}\n",
        "LANE", "STATE", "SINCE", "OUTBOX", "OPEN", "FAILING", "PASSED", "OTHER", "SWEPT", "ROLE"
    );
    for lane in &status.lanes {
        let nodes = &lane.nodes;
        let _ = writeln!(
            text,
            "{:<29} {:<13} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>8}  {}",
            lane.lane.to_string(),
            lane.state.as_str(),
            age(status.at_unix_ms.since(lane.since_unix_ms).as_secs()),
            short(lane.outbox_findings),
            short(lane.open_findings.total()),
            short(nodes.non_compliant),
            short(nodes.compliant),
            short(nodes.never_scanned + nodes.stale),
            swept(lane, status.at_unix_ms),
            lane.role_arn.as_deref().map_or("-", role_name),
        );
        let notes = [lane.note.clone().unwrap_or_default(), lane.advice()];
        for note in notes.iter().filter(|note| !note.is_empty()) {
            for line in wrapped(note, COLUMNS_MAX - 6) {
                let _ = writeln!(text, "      {line}");
            }
        }
    }
    text
}

/// Without the path: the account is the lane's.
fn role_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
