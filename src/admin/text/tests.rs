//! The text of a status: what its first line says, and that it fits.

use super::{super::status::*, *};
use crate::{
    metrics::{Accounting, HoldReason, LaneState, LatencySummary},
    queue::PauseWhat,
    record::{Reason, Stage},
};

fn status() -> Status {
    let lane = LaneStatus {
        lane: "111122223333/us-east-1".parse().unwrap(),
        state: LaneState::Flowing,
        since_unix_ms: UnixMillis(0),
        note: None,
        outbox_findings: 0,
        oldest_age_seconds: None,
        open_findings: BySeverity { high: 3, ..BySeverity::default() },
        nodes: NodeCounts::default(),
        last_complete_sweep_unix_ms: Some(UnixMillis(990_000)),
        poll_interval_seconds: 300,
        gone_withheld_nodes: 0,
        last_reconcile_unix_ms: None,
        reconcile_unrepaired: 0,
        reconcile_failure: None,
        ingest_paused: false,
        role_arn: None,
    };
    Status {
        version: "1.2.3".into(),
        started_at_unix_ms: UnixMillis(0),
        at_unix_ms: UnixMillis(1_000_000),
        dry_run: false,
        shard: None,
        lanes: vec![lane],
        queues: vec![QueueStatus { queue: "outbox".into(), items: 0, oldest_age_seconds: None }],
        accounting: Accounting { accepted: 5, delivered: 5, ..Accounting::default() },
        latency: Some(LatencySummary {
            count: 5,
            p50_seconds: 0.25,
            p95_seconds: 0.5,
            p99_seconds: 12.0,
        }),
        dead_letters: Vec::new(),
        stubborn_findings: 0,
        ingest_paused: Vec::new(),
        pauses: Vec::new(),
        discovery: None,
        event_queues: Vec::new(),
        store: StoreStatus {
            live_bytes: 1,
            max_bytes: 1 << 32,
            file_bytes: 1,
            free_bytes: 1 << 33,
            ..StoreStatus::default()
        },
    }
}

#[test]
fn a_healthy_daemon_is_ok_in_the_first_line() {
    let text = status().to_text();
    assert_eq!(text.lines().next(), Some("OK: 1 lane, up 16m, version 1.2.3"), "{text}");
}

#[test]
fn everything_that_needs_somebody_is_named() {
    let mut status = status();
    status.lanes[0].state = LaneState::Held(HoldReason::HubOff);
    status.lanes[0].note = Some("Account is not subscribed to AWS Security Hub".into());
    status.accounting.accepted = 7;
    status.ingest_paused = vec!["live_bytes".into()];
    status.stubborn_findings = 1;
    status.dead_letters =
        vec![DeadLetterCount { stage: Stage::Deliver, reason: Reason::RejectedByHub, count: 2 }];
    let text = status.to_text();
    assert!(text.starts_with("ATTENTION: 5 matters"), "{text}");
    for part in [
        "the accounting is off by 2",
        "held until somebody acts: 111122223333/us-east-1 (hub_off)",
        "ingest is paused, the store is at its limit",
        "2 dead letters waiting: `patchferry dead list`",
        "1 finding failed 20 times",
        "not subscribed",
        "2 deliver/rejected_by_hub",
    ] {
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
}

#[test]
fn a_lane_that_flows_but_does_not_move_is_noticed() {
    let mut late = status();
    late.lanes[0].oldest_age_seconds = Some(3600);
    assert_eq!(late.attention(), ["findings wait unusually long: 111122223333/us-east-1"]);
    let mut unswept = status();
    unswept.at_unix_ms = UnixMillis(990_000 + 901_000);
    assert_eq!(unswept.attention(), ["no complete sweep for long: 111122223333/us-east-1"]);
    unswept.lanes[0].state = LaneState::Dormant;
    assert!(unswept.attention().is_empty());
}

#[test]
fn pauses_are_told_with_who_and_why_and_are_no_overdue_sweeps() {
    let mut status = status();
    status.at_unix_ms = UnixMillis(990_000 + 901_000);
    status.lanes[0].ingest_paused = true;
    let pause = PauseStatus {
        what: PauseWhat::Ingest,
        lane: Some(status.lanes[0].lane.clone()),
        since_unix_ms: UnixMillis(5_000),
        by_uid: 1000,
        reason: "SSM\nincident".into(),
    };
    status.pauses = vec![pause; 7];
    let attention = status.attention();
    assert_eq!(
        attention[0],
        "paused by an operator, until `patchferry resume`: ingest of 111122223333/us-east-1, \
         since 1970-01-01T00:00:05Z by uid 1000: SSM incident"
    );
    assert_eq!(attention.len(), 6, "{attention:#?}");
    assert!(attention[5].starts_with("2 more pauses"), "{attention:#?}");
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let mut status = status();
    let mut lane = status.lanes[0].clone();
    lane.lane = "111122223333/us-gov-northeas-1".parse().unwrap_or(lane.lane);
    lane.note = Some("word ".repeat(60) + &"x".repeat(300));
    lane.state = LaneState::BackingOff;
    lane.outbox_findings = u64::MAX;
    lane.oldest_age_seconds = Some(u64::from(u32::MAX));
    status.lanes = vec![lane; 9];
    status.accounting = Accounting {
        accepted: u64::MAX,
        delivered: u64::MAX,
        coalesced: u64::MAX,
        unchanged: u64::MAX,
        dead: u64::MAX,
        dropped: u64::MAX,
        queued: u64::MAX,
    };
    status.dead_letters = Reason::ALL
        .map(|reason| DeadLetterCount { stage: Stage::Validate, reason, count: 1 << 40 })
        .to_vec();
    let text = status.to_text();
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS_MAX, "{line}");
    }
}

#[test]
fn the_columns_of_the_lane_table_line_up() {
    let text = status().to_text();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("LANE"));
    let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(head.len(), row.len(), "{text}");
    assert_eq!(&row[head.find("HIGH").unwrap()..][..4], "   3", "{text}");
}

#[test]
fn the_json_is_read_back_the_same_and_says_what_needs_attention() {
    let mut status = status();
    status.lanes[0].state = LaneState::Held(HoldReason::Rejecting);
    let json = status.to_json();
    assert!(json.contains("\"state\":\"held\",\"hold_reason\":\"rejecting\""), "{json}");
    assert!(json.contains("\"attention\":[\"held until"), "{json}");
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}
