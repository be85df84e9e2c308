//! `EventBridge`: what it puts in a queue when something happens to a node.
//!
//! Forms: "`EventBridge` event examples for Systems Manager", "`EventBridge` events reference" and "State
//! change events for your instances" (EC2 User Guide). The shape of a deregistration's detail isn't
//! documented: it names the node as the others do.

use serde_json::{Value, json};

use super::{
    clock::format_timestamp,
    config::SimLane,
    fleet::{Node, Scan},
};

/// Something that `EventBridge` tells of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// Patch compliance as it is now.
    PatchCompliance,
    AssociationCompliance,
    /// `SSM Managed Instance Deregistration`.
    Deregistered,
    /// EC2: `terminated`, `stopped`, `running`, …
    InstanceState(String),
    /// Run Command has come to this status on the node.
    CommandInvocation {
        document: String,
        status: String,
    },
    /// State Manager has come to this status on the node.
    AssociationState {
        document: String,
        status: String,
    },
}

/// What an event is made of beside what happened.
pub(super) struct Occasion<'a> {
    pub lane: &'a SimLane,
    pub node_id: &'a str,
    pub node: Option<&'a Node>,
    pub event_id: String,
    pub now_ms: i64,
}

impl Occasion<'_> {
    pub(super) fn body(&self, event: &SimEvent) -> Value {
        match event {
            SimEvent::PatchCompliance => self.patch_compliance(),
            SimEvent::AssociationCompliance => self.event(
                "Configuration Compliance State Change",
                "aws.ssm",
                &self.managed_instance(),
                &json!({
                    "last-runtime": self.time(),
                    "compliance-status": "compliant",
                    "resource-type": "managed-instance",
                    "resource-id": self.node_id,
                    "compliance-type": "Association",
                }),
            ),
            SimEvent::Deregistered => self.event(
                "SSM Managed Instance Deregistration",
                "aws.ssm",
                &self.managed_instance(),
                &json!({"instance-id": self.node_id}),
            ),
            SimEvent::InstanceState(state) => self.event(
                "EC2 Instance State-change Notification",
                "aws.ec2",
                &self.instance(),
                &json!({"instance-id": self.node_id, "state": state}),
            ),
            SimEvent::CommandInvocation { document, status } => self.event(
                "EC2 Command Invocation Status-change Notification",
                "aws.ssm",
                &self.instance(),
                &json!({
                    "command-id": "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b",
                    "document-name": document,
                    "instance-id": self.node_id,
                    "requested-date-time": self.time(),
                    "status": status,
                }),
            ),
            SimEvent::AssociationState { document, status } => self.event(
                "EC2 State Manager Instance Association State Change",
                "aws.ssm",
                &self.instance(),
                &json!({
                    "association-id": "34fcb7e0-9a14-494c-9989-0e04e3ac9e3c",
                    "instance-id": self.node_id,
                    "document-name": document,
                    "document-version": "1",
                    "targets": format!("[{{\"key\":\"InstanceIds\",\"values\":[\"{}\"]}}]", self.node_id),
                    "creation-date": self.time(),
                    "last-execution-date": self.time(),
                    "status": status,
                    "detailed-status": status,
                    "error-code": "",
                    "execution-summary": "1 out of 1 plugin processed, 1 success, 0 failed",
                    "output-url": "{}",
                    "instance-association-cwe-version": "1",
                }),
            ),
        }
    }

    fn patch_compliance(&self) -> Value {
        let scan = self.node.and_then(|node| node.scan.as_ref());
        let is_non_compliant = scan.is_some_and(Scan::is_non_compliant);
        let worst = scan.and_then(|scan| scan.problems.iter().map(|patch| patch.level).max());
        let severity = worst.map_or("unspecified".into(), |it| it.as_str().to_ascii_lowercase());
        self.event(
            "Configuration Compliance State Change",
            "aws.ssm",
            &self.managed_instance(),
            &json!({
                "resource-type": "managed-instance",
                "resource-id": self.node_id,
                "compliance-status": if is_non_compliant { "non_compliant" } else { "compliant" },
                "compliance-type": "Patch",
                "patch-baseline-id": self.node.map(Node::baseline_id),
                "severity": severity,
            }),
        )
    }

    fn event(&self, detail_type: &str, source: &str, resource: &str, detail: &Value) -> Value {
        json!({
            "version": "0",
            "id": self.event_id,
            "detail-type": detail_type,
            "source": source,
            "account": self.lane.account(),
            "time": self.time(),
            "region": self.lane.region(),
            "resources": [resource],
            "detail": detail,
        })
    }

    fn managed_instance(&self) -> String {
        self.arn("ssm", "managed-instance")
    }

    fn instance(&self) -> String {
        self.arn("ec2", "instance")
    }

    fn arn(&self, service: &str, kind: &str) -> String {
        let lane = self.lane;
        format!(
            "arn:{}:{service}:{}:{}:{kind}/{}",
            lane.partition(),
            lane.region(),
            lane.account(),
            self.node_id
        )
    }

    fn time(&self) -> String {
        format_timestamp(self.now_ms)
    }
}

/// The event as SNS hands it on, unless raw delivery is on.
pub(super) fn wrapped_by_sns(event: &str, lane: &SimLane, id: &str, now_ms: i64) -> Value {
    let (region, account) = (lane.region(), lane.account());
    json!({
        "Type": "Notification",
        "MessageId": id,
        "TopicArn": format!("arn:{}:sns:{region}:{account}:patch-events", lane.partition()),
        "Message": event,
        "Timestamp": format_timestamp(now_ms),
        "SignatureVersion": "1",
        "Signature": "c2ltdWxhdGVk",
        "SigningCertURL": format!("https://sns.{region}.amazonaws.com/cert.pem"),
        "UnsubscribeURL": format!("https://sns.{region}.amazonaws.com/?Action=Unsubscribe"),
    })
}
