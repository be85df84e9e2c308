//! What can be made to go wrong, and where.
//!
//! A fault lies on a [`Scope`]; several may lie on one scope, one of each kind. This file decides
//! which faults a call meets; the server and the operations carry them out.

use std::{mem, time::Duration};

use super::config::SimLane;

/// A simulated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    CloudControl,
    Ssm,
    SecurityHub,
    Sts,
    Organizations,
    Sqs,
}

/// Which calls a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    service: Service,
    lane: Option<SimLane>,
    operation: Option<String>,
}

impl Scope {
    /// All calls to a service, in all lanes.
    pub fn of(service: Service) -> Self {
        Self { service, lane: None, operation: None }
    }

    /// Only those in one lane. For STS: those that concern the lane's account.
    #[must_use]
    pub fn lane(mut self, lane: &SimLane) -> Self {
        self.lane = Some(lane.clone());
        self
    }

    /// Only those of one operation, such as `GetFindings`.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_string());
        self
    }

    fn covers(&self, call: &Call<'_>) -> bool {
        let in_lane = self.lane.as_ref().is_none_or(|lane| {
            let is_global = matches!(self.service, Service::Sts | Service::Organizations);
            lane.account() == call.account && (is_global || lane.region() == call.region)
        });
        self.service == call.service
            && in_lane
            && self.operation.as_deref().is_none_or(|operation| operation == call.operation)
    }
}

/// What a call is, as far as faults care.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub service: Service,
    pub account: &'a str,
    pub region: &'a str,
    pub operation: &'a str,
}

/// Something that goes wrong. Ratios are parts of 1, drawn per call (or per finding).
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// 503, nothing done.
    Outage,
    /// The connection is closed without an answer, nothing done.
    Refuse,
    /// The connection is reset amid the answer's head, nothing done.
    Reset,
    /// A share of calls is throttled, as by a quota that others use too.
    Throttle {
        ratio: f64,
    },
    /// Each call takes this long.
    Latency {
        min: Duration,
        max: Duration,
    },
    /// A share of findings fails inside its batch with `code`.
    Partial {
        ratio: f64,
        code: String,
    },
    /// 200 without a body, nothing done.
    Empty200,
    /// 200 with a web page, nothing done: a proxy's.
    Html200,
    /// The call is carried out; half of its answer arrives.
    Truncated200,
    /// The call is carried out; a share of answers is lost with the connection.
    LostReply {
        ratio: f64,
    },
    ExpiredToken,
    AccessDenied,
    /// The account isn't subscribed to Security Hub.
    HubOff,
    /// The call is taken and never answered.
    NeverAnswer,
    /// The call is carried out; its answer arrives byte by byte, with a pause before each.
    Trickle {
        pause: Duration,
    },
    /// 200 with an answer to some other batch, nothing done.
    ForeignAnswer,
    /// Every finding fails with `InvalidInput`.
    RejectAll,
    /// The service's clock is so much ahead of the machine's (behind, if negative): its answers are
    /// dated so, and beyond five minutes it refuses what was signed elsewhen.
    ClockAhead {
        seconds: i64,
    },
}

#[derive(Debug)]
struct Entry {
    scope: Scope,
    fault: Fault,
    calls_left: Option<u32>,
}

/// The faults that lie on scopes now.
#[derive(Debug, Default)]
pub(super) struct FaultTable {
    entries: Vec<Entry>,
}

impl FaultTable {
    /// Lays `fault` on `scope`, in place of one of the same kind there; for the next `calls` calls,
    /// or until cleared.
    pub(super) fn set(&mut self, scope: Scope, fault: Fault, calls: Option<u32>) {
        let kind = mem::discriminant(&fault);
        self.entries
            .retain(|entry| entry.scope != scope || mem::discriminant(&entry.fault) != kind);
        self.entries.push(Entry { scope, fault, calls_left: calls });
    }

    pub(super) fn clear(&mut self, scope: &Scope) {
        self.entries.retain(|entry| entry.scope != *scope);
    }

    pub(super) fn clear_all(&mut self) {
        self.entries.clear();
    }

    /// The faults that this call meets, in the order in which they were set.
    pub(super) fn meet(&mut self, call: &Call<'_>) -> Vec<Fault> {
        let mut met = Vec::new();
        self.entries.retain_mut(|entry| {
            if !entry.scope.covers(call) {
                return true;
            }
            met.push(entry.fault.clone());
            match &mut entry.calls_left {
                None => true,
                Some(calls_left) => {
                    *calls_left = calls_left.saturating_sub(1);
                    *calls_left > 0
                }
            }
        });
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import_in(region: &str) -> Call<'_> {
        Call {
            service: Service::SecurityHub,
            account: "111122223333",
            region,
            operation: "BatchImportFindings",
        }
    }

    #[test]
    fn a_fault_on_one_lane_spares_the_others() {
        let mut table = FaultTable::default();
        let lane = SimLane::new("111122223333", "us-east-1");
        table.set(Scope::of(Service::SecurityHub).lane(&lane), Fault::Outage, None);
        assert_eq!(table.meet(&import_in("us-east-1")), [Fault::Outage]);
        assert!(table.meet(&import_in("us-east-2")).is_empty());
    }

    #[test]
    fn a_fault_replaces_its_own_kind_and_joins_others() {
        let mut table = FaultTable::default();
        let scope = Scope::of(Service::SecurityHub);
        table.set(scope.clone(), Fault::LostReply { ratio: 0.1 }, None);
        table.set(scope.clone(), Fault::Throttle { ratio: 0.5 }, None);
        table.set(scope.clone(), Fault::LostReply { ratio: 1.0 }, None);
        assert_eq!(
            table.meet(&import_in("us-east-1")),
            [Fault::Throttle { ratio: 0.5 }, Fault::LostReply { ratio: 1.0 }]
        );
        table.clear(&scope);
        assert!(table.meet(&import_in("us-east-1")).is_empty());
    }

    #[test]
    fn a_counted_fault_ends_by_itself() {
        let mut table = FaultTable::default();
        table.set(Scope::of(Service::SecurityHub), Fault::Outage, Some(2));
        let met: Vec<usize> = (0..3).map(|_| table.meet(&import_in("us-east-1")).len()).collect();
        assert_eq!(met, [1, 1, 0]);
    }
}
