//! Asks a lane's account whether an EC2 instance still exists.
//!
//! Cloud Control's `GetResource` is one small request; the EC2 SDK crate would double the build.
//! It needs `cloudformation:GetResource` and, since AWS reads the instance with the caller's
//! rights, `ec2:DescribeInstances`.
//!
//! Guarantees: an instance is told to be gone only if AWS says so of this very instance: it knows
//! none of that id, or calls it terminated or shutting down. Every other answer means that it
//! exists, or is an error.
//!
//! Deliberately doesn't know: why it is asked, how often, and what being gone means.

use std::{fmt, sync::Arc};

use aws_config::SdkConfig;
use serde::{Deserialize, Serialize};

use super::{
    AwsError, Fault, HoldReason, Unavailability,
    signed::{JsonProtocol, JsonService, SignedClient},
};
use crate::record::{Lane, NodeId, Text};

/// botocore 1.44.5, `cloudcontrol` 2021-09-30.
const SERVICE: JsonService = JsonService {
    id: "CloudControl",
    endpoint_prefix: "cloudcontrolapi",
    signing_name: "cloudcontrolapi",
    target_prefix: "CloudApiService",
    protocol: JsonProtocol::V1_0,
};
const OPERATION: &str = "GetResource";
const TYPE_NAME: &str = "AWS::EC2::Instance";
/// `State.Name` of an instance that never comes back (EC2 API Reference, `InstanceState`).
const FINAL_STATES: [&str; 2] = ["shutting-down", "terminated"];

/// Whether the account has an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceFate {
    /// Running, stopped, or in any other state from which it can come back.
    Exists,
    Gone,
}

/// One lane's Cloud Control. Cheap to clone.
#[derive(Clone)]
pub struct CloudControl {
    client: SignedClient,
    lane: Arc<Lane>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    type_name: &'static str,
    identifier: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    resource_description: Description,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    identifier: String,
    /// JSON within the JSON.
    properties: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    state: Option<State>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    name: Option<String>,
}

impl CloudControl {
    pub(super) fn new(config: &SdkConfig, lane: Lane) -> Self {
        let client = SignedClient::new(config, SERVICE, &lane.region);
        Self { client, lane: Arc::new(lane) }
    }

    /// Whether the account still has this EC2 instance.
    pub async fn instance(&self, node: &NodeId) -> Result<InstanceFate, AwsError> {
        let request = Request { type_name: TYPE_NAME, identifier: node.as_str() };
        match self.client.call(OPERATION, &request).await {
            Ok(answer) => fate(node.as_str(), answer).map_err(|fault| self.failed(fault)),
            Err(fault) if says_that_there_is_none(&fault) => Ok(InstanceFate::Gone),
            Err(fault) => Err(self.failed(denied_by_the_handler(fault))),
        }
    }

    fn failed(&self, fault: Fault) -> AwsError {
        AwsError { operation: OPERATION, lane: Some(Lane::clone(&self.lane)), fault }
    }
}

impl fmt::Debug for CloudControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudControl").field("lane", &self.lane).finish_non_exhaustive()
    }
}

fn fate(asked: &str, answer: Answer) -> Result<InstanceFate, Fault> {
    let Description { identifier, properties } = answer.resource_description;
    if identifier != asked {
        return Err(Fault::Unavailable {
            kind: Unavailability::BadBody,
            detail: Text::truncated(&format!("asked for {asked}, told of {identifier}")),
        });
    }
    let state = properties
        .and_then(|properties| serde_json::from_str::<Properties>(&properties).ok())
        .and_then(|properties| properties.state?.name);
    let is_final = state.is_some_and(|state| FINAL_STATES.contains(&state.as_str()));
    Ok(if is_final { InstanceFate::Gone } else { InstanceFate::Exists })
}

/// Not to be mistaken: `TypeNotFoundException`, which says nothing of the instance.
fn says_that_there_is_none(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { code, .. } if code.as_str() == "ResourceNotFoundException")
}

/// What AWS reads with the caller's rights may be denied to it; the code is then the handler's,
/// and only the message says why.
fn denied_by_the_handler(fault: Fault) -> Fault {
    match fault {
        Fault::Refused { code, message, .. }
            if message.as_str().contains("HandlerErrorCode: AccessDenied")
                || message.as_str().contains("not authorized to perform") =>
        {
            let detail = Text::truncated(&format!("{code} {message}"));
            Fault::Held { reason: HoldReason::AccessDenied, detail }
        }
        other => other,
    }
}
