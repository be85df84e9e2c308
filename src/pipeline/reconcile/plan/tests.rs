//! Each way in which a hub can differ, alone.

use super::*;
use crate::{
    queue::{Desired, Version},
    record::{Facts, ReadNumber, RenderPolicy, Revision, Severity, Source, Text, UnixMillis},
};

const NODE: &str = "i-02573cafcfEXAMPLE";

fn lane() -> Lane {
    "111122223333/us-east-2".parse().unwrap()
}

fn finding(state: RecordState, updated_at: i64) -> Finding {
    Finding {
        node: NODE.parse().unwrap(),
        id: FindingId::Node,
        change: Change::Opened,
        state,
        severity: Severity::High,
        created_at: UnixMillis(1),
        updated_at: UnixMillis(updated_at),
        first_observed_at: UnixMillis(1),
        last_observed_at: UnixMillis(1),
        facts: Facts::default(),
        policy: RenderPolicy::default(),
        source: Source::Sweep,
        accepted_at: UnixMillis(1),
    }
}

fn told(finding: Finding) -> Told {
    let desired = Desired {
        read: ReadNumber(1),
        revision: Revision(1),
        finding: finding.clone(),
        digest: 1,
        place: None,
        rejected: false,
        decided_at: UnixMillis(1),
    };
    Told { finding, version: Version::of(&desired), rejected: false, is_moving: false }
}

fn of_other_product(mut finding: Finding) -> Finding {
    finding.policy.product_arn = Some(Text::truncated("arn:other"));
    finding
}

fn compared(held: Vec<Finding>, ledger: Option<Told>) -> Plan {
    let ledger = ledger.into_iter().map(|told| (NODE.to_string(), told)).collect();
    plan(&lane(), &lane().default_product_arn(), held, ledger)
}

fn kinds(plan: &Plan) -> Vec<Kind> {
    plan.differences.iter().map(|it| it.kind).collect()
}

const OPEN: RecordState = RecordState::Open;
const RESOLVED: RecordState = RecordState::Resolved;
const GONE: RecordState = RecordState::Gone(GoneReason::Terminated);

#[test]
fn what_the_hub_holds_as_it_was_told_is_no_difference() {
    for (held, ledger) in [
        (vec![finding(OPEN, 5)], finding(OPEN, 5)),
        (vec![finding(RESOLVED, 5)], finding(RESOLVED, 5)),
        // Aged out, and an archived one of a former name.
        (vec![], finding(RESOLVED, 5)),
        (vec![finding(OPEN, 5), of_other_product(finding(GONE, 9))], finding(OPEN, 5)),
    ] {
        let plan = compared(held, Some(told(ledger)));
        assert_eq!((kinds(&plan), plan.compared), (vec![], 1));
    }
}

#[test]
fn each_difference_of_a_known_node_has_its_kind() {
    let low = Finding { severity: Severity::Low, ..finding(OPEN, 5) };
    for (held, ledger, kind) in [
        (vec![], finding(OPEN, 5), Kind::Missing),
        (vec![finding(RESOLVED, 9)], finding(OPEN, 5), Kind::Missing),
        (vec![finding(OPEN, 9)], finding(OPEN, 5), Kind::Drifted),
        (vec![finding(OPEN, 4)], finding(OPEN, 5), Kind::Drifted),
        (vec![low], finding(OPEN, 5), Kind::Drifted),
        (vec![finding(OPEN, 9)], finding(RESOLVED, 5), Kind::Orphaned),
        (vec![finding(RESOLVED, 9)], finding(RESOLVED, 5), Kind::Drifted),
        (vec![finding(GONE, 5)], finding(RESOLVED, 5), Kind::Drifted),
        (
            vec![finding(OPEN, 5), of_other_product(finding(OPEN, 4))],
            finding(OPEN, 5),
            Kind::Duplicate,
        ),
        (vec![of_other_product(finding(OPEN, 4))], finding(RESOLVED, 5), Kind::Orphaned),
    ] {
        let plan = compared(held.clone(), Some(told(ledger)));
        assert_eq!(kinds(&plan), [kind], "{held:?}");
    }
}

#[test]
fn an_unknown_node_s_finding_is_adopted_never_closed() {
    let plan = compared(vec![finding(OPEN, 5)], None);
    assert_eq!(kinds(&plan), [Kind::Orphaned]);
    assert!(matches!(plan.differences[0].repair, Repair::Adopt));
    // Of several the one that it would have.
    let several = vec![of_other_product(finding(OPEN, 9)), finding(OPEN, 5), finding(GONE, 9)];
    let plan = compared(several, None);
    assert_eq!(kinds(&plan), [Kind::Orphaned, Kind::Duplicate]);
    assert_eq!(plan.differences[0].finding.policy.product_arn, None);
}

#[test]
fn what_moves_and_what_the_hub_calls_invalid_is_left_alone() {
    let moving = Told { is_moving: true, ..told(finding(OPEN, 5)) };
    let plan = compared(vec![of_other_product(finding(OPEN, 4))], Some(moving));
    assert_eq!((kinds(&plan), plan.moving, plan.compared), (vec![], 1, 0));
    let rejected = Told { rejected: true, ..told(finding(OPEN, 5)) };
    assert_eq!(kinds(&compared(vec![], Some(rejected))), []);
}
