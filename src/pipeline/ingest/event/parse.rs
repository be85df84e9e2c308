//! What a message says: an event of `EventBridge`, directly or wrapped by SNS, taken apart. Pure.
//!
//! | detail-type | what it tells |
//! |---|---|
//! | `Configuration Compliance State Change`, type `Patch` | the node's patches were judged |
//! | the same, type `Association` | an association ran there |
//! | `SSM Managed Instance Deregistration` | the node may be gone |
//! | `EC2 Instance State-change Notification`, `terminated` | the node is gone |
//! | `EC2 Command Invocation Status-change Notification`, ended, of a patch baseline document | it was scanned |
//! | `EC2 State Manager Instance Association State Change`, ended, of such a document | likewise |
//!
//! Everything else is nothing to us, `EC2 Command Status-change Notification` included, which names
//! no node: its invocations do. Told by detail-type, not by source: AWS's own example of a compliant
//! node has a source that is wrong ("`EventBridge` event examples for Systems Manager").
//!
//! Guarantees: total; an event of a kind above that lacks what it needs is malformed, and what is
//! wrong with it is said in one sentence of bounded length.
//!
//! Deliberately doesn't know: which lanes are served.

use serde_json::{Map, Value};

use crate::record::{AccountId, Lane, NodeId, NodeKind, Region, Text, UnixMillis};

/// `EventBridge` takes no longer event (`PutEvents`: 256 KB); SNS's wrapping escapes every quote.
pub const EVENT_BYTES_MAX: usize = 512 * 1024;

/// Documents that scan or patch.
const BASELINE_DOCUMENTS: [&str; 3] =
    ["AWS-RunPatchBaseline", "AWS-RunPatchBaselineAssociation", "AWS-RunPatchBaselineWithHooks"];
/// Commands and associations that have not ended yet (State Manager says `Pending`, too).
const UNENDED: [&str; 4] = ["Pending", "InProgress", "Delayed", "Cancelling"];

/// What an event tells of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub lane: Lane,
    pub node: NodeId,
    pub what: What,
    /// When it happened, if the event says so.
    pub at: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its patches were judged, or may have been.
    Scanned {
        /// The event's own verdict, if it has one.
        non_compliant: Option<bool>,
    },
    /// An association ran there, which may have been a scan.
    Associated,
    /// An EC2 instance is no more.
    Terminated,
    /// A node was deregistered: to be asked for.
    Deregistered,
}

/// A message that is no event, or one that lacks what its kind needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    pub message: Text<512>,
    /// Where it says that it comes from, as far as that makes sense.
    pub lane: Option<Lane>,
}

/// Reads a message; `None` if it is nothing to us.
pub fn parse(body: &str) -> Result<Option<Told>, Malformed> {
    let message = object(body, "the message")?;
    match message.get("Type").and_then(Value::as_str) {
        _ if message.contains_key("detail-type") => event(&message),
        Some("Notification") => match message.get("Message") {
            Some(Value::String(inner)) => event(&object(inner, "what SNS has wrapped")?),
            other => malformed(&format!(
                "a notification of SNS has no text in Message, but {}",
                kind(other)
            )),
        },
        Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => Ok(None),
        _ => malformed("there is no `detail-type`: it is no event of EventBridge"),
    }
}

fn object(text: &str, what: &str) -> Result<Map<String, Value>, Malformed> {
    if text.len() > EVENT_BYTES_MAX {
        return malformed(&format!(
            "{what} has {} bytes, more than any event: at most {EVENT_BYTES_MAX}",
            text.len()
        ));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => malformed(&format!("{what} is {}, no JSON object", kind(Some(&other)))),
        Err(error) => malformed(&format!("{what} is no JSON: {error}")),
    }
}

fn event(event: &Map<String, Value>) -> Result<Option<Told>, Malformed> {
    let fields = Fields { of: event, within: "", lane: None };
    match fields.text("detail-type")? {
        "Configuration Compliance State Change" => compliance(&fields),
        "SSM Managed Instance Deregistration" => deregistration(&fields),
        "EC2 Instance State-change Notification" => instance_state(&fields),
        "EC2 Command Invocation Status-change Notification"
        | "EC2 State Manager Instance Association State Change" => run(&fields),
        _ => Ok(None),
    }
}

fn compliance(event: &Fields<'_>) -> Result<Option<Told>, Malformed> {
    let lane = event.lane()?;
    let detail = event.detail(&lane)?;
    let what = match detail.text("compliance-type")? {
        "Patch" => What::Scanned { non_compliant: detail.verdict()? },
        "Association" => What::Associated,
        _ => return Ok(None),
    };
    let node = detail.node("resource-id")?;
    Ok(Some(Told { lane, node, what, at: event.time() }))
}

fn deregistration(event: &Fields<'_>) -> Result<Option<Told>, Malformed> {
    let lane = event.lane()?;
    let detail = event.detail(&lane)?;
    // The shape of its detail isn't documented: whatever names a node, does.
    let resources = event.of.get("resources").and_then(Value::as_array);
    let named = detail.of.values().chain(resources.into_iter().flatten());
    let node = named
        .filter_map(Value::as_str)
        .find_map(|text| text.rsplit('/').next()?.parse::<NodeId>().ok());
    let Some(node) = node else {
        return detail.malformed("names no node, and neither do the event's resources");
    };
    // An EC2 instance isn't gone for being deregistered.
    if node.kind() == NodeKind::Ec2 {
        return Ok(None);
    }
    Ok(Some(Told { lane, node, what: What::Deregistered, at: event.time() }))
}

fn instance_state(event: &Fields<'_>) -> Result<Option<Told>, Malformed> {
    let lane = event.lane()?;
    let detail = event.detail(&lane)?;
    if detail.text("state")? != "terminated" {
        return Ok(None);
    }
    let node = detail.node("instance-id")?;
    Ok(Some(Told { lane, node, what: What::Terminated, at: event.time() }))
}

/// An invocation of Run Command, or a run of State Manager.
fn run(event: &Fields<'_>) -> Result<Option<Told>, Malformed> {
    let lane = event.lane()?;
    let detail = event.detail(&lane)?;
    let document = detail.text("document-name")?;
    // A document of another account or Region is named by its ARN.
    let name = document.rsplit('/').next().unwrap_or(document);
    if !BASELINE_DOCUMENTS.contains(&name) || UNENDED.contains(&detail.text("status")?) {
        return Ok(None);
    }
    let node = detail.node("instance-id")?;
    let what = What::Scanned { non_compliant: None };
    Ok(Some(Told { lane, node, what, at: event.time() }))
}

/// The fields of an object, and where it is.
struct Fields<'a> {
    of: &'a Map<String, Value>,
    within: &'static str,
    lane: Option<Lane>,
}

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Malformed> {
        match self.of.get(name) {
            Some(Value::String(text)) => Ok(text),
            other => self.malformed(&format!("`{name}` is {}, no text", kind(other))),
        }
    }

    fn lane(&self) -> Result<Lane, Malformed> {
        let account: AccountId =
            self.text("account")?.parse().or_else(|error| self.unfit("account", &error))?;
        let region: Region =
            self.text("region")?.parse().or_else(|error| self.unfit("region", &error))?;
        Ok(Lane::new(account, region))
    }

    fn detail(&self, lane: &Lane) -> Result<Fields<'a>, Malformed> {
        match self.of.get("detail") {
            Some(Value::Object(of)) => {
                Ok(Fields { of, within: "detail: ", lane: Some(lane.clone()) })
            }
            other => self.malformed(&format!("`detail` is {}, no object", kind(other))),
        }
    }

    fn node(&self, name: &str) -> Result<NodeId, Malformed> {
        self.text(name)?.parse().or_else(|error| self.unfit(name, &error))
    }

    fn verdict(&self) -> Result<Option<bool>, Malformed> {
        match self.of.get("compliance-status") {
            Some(Value::String(status)) => Ok(match status.to_ascii_lowercase().as_str() {
                "non_compliant" => Some(true),
                "compliant" => Some(false),
                _ => None,
            }),
            None => Ok(None),
            other => self.malformed(&format!("`compliance-status` is {}, no text", kind(other))),
        }
    }

    /// Only for measuring: an event without a time is as good.
    fn time(&self) -> Option<UnixMillis> {
        UnixMillis::parse_rfc3339(self.of.get("time")?.as_str()?).ok()?.given()
    }

    fn unfit<T>(&self, name: &str, error: &dyn std::fmt::Display) -> Result<T, Malformed> {
        self.malformed(&format!("`{name}`: {error}"))
    }

    fn malformed<T>(&self, what: &str) -> Result<T, Malformed> {
        let message = Text::truncated(&format!("{}{what}", self.within));
        Err(Malformed { message, lane: self.lane.clone() })
    }
}

fn malformed<T>(message: &str) -> Result<T, Malformed> {
    Err(Malformed { message: Text::truncated(message), lane: None })
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

#[cfg(test)]
mod tests;
