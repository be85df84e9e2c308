//! What can go wrong with a call, in patchferry's terms, and how it is told to a person: what
//! happened, to what, what to do next.

use std::fmt;

use super::HoldReason;
use crate::record::{Lane, Text};

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}{}: {fault}{}", InLane(.lane.as_ref()), NextStep(.fault))]
pub struct AwsError {
    /// AWS's name of it, e.g. `DescribeInstancePatches`.
    pub operation: &'static str,
    /// `None` for calls with the ambient identity.
    pub lane: Option<Lane>,
    pub fault: Fault,
}

impl AwsError {
    /// Whether a policy forbids the call.
    #[must_use]
    pub fn is_access_denied(&self) -> bool {
        self.fault.is_access_denied()
    }
}

/// Every way in which a call can fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A quota is used up, whatever the status that says so.
    #[error("throttled by AWS ({code})")]
    Throttled { code: Text<128> },
    /// Time may heal it.
    #[error("{kind}: {detail}")]
    Unavailable { kind: Unavailability, detail: Text<512> },
    /// Time alone won't.
    #[error("{reason}: {detail}")]
    Held { reason: HoldReason, detail: Text<512> },
    /// AWS understood the request and calls it wrong.
    #[error("refused by AWS with {status} {code}: {message}")]
    Refused { status: u16, code: Text<128>, message: Text<1024> },
}

impl Fault {
    /// See [`AwsError::is_access_denied`].
    #[must_use]
    pub fn is_access_denied(&self) -> bool {
        matches!(self, Self::Held { reason: HoldReason::AccessDenied, .. })
    }
}

/// How a service was out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    Timeout,
    /// DNS, TCP, TLS, a proxy, a connection that broke.
    Connect,
    /// An answer of the 5xx class, or one that isn't AWS's.
    Server {
        status: u16,
    },
    /// A 2xx or 3xx whose body isn't what AWS answers: HTML, truncated, not JSON.
    BadBody,
}

impl Unavailability {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Server { .. } => "server",
            Self::BadBody => "bad_body",
        }
    }
}

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Connect => f.write_str("no connection"),
            Self::Server { status } => write!(f, "status {status}"),
            Self::BadBody => f.write_str("unreadable answer"),
        }
    }
}

struct InLane<'a>(Option<&'a Lane>);

impl fmt::Display for InLane<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lane| write!(f, " in lane {lane}"))
    }
}

struct NextStep<'a>(&'a Fault);

impl fmt::Display for NextStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Held { reason, .. } => write!(f, "; {}", reason.advice()),
            Fault::Throttled { .. } | Fault::Unavailable { .. } => f.write_str("; will be retried"),
            Fault::Refused { .. } => Ok(()),
        }
    }
}
