//! The operations of each simulated service, and how a request names them.
//!
//! Covered: of SSM what a sweep and an event read; of Cloud Control `GetResource` of EC2 instances; of
//! Security Hub importing, reading back, `DescribeHub` and `ListEnabledProductsForImport`; of STS
//! `GetCallerIdentity` and `AssumeRole`; of SQS receiving, deleting and hiding messages, and
//! `GetQueueAttributes`; of Organizations `ListAccounts`. Anything else is unknown, which is
//! answered as an error and counted.

mod cloud_control;
mod hub_import;
mod hub_read;
mod organizations;
mod sqs;
mod ssm;
mod ssm_answers;
mod ssm_associations;
mod sts;

use std::time::Duration;

use axum::http::{Method, request::Parts};
use serde::de::DeserializeOwned;

use super::{
    caller::Caller,
    faults::{Fault, Service},
    queue::SimQueue,
    reply::{ApiError, Protocol},
    world::{LaneWorld, World},
};

pub(super) const IMPORT: &str = "BatchImportFindings";
pub(super) const GET_FINDINGS: &str = "GetFindings";
const DESCRIBE_HUB: &str = "DescribeHub";
const LIST_PRODUCTS: &str = "ListEnabledProductsForImport";

/// The body of an answer, or an error.
pub(super) type Outcome = Result<Vec<u8>, ApiError>;

/// Which operation a request asks for. Its name may be unknown; its service isn't.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub protocol: Protocol,
    pub service: Service,
    pub operation: String,
    /// The account whose role `AssumeRole` asks for.
    pub assumed_account: Option<String>,
    pub assumed_role: Option<String>,
}

impl Route {
    /// `None` if not even the service can be told.
    pub(super) fn of(parts: &Parts, body: &[u8]) -> Option<Self> {
        let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        if let Some(operation) = target.and_then(|target| target.strip_prefix("AmazonSSM.")) {
            return Some(Self::new(Protocol::AwsJson, Service::Ssm, operation));
        }
        if let Some(operation) =
            target.and_then(|target| target.strip_prefix("AWSOrganizationsV20161128."))
        {
            return Some(Self::new(Protocol::AwsJson, Service::Organizations, operation));
        }
        if let Some(operation) = target.and_then(|target| target.strip_prefix("AmazonSQS.")) {
            return Some(Self::new(Protocol::AwsJson10, Service::Sqs, operation));
        }
        if let Some(operation) = target.and_then(|target| target.strip_prefix("CloudApiService.")) {
            return Some(Self::new(Protocol::AwsJson10, Service::CloudControl, operation));
        }
        if target.is_some() {
            return None;
        }
        let operation = match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/findings/import") => IMPORT,
            (&Method::POST, "/findings") => GET_FINDINGS,
            (&Method::GET, "/accounts") => DESCRIBE_HUB,
            (&Method::GET, "/productSubscriptions") => LIST_PRODUCTS,
            (&Method::POST, "/") => return sts::route(body),
            _ => return None,
        };
        Some(Self::new(Protocol::RestJson, Service::SecurityHub, operation))
    }

    pub(super) fn is_import(&self) -> bool {
        self.service == Service::SecurityHub && self.operation == IMPORT
    }

    fn new(protocol: Protocol, service: Service, operation: &str) -> Self {
        Self {
            protocol,
            service,
            operation: operation.to_string(),
            assumed_account: None,
            assumed_role: None,
        }
    }
}

/// Carries out an STS operation; `None` if it is unknown.
pub(super) fn sts(world: &World, caller: &Caller, route: &Route, body: &[u8]) -> Option<Outcome> {
    sts::call(world, caller, &route.operation, body)
}

/// Carries out an operation of Organizations; `None` if it is unknown.
pub(super) fn organizations(
    world: &World,
    caller: &Caller,
    route: &Route,
    body: &[u8],
) -> Option<Outcome> {
    organizations::call(world, caller, &route.operation, body)
}

/// Carries out an SSM operation; `None` if it is unknown.
pub(super) fn ssm(world: &World, lane: &LaneWorld, route: &Route, body: &[u8]) -> Option<Outcome> {
    ssm::call(world, lane, &route.operation, body)
}

/// Carries out an SQS operation; `None` if it is unknown.
pub(super) fn sqs(world: &World, caller: &Caller, route: &Route, body: &[u8]) -> Option<Outcome> {
    sqs::call(world, caller, &route.operation, body)
}

/// The queue at which a request waits for messages, and for how long at most.
pub(super) fn long_poll(
    caller: &Caller,
    route: &Route,
    body: &[u8],
) -> Option<(SimQueue, Duration)> {
    let is_receive = route.service == Service::Sqs && route.operation == sqs::RECEIVE;
    if is_receive { sqs::long_poll(caller, body) } else { None }
}

/// Carries out a Cloud Control operation; `None` if it is unknown.
pub(super) fn cloud_control(lane: &LaneWorld, route: &Route, body: &[u8]) -> Option<Outcome> {
    cloud_control::call(lane, &route.operation, body)
}

/// Carries out a Security Hub operation; `None` if it is unknown.
pub(super) fn hub(
    world: &World,
    lane: &LaneWorld,
    route: &Route,
    body: &[u8],
    faults: &[Fault],
) -> Option<Outcome> {
    match route.operation.as_str() {
        IMPORT => Some(hub_import::import(world, lane, body, faults)),
        GET_FINDINGS => Some(hub_read::get_findings(world, lane, body)),
        DESCRIBE_HUB => Some(Ok(hub_read::describe_hub(lane))),
        LIST_PRODUCTS => Some(Ok(hub_read::list_enabled_products(world, lane))),
        _ => None,
    }
}

/// An answer to a batch that nobody sent.
pub(super) fn foreign_import_answer() -> Vec<u8> {
    serde_json::json!({
        "SuccessCount": 7,
        "FailedCount": 1,
        "FailedFindings": [{
            "Id": "somebody-else/finding-1",
            "ErrorCode": "InternalFailure",
            "ErrorMessage": "Internal failure",
        }],
    })
    .to_string()
    .into_bytes()
}

/// Reads a request's JSON. Members that the shape doesn't have are refused, so that using them is
/// noticed.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(400, "SerializationException", error.to_string()))
}
