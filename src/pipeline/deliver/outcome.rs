//! The outcome table: what a reply of the hub means for each finding of the batch and for the
//! lane. Pure.
//!
//! Only an input that AWS calls invalid, sent alone, is ever condemned; everything else is tried
//! again for ever. Whoever carries out a [`Plan`] decides when.

use std::collections::HashMap;

use crate::{
    aws::{FailedFinding, HoldReason, ImportReply},
    metrics::HubOutcome,
    record::{AttemptOutcome, Text},
};

/// What becomes of one finding of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    /// Stays in the outbox as it is; costs no attempt.
    Again,
    /// Tried again later, by itself; counts as an attempt.
    Later(Text<128>),
    /// Called invalid, and sent alone next, to be sure that it is the culprit.
    Isolate(Text<128>),
    /// Sent again with its half of the batch.
    Halve,
    /// Sent alone and the reply doesn't say what became of it: ask the hub.
    Confirm,
    /// Sent alone and called invalid.
    Condemned(Text<1024>),
}

/// What the reply means for the lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneEffect {
    /// The hub answers.
    Open,
    Throttled,
    BackOff(String),
    Hold(HoldReason, String),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for each finding, in the order of the batch.
    pub fates: Vec<Fate>,
    pub lane: LaneEffect,
    pub outcome: HubOutcome,
    pub aws_request_id: Option<Text<128>>,
    /// What was said of the request as a whole, if it failed.
    pub detail: Text<128>,
}

impl Plan {
    /// Findings that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.fates.iter().filter(|fate| **fate == Fate::Acknowledged).count() as u64
    }

    /// How the attempt failed for the finding at `index`; `None` if it was acknowledged.
    #[must_use]
    pub fn failure(&self, index: usize) -> Option<(AttemptOutcome, Text<128>)> {
        let whole = |outcome| Some((outcome, self.detail.clone()));
        match &self.fates[index] {
            Fate::Acknowledged => None,
            Fate::Later(detail) => Some((AttemptOutcome::FailedByHub, detail.clone())),
            Fate::Isolate(detail) => Some((AttemptOutcome::CalledInvalid, detail.clone())),
            Fate::Condemned(message) => {
                Some((AttemptOutcome::CalledInvalid, Text::truncated(message.as_str())))
            }
            Fate::Halve if self.outcome == HubOutcome::Invalid => {
                whole(AttemptOutcome::CalledInvalid)
            }
            Fate::Halve | Fate::Confirm => whole(AttemptOutcome::Unknown),
            Fate::Again => whole(match &self.lane {
                LaneEffect::Throttled => AttemptOutcome::Throttled,
                LaneEffect::Hold(..) => AttemptOutcome::Held,
                LaneEffect::BackOff(_) | LaneEffect::Open => AttemptOutcome::Unavailable,
            }),
        }
    }

    /// Whether the finding at `index`, or the call that it was part of, was called invalid.
    #[must_use]
    pub fn is_called_invalid(&self, index: usize) -> bool {
        matches!(self.failure(index), Some((AttemptOutcome::CalledInvalid, _)))
    }
}

/// Reads `reply` to a batch of findings with these Ids.
#[must_use]
pub fn plan(ids: &[&str], reply: ImportReply) -> Plan {
    match reply {
        ImportReply::Answered { success, failed_count, failed, request_id } => {
            let plan = answered(ids, success, failed_count, &failed);
            Plan { aws_request_id: request_id, ..plan }
        }
        ImportReply::CallInvalid { code, message } => call_invalid(ids.len(), &code, &message),
        ImportReply::Throttled { code } => {
            all(ids, &Fate::Again, LaneEffect::Throttled, HubOutcome::Throttled, code.as_str())
        }
        ImportReply::Unavailable { kind, detail } => {
            let why = format!("{kind}: {detail}");
            let effect = LaneEffect::BackOff(why.clone());
            all(ids, &Fate::Again, effect, HubOutcome::Unavailable, &why)
        }
        ImportReply::Held { reason, detail } => {
            let why = format!("{reason}: {detail}");
            let effect = LaneEffect::Hold(reason, detail.to_string());
            all(ids, &Fate::Again, effect, HubOutcome::Held, &why)
        }
    }
}

fn all(ids: &[&str], fate: &Fate, lane: LaneEffect, outcome: HubOutcome, detail: &str) -> Plan {
    Plan {
        fates: vec![fate.clone(); ids.len()],
        lane,
        outcome,
        aws_request_id: None,
        detail: detail.into(),
    }
}

/// Invalid as a whole: alone it is the culprit, else one half holds it.
fn call_invalid(count: usize, code: &Text<128>, message: &Text<1024>) -> Plan {
    let why = format!("{code}: {message}");
    let fate = if count == 1 { Fate::Condemned(Text::truncated(&why)) } else { Fate::Halve };
    Plan {
        fates: vec![fate; count],
        lane: LaneEffect::Open,
        outcome: HubOutcome::Invalid,
        aws_request_id: None,
        detail: Text::truncated(&why),
    }
}

fn answered(ids: &[&str], success: u32, failed_count: u32, failed: &[FailedFinding]) -> Plan {
    let failures: HashMap<&str, &FailedFinding> =
        failed.iter().map(|failure| (failure.id.as_str(), failure)).collect();
    if !accounts_for(ids, success, failed_count, failed, &failures) {
        let fate = if ids.len() == 1 { Fate::Confirm } else { Fate::Halve };
        let why = "the answer doesn't add up to what was sent";
        return all(ids, &fate, LaneEffect::Open, HubOutcome::Unknown, why);
    }
    let acknowledged = ids.len() - failures.len();
    let mut lane = LaneEffect::Open;
    let mut detail = Text::default();
    let fates = ids
        .iter()
        .map(|id| match failures.get(id) {
            None => Fate::Acknowledged,
            Some(failure) if failure.is_invalid_input() && ids.len() == 1 => {
                Fate::Condemned(Text::truncated(&format!("{}: {}", failure.code, failure.message)))
            }
            Some(failure) if failure.is_invalid_input() => Fate::Isolate(said(failure)),
            Some(failure) if failure.is_invalid_access() && acknowledged == 0 => {
                lane = LaneEffect::Hold(HoldReason::HubOff, failure.message.to_string());
                detail = said(failure);
                Fate::Again
            }
            Some(failure) => Fate::Later(said(failure)),
        })
        .collect();
    let outcome = match (&lane, acknowledged) {
        (LaneEffect::Hold(..), _) => HubOutcome::Held,
        (_, all) if all == ids.len() => HubOutcome::Acknowledged,
        (_, 0) if failed.iter().all(FailedFinding::is_invalid_input) => HubOutcome::Invalid,
        _ => HubOutcome::Partial,
    };
    Plan { fates, lane, outcome, aws_request_id: None, detail }
}

fn said(failure: &FailedFinding) -> Text<128> {
    Text::truncated(&format!("{}: {}", failure.code, failure.message))
}

/// Whether the reply says of each finding that was sent, and of no other, what became of it.
fn accounts_for(
    ids: &[&str],
    success: u32,
    failed_count: u32,
    failed: &[FailedFinding],
    failures: &HashMap<&str, &FailedFinding>,
) -> bool {
    let listed = failed.len();
    usize::try_from(failed_count) == Ok(listed)
        && failures.len() == listed
        && usize::try_from(success).is_ok_and(|success| success + listed == ids.len())
        && failures.keys().all(|id| ids.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Unavailability;

    fn failed(id: &str, code: &str) -> FailedFinding {
        FailedFinding { id: id.into(), code: code.into(), message: "why".into() }
    }

    fn reply(success: u32, failed: Vec<FailedFinding>) -> ImportReply {
        let failed_count = u32::try_from(failed.len()).unwrap();
        ImportReply::Answered { success, failed_count, failed, request_id: None }
    }

    fn fates(ids: &[&str], reply: ImportReply) -> Vec<Fate> {
        plan(ids, reply).fates
    }

    #[test]
    fn what_is_not_among_the_failed_is_acknowledged() {
        let plan = plan(&["a", "b"], reply(1, vec![failed("b", "InternalFailure")]));
        assert_eq!(plan.fates, [Fate::Acknowledged, Fate::Later("InternalFailure: why".into())]);
        assert_eq!((plan.lane, plan.outcome), (LaneEffect::Open, HubOutcome::Partial));
    }

    #[test]
    fn an_invalid_finding_is_sent_alone_before_it_is_condemned() {
        let invalid = || vec![failed("b", "InvalidInput")];
        assert_eq!(
            fates(&["a", "b"], reply(1, invalid())),
            [Fate::Acknowledged, Fate::Isolate("InvalidInput: why".into())]
        );
        assert!(matches!(fates(&["b"], reply(0, invalid()))[..], [Fate::Condemned(_)]));
    }

    #[test]
    fn a_call_that_is_invalid_is_halved_until_alone() {
        let invalid = || ImportReply::CallInvalid {
            code: "InvalidInputException".into(),
            message: "m".into(),
        };
        assert_eq!(fates(&["a", "b"], invalid()), [Fate::Halve, Fate::Halve]);
        assert!(matches!(fates(&["a"], invalid())[..], [Fate::Condemned(_)]));
    }

    #[test]
    fn an_answer_that_does_not_add_up_says_nothing() {
        for odd in [
            reply(0, vec![]),
            reply(2, vec![]),
            reply(1, vec![failed("c", "InternalFailure")]),
            reply(1, vec![failed("b", "X"), failed("b", "X")]),
        ] {
            let ids = ["a", "b", "d"];
            assert_eq!(fates(&ids, odd), [Fate::Halve, Fate::Halve, Fate::Halve]);
        }
        assert_eq!(fates(&["a"], reply(0, vec![])), [Fate::Confirm]);
    }

    #[test]
    fn no_access_holds_the_lane_only_if_nothing_was_acknowledged() {
        let none = plan(&["a"], reply(0, vec![failed("a", "InvalidAccess")]));
        assert!(matches!(none.lane, LaneEffect::Hold(HoldReason::HubOff, _)));
        assert_eq!(none.fates, [Fate::Again]);
        let some = plan(&["a", "b"], reply(1, vec![failed("a", "InvalidAccess")]));
        assert_eq!(
            (some.lane, some.fates),
            (LaneEffect::Open, vec![Fate::Later("InvalidAccess: why".into()), Fate::Acknowledged])
        );
    }

    #[test]
    fn unknown_codes_are_tried_again_for_ever() {
        for code in ["ConcurrentUpdateError", "InternalFailure", "SomethingNew"] {
            let fate = Fate::Later(Text::truncated(&format!("{code}: why")));
            assert_eq!(fates(&["a"], reply(0, vec![failed("a", code)])), [fate]);
        }
    }

    #[test]
    fn what_may_heal_costs_no_finding_anything() {
        let unavailable =
            ImportReply::Unavailable { kind: Unavailability::Timeout, detail: "15 s".into() };
        let throttled = ImportReply::Throttled { code: "TooManyRequestsException".into() };
        let held = ImportReply::Held { reason: HoldReason::AccessDenied, detail: "no".into() };
        for reply in [unavailable, throttled, held] {
            assert_eq!(fates(&["a", "b"], reply), [Fate::Again, Fate::Again]);
        }
    }
}
