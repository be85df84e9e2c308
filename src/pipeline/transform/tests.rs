//! The life of a finding, decision by decision.

use super::*;
use crate::{
    queue::{Acked, Desired, Place},
    record::{
        Attempts, Change, Facts, PatchCounts, ReadNumber, Receipt, RecordState, Revision, Severity,
        Source, Text, UnixMillis, Verdict, assessment::Compliance, observation::GoneReason,
    },
};

const END: UnixMillis = UnixMillis(1_700_000_000_000);
const NOW: UnixMillis = UnixMillis(1_700_000_060_000);

fn policy(identity: Identity, resolve: bool) -> Policy {
    Policy {
        identity,
        resolve,
        refresh_after: Duration::from_secs(7 * 86_400),
        render: RenderPolicy::default(),
    }
}

fn lane() -> Lane {
    "111122223333/us-east-2".parse().unwrap()
}

fn by_node() -> Policy {
    policy(Identity::Node, true)
}

fn assessment(read: u64, verdict: Verdict, missing: u32) -> Assessment {
    Assessment {
        node: "i-02573cafcfEXAMPLE".parse().unwrap(),
        read: ReadNumber(read),
        read_at: NOW,
        accepted_at: NOW,
        source: Source::Sweep,
        verdict,
        facts: Facts {
            operation_end: Some(END),
            counts: PatchCounts { missing, ..PatchCounts::default() },
            ..Facts::default()
        },
    }
}

fn bad(read: u64, missing: u32) -> Assessment {
    assessment(read, Verdict::NonCompliant(Severity::High), missing)
}

fn good(read: u64) -> Assessment {
    assessment(read, Verdict::Compliant, 0)
}

fn decided(desired: Option<&Desired>, assessment: &Assessment, policy: &Policy) -> Decision {
    let lane = lane();
    let ledger = Ledger { lane: &lane, desired, acked: None, floor_unknown: false };
    decide(ledger, assessment, policy, NOW)
}

fn sent(decision: Decision) -> (Finding, u64) {
    match decision {
        Decision::Send { finding, digest, .. } => (*finding, digest),
        other => panic!("nothing is sent: {other:?}"),
    }
}

/// The ledger's row after `assessment` was decided on.
fn after(desired: Option<&Desired>, assessment: &Assessment, policy: &Policy) -> Desired {
    let (finding, digest) = sent(decided(desired, assessment, policy));
    Desired {
        read: assessment.read,
        revision: Revision(assessment.read.0),
        place: Some(Place::new(finding.severity, 1)),
        finding,
        digest,
        rejected: false,
        decided_at: NOW,
    }
}

#[test]
fn a_non_compliant_node_opens_a_finding_dated_by_its_scan() {
    let (finding, _) = sent(decided(None, &bad(1, 2), &by_node()));
    assert_eq!((finding.change, finding.state), (Change::Opened, RecordState::Open));
    assert_eq!([finding.created_at, finding.updated_at, finding.first_observed_at], [END; 3]);
}

#[test]
fn the_same_facts_tell_nothing_and_changed_ones_update() {
    let open = after(None, &bad(1, 2), &by_node());
    assert_eq!(decided(Some(&open), &bad(2, 2), &by_node()), Decision::Nothing);
    let (finding, _) = sent(decided(Some(&open), &bad(2, 3), &by_node()));
    assert_eq!((finding.change, finding.created_at), (Change::Updated, END));
    assert!(finding.updated_at > open.finding.updated_at, "the same scan time must still be newer");
}

#[test]
fn facts_that_are_not_worth_telling_tell_nothing() {
    let open = after(None, &bad(1, 2), &by_node());
    let mut scanned = bad(2, 2);
    scanned.facts.counts.installed = 99;
    scanned.facts.operation_end = Some(NOW);
    assert_eq!(decided(Some(&open), &scanned, &by_node()), Decision::Nothing);
}

#[test]
fn a_compliant_scan_resolves_and_a_relapse_reopens_the_same_finding() {
    let open = after(None, &bad(1, 2), &by_node());
    let resolved = after(Some(&open), &good(2), &by_node());
    assert_eq!(resolved.finding.state, RecordState::Resolved);
    assert_eq!(resolved.finding.severity, Severity::Informational);
    assert_eq!(decided(Some(&resolved), &good(3), &by_node()), Decision::Nothing);
    let reopened = after(Some(&resolved), &bad(4, 2), &by_node());
    assert_eq!(reopened.finding.change, Change::Reopened);
    assert_eq!(reopened.finding.created_at, open.finding.created_at);
    assert!(reopened.finding.updated_at > resolved.finding.updated_at);
}

#[test]
fn a_compliant_node_without_a_finding_tells_nothing() {
    assert_eq!(decided(None, &good(1), &by_node()), Decision::Nothing);
}

#[test]
fn a_gone_node_keeps_its_last_severity_and_facts() {
    let mut first = bad(1, 2);
    first.facts.baseline = Some("pb-0c10e65780EXAMPLE".into());
    let open = after(None, &first, &by_node());
    let gone = assessment(2, Verdict::Gone(GoneReason::Terminated), 0);
    let (finding, _) = sent(decided(Some(&open), &gone, &by_node()));
    assert_eq!(finding.state, RecordState::Gone(GoneReason::Terminated));
    assert_eq!((finding.severity, finding.updated_at), (Severity::High, NOW));
    assert_eq!(finding.facts.counts.missing, 2);
}

#[test]
fn an_older_read_never_overwrites_a_newer_state() {
    let open = after(None, &bad(5, 2), &by_node());
    assert_eq!(decided(Some(&open), &good(4), &by_node()), Decision::Superseded);
}

#[test]
fn an_unchanged_finding_is_refreshed_when_its_acknowledgement_is_old() {
    let open = after(None, &bad(1, 2), &by_node());
    let acked = |at: i64| Acked {
        receipt: Receipt {
            revision: open.revision,
            change: Change::Opened,
            state: RecordState::Open,
            severity: Severity::High,
            operation_end: None,
            accepted_at: END,
            first_sent_at: END,
            acknowledged_at: UnixMillis(at),
            updated_at: END,
            attempts: 1,
            failures: Attempts::default(),
            aws_request_id: None,
        },
    };
    let decide_with = |acked: &Acked| {
        let lane = lane();
        let ledger =
            Ledger { lane: &lane, desired: Some(&open), acked: Some(acked), floor_unknown: false };
        decide(ledger, &bad(2, 2), &by_node(), NOW)
    };
    assert_eq!(decide_with(&acked(NOW.0 - 1_000)), Decision::Nothing);
    let (finding, _) = sent(decide_with(&acked(NOW.0 - 8 * 86_400_000)));
    assert_eq!((finding.change, finding.updated_at), (Change::Refreshed, NOW));
}

#[test]
fn what_the_hub_rejected_is_tried_again_with_any_changed_fact() {
    let mut open = after(None, &bad(1, 2), &by_node());
    open.rejected = true;
    assert_eq!(decided(Some(&open), &bad(2, 2), &by_node()), Decision::Nothing);
    let mut changed = bad(2, 2);
    changed.facts.patch_group = Some("web".into());
    assert_eq!(sent(decided(Some(&open), &changed, &by_node())).0.change, Change::Updated);
}

#[test]
fn an_unknown_floor_begins_now() {
    let lane = lane();
    let ledger = Ledger { lane: &lane, desired: None, acked: None, floor_unknown: true };
    let (finding, _) = sent(decide(ledger, &bad(1, 2), &by_node(), NOW));
    assert_eq!(finding.updated_at, NOW);
}

#[test]
fn without_resolve_a_healed_node_tells_nothing() {
    let keep = policy(Identity::Node, false);
    let open = after(None, &bad(1, 2), &keep);
    assert_eq!(decided(Some(&open), &good(2), &keep), Decision::Nothing);
}

fn run(read: u64, command: &str) -> Assessment {
    let mut run = bad(read, 2);
    run.facts.compliance = Some(Compliance {
        non_compliant: true,
        overall_severity: None,
        execution_id: Some(command.into()),
        execution_type: None,
        execution_time: None,
        compliant_counts: [0; 6],
        non_compliant_counts: [0; 6],
    });
    run
}

#[test]
fn by_operation_each_run_is_a_finding_of_its_own() {
    let aws = policy(Identity::Operation, false);
    let first = after(None, &run(1, "a"), &aws);
    assert_eq!(decided(Some(&first), &run(2, "a"), &aws), Decision::Nothing);
    let Decision::Send { finding, close, .. } = decided(Some(&first), &run(3, "b"), &aws) else {
        panic!("a new run is told");
    };
    assert_ne!(finding.id, first.finding.id);
    assert_eq!((finding.change, close), (Change::Opened, None));
}

#[test]
fn by_operation_with_resolve_the_earlier_run_is_closed() {
    let closing = policy(Identity::Operation, true);
    let first = after(None, &run(1, "a"), &closing);
    let Decision::Send { close: Some(close), .. } = decided(Some(&first), &run(2, "b"), &closing)
    else {
        panic!("the earlier finding stays open");
    };
    assert_eq!(close.id, first.finding.id);
    assert_eq!(close.state, RecordState::Gone(GoneReason::Superseded));
    assert!(close.updated_at > first.finding.updated_at);
    let (resolved, _) = sent(decided(Some(&first), &good(3), &closing));
    assert_eq!((resolved.id, resolved.state), (first.finding.id, RecordState::Resolved));
}

#[test]
fn a_rejected_resolve_is_tried_again_with_any_changed_fact() {
    let open = after(None, &bad(1, 2), &by_node());
    let mut resolved = after(Some(&open), &good(2), &by_node());
    resolved.rejected = true;
    assert_eq!(decided(Some(&resolved), &good(3), &by_node()), Decision::Nothing);
    let mut changed = good(3);
    changed.facts.patch_group = Some("web".into());
    let (finding, _) = sent(decided(Some(&resolved), &changed, &by_node()));
    assert_eq!((finding.change, finding.state), (Change::Resolved, RecordState::Resolved));
}

fn of_other_product() -> Policy {
    let render = RenderPolicy {
        product_arn: Some("arn:aws:securityhub:us-east-2:111122223333:product/x/y".into()),
        ..RenderPolicy::default()
    };
    Policy { render, ..by_node() }
}

/// With the newest version acknowledged.
fn decided_as_told(desired: &Desired, assessment: &Assessment, policy: &Policy) -> Decision {
    let receipt = Receipt {
        revision: desired.revision,
        change: desired.finding.change,
        state: desired.finding.state,
        severity: desired.finding.severity,
        operation_end: None,
        accepted_at: NOW,
        first_sent_at: NOW,
        acknowledged_at: NOW,
        updated_at: desired.finding.updated_at,
        attempts: 1,
        failures: Attempts::default(),
        aws_request_id: None,
    };
    let (acked, lane) = (Acked { receipt }, lane());
    let ledger =
        Ledger { lane: &lane, desired: Some(desired), acked: Some(&acked), floor_unknown: false };
    decide(ledger, assessment, policy, NOW)
}

#[test]
fn another_product_closes_the_old_finding_with_its_own_texts_and_opens_a_new_one() {
    let open = after(None, &bad(1, 2), &by_node());
    let policy = of_other_product();
    let Decision::Send { finding, close: Some(close), .. } =
        decided_as_told(&open, &bad(2, 2), &policy)
    else {
        panic!("the old one isn't closed");
    };
    assert_eq!(
        (close.state, &close.policy),
        (RecordState::Gone(GoneReason::Superseded), &open.finding.policy)
    );
    assert!(close.updated_at > open.finding.updated_at);
    assert_eq!((finding.change, &finding.policy), (Change::Opened, &policy.render));
    assert_eq!(
        (finding.created_at, finding.updated_at),
        (END, NOW),
        "newer than what the hub may hold"
    );

    let (resolved, _) = sent(decided_as_told(&open, &good(2), &policy));
    assert_eq!((resolved.state, &resolved.policy), (RecordState::Resolved, &open.finding.policy));
    let closed = after(Some(&open), &good(2), &policy);
    assert_eq!(decided_as_told(&closed, &good(3), &policy), Decision::Nothing);
    let (anew, _) = sent(decided_as_told(&closed, &bad(3, 2), &policy));
    assert_eq!((anew.change, &anew.policy), (Change::Opened, &policy.render));
}

#[test]
fn what_the_hub_never_took_under_the_old_name_is_not_closed_there() {
    let never_acknowledged = after(None, &bad(1, 2), &of_other_product());
    let Decision::Send { close, .. } = decided(Some(&never_acknowledged), &bad(2, 2), &by_node())
    else {
        panic!("nothing is opened");
    };
    assert_eq!(close, None);
}

#[test]
fn the_default_product_written_out_is_no_other_one() {
    let open = after(None, &bad(1, 2), &by_node());
    let product_arn = Some(Text::truncated(&lane().default_product_arn()));
    let render = RenderPolicy { product_arn, ..RenderPolicy::default() };
    let (finding, _) = sent(decided_as_told(&open, &bad(2, 2), &Policy { render, ..by_node() }));
    assert_eq!(finding.change, Change::Updated);
}

/// What the hub is found to hold, told by somebody else; reads before the tenth began earlier.
fn adopted(state: RecordState, updated_at: UnixMillis) -> Desired {
    let mut row = after(None, &bad(10, 2), &by_node());
    row.revision = Revision(0);
    row.digest = 0;
    row.place = None;
    row.finding.state = state;
    row.finding.updated_at = updated_at;
    row
}

#[test]
fn what_was_read_before_an_adoption_is_judged_only_if_it_happened_after_the_hubs_state() {
    let later = UnixMillis(END.0 + 1);
    for state in [RecordState::Open, RecordState::Resolved] {
        let row = adopted(state, later);
        assert_eq!(decided(Some(&row), &bad(9, 2), &by_node()), Decision::Outdated, "{state:?}");
        let row = adopted(state, END);
        sent(decided(Some(&row), &bad(9, 2), &by_node()));
    }
    let open = adopted(RecordState::Open, later);
    assert_eq!(decided(Some(&open), &good(9), &by_node()), Decision::Outdated);
}

#[test]
fn what_was_read_after_an_adoption_is_judged_whenever_it_happened() {
    let row = adopted(RecordState::Open, NOW);
    let (finding, _) = sent(decided(Some(&row), &bad(10, 3), &by_node()));
    assert!(finding.updated_at > NOW);
}

#[test]
fn what_was_handed_in_is_never_outdated() {
    let row = adopted(RecordState::Open, NOW);
    let mut line = bad(1, 3);
    line.source = Source::File;
    sent(decided(Some(&row), &line, &by_node()));
}
