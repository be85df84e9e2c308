//! Cloud Control: whether an EC2 instance exists, and in which state.

use serde::Deserialize;
use serde_json::json;

use super::{Outcome, parse};
use crate::simulator::{
    fleet::Presence,
    reply::ApiError,
    world::{LaneWorld, lock},
};

const TYPE_NAME: &str = "AWS::EC2::Instance";

/// Carries out an operation; `None` if it is unknown.
pub(super) fn call(lane: &LaneWorld, operation: &str, body: &[u8]) -> Option<Outcome> {
    match operation {
        "GetResource" => Some(get_resource(lane, body)),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetResource {
    type_name: String,
    identifier: String,
}

fn get_resource(lane: &LaneWorld, body: &[u8]) -> Outcome {
    let GetResource { type_name, identifier } = parse(body)?;
    if type_name != TYPE_NAME {
        return Err(ApiError::new(400, "TypeNotFoundException", format!("no type {type_name}")));
    }
    let fleet = lock(&lane.fleet);
    let node = fleet.nodes.get(&identifier).filter(|node| !node.is_hybrid());
    let Some(node) = node else {
        let message = format!(
            "{TYPE_NAME} Handler returned status FAILED: Instance {identifier} was not found \
             (HandlerErrorCode: NotFound)"
        );
        return Err(ApiError::new(400, "ResourceNotFoundException", message));
    };
    let (code, name) = match node.presence {
        Presence::Online => ("16", "running"),
        Presence::Stopped => ("80", "stopped"),
        Presence::Terminated => ("48", "terminated"),
    };
    let properties = json!({
        "InstanceId": identifier,
        "InstanceType": "m7g.large",
        "State": { "Code": code, "Name": name },
    });
    let answer = json!({
        "TypeName": TYPE_NAME,
        "ResourceDescription": {
            "Identifier": identifier,
            "Properties": properties.to_string(),
        },
    });
    Ok(answer.to_string().into_bytes())
}
