//! Which events are wanted, and their way to a queue: each account's rules hand them to the
//! runner's bus of the same Region, whose rules put them into the runner's queue.
//!
//! `EventBridge` can also deliver to another account's queue directly, but not in every partition,
//! and every account's role would then have to be let into the queue. This way the queue admits its
//! own account's rules only ("Sending and receiving events between accounts" and "Resource-based
//! policies for `EventBridge`", `EventBridge` User Guide).

use serde_json::{Value, json};

use super::{
    document::{Block, Policy},
    fleet::Fleet,
};

/// The queue's name; the same in each Region.
pub const QUEUE_NAME: &str = "patchferry-events";
/// The role that hands an account's events to the runner's bus.
pub const DELIVERY_ROLE: &str = "patchferry-events";

/// The documents whose runs write patch compliance.
const PATCH_DOCUMENTS: [&str; 3] =
    ["AWS-RunPatchBaseline", "AWS-RunPatchBaselineAssociation", "AWS-RunPatchBaselineWithHooks"];

/// A kind of event that may mean that a node's patch state has changed.
pub struct Kind {
    /// As part of a rule's name.
    pub name: &'static str,
    /// As part of a resource's name in a template.
    pub logical: &'static str,
    source: Value,
    detail_type: &'static str,
    detail: Value,
}

/// All kinds. Their shapes: "Amazon `EventBridge` event examples for Systems Manager" (Systems Manager
/// User Guide) and "State change events for your instances" (EC2 User Guide).
pub fn kinds() -> [Kind; 5] {
    let documents = json!(PATCH_DOCUMENTS);
    [
        Kind {
            name: "compliance",
            logical: "Compliance",
            // AWS's own example of the compliant event has another source than `aws.ssm`; only AWS
            // can send any that begins so.
            source: json!([{"prefix": "aws."}]),
            detail_type: "Configuration Compliance State Change",
            detail: json!({"compliance-type": ["Patch", "Association"]}),
        },
        Kind {
            name: "deregistration",
            logical: "Deregistration",
            source: json!(["aws.ssm"]),
            detail_type: "SSM Managed Instance Deregistration",
            detail: Value::Null,
        },
        Kind {
            name: "instance-state",
            logical: "InstanceState",
            source: json!(["aws.ec2"]),
            detail_type: "EC2 Instance State-change Notification",
            detail: json!({"state": ["terminated"]}),
        },
        Kind {
            name: "run-command",
            logical: "RunCommand",
            source: json!(["aws.ssm"]),
            detail_type: "EC2 Command Invocation Status-change Notification",
            detail: json!({
                "document-name": documents,
                "status": ["Success", "Failed", "TimedOut", "Cancelled"],
            }),
        },
        Kind {
            name: "association",
            logical: "Association",
            source: json!(["aws.ssm"]),
            detail_type: "EC2 State Manager Instance Association State Change",
            detail: json!({"document-name": documents, "status": ["Success", "Failed"]}),
        },
    ]
}

impl Kind {
    /// What an event has to have; of these accounts, or of the rule's own if there are none.
    pub fn pattern(&self, accounts: Option<Value>) -> Value {
        let mut pattern = json!({"source": self.source, "detail-type": [self.detail_type]});
        if !self.detail.is_null() {
            pattern["detail"] = self.detail.clone();
        }
        if let Some(accounts) = accounts {
            pattern["account"] = accounts;
        }
        pattern
    }

    pub fn rule_name(&self) -> String {
        format!("patchferry-{}", self.name)
    }
}

/// Of the queue in a Region: what may put messages into it.
pub fn queue_policy(fleet: &Fleet, region: &str) -> Policy {
    let runner = fleet.runner_account.as_deref().unwrap_or("RUNNER_ACCOUNT_ID");
    let partition = &fleet.partition;
    let rules: Vec<String> = kinds()
        .iter()
        .map(|kind| format!("arn:{partition}:events:{region}:{runner}:rule/{}", kind.rule_name()))
        .collect();
    taking(&format!("arn:{partition}:sqs:{region}:{runner}:{QUEUE_NAME}"), &json!(rules))
}

/// The policy of queue `queue`, which takes what `rules` send.
pub fn taking(queue: &str, rules: &Value) -> Policy {
    Policy::new(vec![Block {
        sid: "TakeEvents".into(),
        effect: "Allow",
        principal: Some(json!({"Service": "events.amazonaws.com"})),
        actions: vec!["sqs:SendMessage".into()],
        resources: vec![queue.to_string()],
        condition: Some(json!({"ArnEquals": {"aws:SourceArn": rules}})),
    }])
}

/// Of the role in each account that hands events on: to the runner's buses.
pub fn delivery_policy(partition: &str, runner: &str) -> Policy {
    Policy::new(vec![Block {
        sid: "HandOn".into(),
        effect: "Allow",
        principal: None,
        actions: vec!["events:PutEvents".into()],
        resources: vec![format!("arn:{partition}:events:*:{runner}:event-bus/default")],
        condition: None,
    }])
}

/// Who may assume that role: `EventBridge`, for rules of the account itself.
pub fn delivery_trust(account: &str) -> Policy {
    Policy::new(vec![Block {
        sid: "TrustEventBridge".into(),
        effect: "Allow",
        principal: Some(json!({"Service": "events.amazonaws.com"})),
        actions: vec!["sts:AssumeRole".into()],
        resources: Vec::new(),
        condition: Some(json!({"StringEquals": {"aws:SourceAccount": account}})),
    }])
}

/// Of the runner's bus: whose events it takes.
pub fn bus_statement(bus: &str, accounts: &Value) -> Block {
    Block {
        sid: "patchferry".into(),
        effect: "Allow",
        principal: Some(json!({"AWS": accounts})),
        actions: vec!["events:PutEvents".into()],
        resources: vec![bus.to_string()],
        condition: None,
    }
}

/// The rules, and what carries their events across accounts.
pub fn document(fleet: &Fleet) -> Value {
    let runner = fleet.runner_account.as_deref().unwrap_or("RUNNER_ACCOUNT_ID");
    let accounts = json!(fleet.accounts);
    let rules = |accounts: Option<&Value>| -> Value {
        let kinds = kinds();
        let rule = |kind: &Kind| json!({"Name": kind.rule_name(), "EventPattern": kind.pattern(accounts.cloned())});
        kinds.iter().map(rule).collect()
    };
    let own = fleet.accounts.len() > 1;
    let bus = format!("arn:{}:events:REGION:{runner}:event-bus/default", fleet.partition);
    let mut document = json!({"runner_rules": rules(own.then_some(&accounts))});
    if !fleet.role_arns.is_empty() {
        document["member_rules"] = rules(None);
        document["member_delivery_role"] = json!({
            "RoleName": DELIVERY_ROLE,
            "Trust": delivery_trust("MEMBER_ACCOUNT_ID"),
            "Policy": delivery_policy(&fleet.partition, runner),
        });
        document["runner_bus_statement"] = json!(bus_statement(&bus, &accounts));
    }
    document
}
