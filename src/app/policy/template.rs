//! Everything as one `CloudFormation` template, for all accounts and Regions alike.
//!
//! As a `StackSet` it goes to the runner's account and to each other account, in each Region: what
//! is global (IAM) is made in one Region only, queues in the runner's account only, senders in the
//! others only. Nothing in it is a secret: the external id is a parameter that isn't echoed.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Policy, Scope,
    document::Block,
    events::{self, DELIVERY_ROLE, QUEUE_NAME},
    fleet::Fleet,
    statements,
};
use crate::aws::permissions::{Holder, Need};

/// SQS keeps a message this long; a hint older than that is worth less than a sweep.
const RETENTION_SECONDS: u32 = 4 * 86_400;
const DEAD_RETENTION_SECONDS: u32 = 14 * 86_400;
/// How often a message is handed out before SQS sets it aside: patchferry buries what makes no sense
/// by itself, so this only catches what it never gets to answer.
const RECEIVES_MAX: u32 = 100;
const VISIBILITY_SECONDS: u32 = 120;

const RUNNER_ACCOUNT: &str = "${RunnerAccountId}";
const PARTITION: &str = "${AWS::Partition}";
const ACCOUNT: &str = "${AWS::AccountId}";
const BUS: &str =
    "arn:${AWS::Partition}:events:${AWS::Region}:${RunnerAccountId}:event-bus/default";

/// The template's sections, in the order in which people read them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Template {
    #[serde(rename = "AWSTemplateFormatVersion")]
    version: &'static str,
    description: &'static str,
    parameters: Value,
    conditions: Value,
    resources: Map<String, Value>,
    outputs: Value,
}

/// The template as JSON, which `CloudFormation` takes as it takes YAML.
#[must_use]
pub fn template(fleet: &Fleet) -> String {
    let template = Template {
        version: "2010-09-09",
        description: "patchferry: the role that it works with in an account, and the events of its \
                      nodes. For all accounts and Regions, the home Region first.",
        parameters: parameters(fleet),
        conditions: conditions(fleet),
        resources: resources(fleet),
        outputs: json!({
            "RoleArn": {"Condition": "MakesRole", "Value": {"Fn::GetAtt": ["MemberRole", "Arn"]}},
            "QueueUrl": {"Condition": "TakesEvents", "Value": {"Ref": "Queue"}},
        }),
    };
    serde_json::to_string_pretty(&template).expect("a template is JSON")
}

fn parameters(fleet: &Fleet) -> Value {
    let with_default = |mut parameter: Value, default: Option<String>| {
        if let Some(default) = default.filter(|default| !default.is_empty()) {
            parameter["Default"] = json!(default);
        }
        parameter
    };
    let (path, name) = fleet.role_path_and_name();
    json!({
        "RunnerAccountId": with_default(
            json!({
                "Type": "String",
                "AllowedPattern": "[0-9]{12}",
                "Description": "The account that patchferry runs in",
            }),
            fleet.runner_account.clone(),
        ),
        "RunnerRoleArn": {
            "Type": "String",
            "Default": "",
            "Description": "The role that patchferry runs as; empty: whoever in the runner's account \
                            may assume the role",
        },
        "RoleName": {
            "Type": "String",
            "Default": name,
            "Description": "As in role_arn of patchferry's configuration",
        },
        "RolePath": {"Type": "String", "Default": path},
        "ExternalId": {
            "Type": "String",
            "NoEcho": true,
            "Default": "",
            "Description": "As external_id in patchferry's configuration; empty: none",
        },
        "HomeRegion": with_default(
            json!({"Type": "String", "Description": "Where what is global is made"}),
            fleet.regions.first().cloned(),
        ),
        "Regions": with_default(
            json!({
                "Type": "CommaDelimitedList",
                "Description": "The Regions that patchferry may work in",
            }),
            Some(fleet.regions.join(",")),
        ),
        "AccountIds": with_default(
            json!({
                "Type": "CommaDelimitedList",
                "Description": "The accounts whose events are taken, the runner's included",
            }),
            Some(fleet.accounts.join(",")),
        ),
        "WithOptional": {
            "Type": "String",
            "AllowedValues": ["true", "false"],
            "Default": "true",
            "Description": "Also what patchferry can do without",
        },
        "WithEvents": {
            "Type": "String",
            "AllowedValues": ["true", "false"],
            "Default": "true",
            "Description": "Queues, and rules that fill them",
        },
    })
}

fn conditions(fleet: &Fleet) -> Value {
    let is = |condition: &str| json!({"Condition": condition});
    let not = |condition: &str| json!({"Fn::Not": [{"Condition": condition}]});
    let is_given = |parameter: &str| json!({"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]});
    let makes_role = if fleet.serves_own_account {
        json!({"Fn::And": [is("IsHome"), not("IsRunner")]})
    } else {
        json!({"Fn::Equals": [{"Ref": "AWS::Region"}, {"Ref": "HomeRegion"}]})
    };
    json!({
        "IsHome": {"Fn::Equals": [{"Ref": "AWS::Region"}, {"Ref": "HomeRegion"}]},
        "IsRunner": {"Fn::Equals": [{"Ref": "AWS::AccountId"}, {"Ref": "RunnerAccountId"}]},
        "HasRunnerRole": is_given("RunnerRoleArn"),
        "HasExternalId": is_given("ExternalId"),
        "HasOptional": {"Fn::Equals": [{"Ref": "WithOptional"}, "true"]},
        "HasEvents": {"Fn::Equals": [{"Ref": "WithEvents"}, "true"]},
        "MakesRole": makes_role,
        "MakesRunnerPolicy": {"Fn::And": [is("IsHome"), is("IsRunner")]},
        "MakesDeliveryRole": {"Fn::And": [is("HasEvents"), is("IsHome"), not("IsRunner")]},
        "SendsEvents": {"Fn::And": [is("HasEvents"), not("IsRunner")]},
        "TakesEvents": {"Fn::And": [is("HasEvents"), is("IsRunner")]},
    })
}

fn resources(fleet: &Fleet) -> Map<String, Value> {
    let scope = Scope {
        partition: PARTITION.into(),
        account: ACCOUNT.into(),
        regions: Some(json!({"Ref": "Regions"})),
        product_arns: fleet.product_arn.clone().into_iter().collect(),
        role_arns: fleet.entered(),
        queue_arns: queue_arns(fleet),
    };
    let mut resources = Map::new();
    let mut add = |name: &str, kind: &str, condition: &str, properties: Value| {
        let resource = json!({"Type": kind, "Condition": condition, "Properties": properties});
        resources.insert(name.to_string(), substituted(resource));
    };
    add("MemberRole", "AWS::IAM::Role", "MakesRole", member_role(fleet, &scope));
    let runner = runner_policy(fleet, &scope);
    if !runner.statements.is_empty() {
        let description = "What patchferry's own identity needs: attach it to that";
        let properties = json!({"Description": description, "PolicyDocument": runner});
        add("RunnerPolicy", "AWS::IAM::ManagedPolicy", "MakesRunnerPolicy", properties);
    }
    add("DeliveryRole", "AWS::IAM::Role", "MakesDeliveryRole", delivery_role());
    for kind in events::kinds() {
        let target = json!({
            "Id": "runner",
            "Arn": BUS,
            "RoleArn": format!("arn:{PARTITION}:iam::{ACCOUNT}:role/{DELIVERY_ROLE}"),
        });
        let rule = |pattern: Value, target: Value| json!({"Name": kind.rule_name(), "EventPattern": pattern, "Targets": [target]});
        let (send, take) = (format!("Send{}", kind.logical), format!("Take{}", kind.logical));
        add(&send, "AWS::Events::Rule", "SendsEvents", rule(kind.pattern(None), target));
        let accounts = Some(json!({"Ref": "AccountIds"}));
        let target = json!({"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}});
        add(&take, "AWS::Events::Rule", "TakesEvents", rule(kind.pattern(accounts), target));
    }
    add("BusPolicy", "AWS::Events::EventBusPolicy", "TakesEvents", bus_policy());
    add("Queue", "AWS::SQS::Queue", "TakesEvents", queue());
    let dead = json!({
        "MessageRetentionPeriod": DEAD_RETENTION_SECONDS,
        "SqsManagedSseEnabled": true,
    });
    add("UnansweredMessages", "AWS::SQS::Queue", "TakesEvents", dead);
    add("QueuePolicy", "AWS::SQS::QueuePolicy", "TakesEvents", queue_policy());
    resources
}

fn member_role(fleet: &Fleet, scope: &Scope) -> Value {
    let policy = |is_optional: bool| {
        let blocks = statements(fleet, Holder::Lane, is_optional);
        Policy::new(blocks.map(|statement| Block::of(statement, scope)).collect())
    };
    let anyone = format!("arn:{PARTITION}:iam::{RUNNER_ACCOUNT}:root");
    let runner = json!({"Fn::If": ["HasRunnerRole", {"Ref": "RunnerRoleArn"}, anyone]});
    let external_id = json!({"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}});
    let trust = Block {
        sid: "TrustRunner".into(),
        effect: "Allow",
        principal: Some(json!({"AWS": runner})),
        actions: vec!["sts:AssumeRole".into()],
        resources: Vec::new(),
        condition: Some(json!({
            "Fn::If": ["HasExternalId", external_id, {"Ref": "AWS::NoValue"}]
        })),
    };
    let optional = json!({"PolicyName": "patchferry-optional", "PolicyDocument": policy(true)});
    json!({
        "RoleName": {"Ref": "RoleName"},
        "Path": {"Ref": "RolePath"},
        "AssumeRolePolicyDocument": Policy::new(vec![trust]),
        "Policies": [
            {"PolicyName": "patchferry", "PolicyDocument": policy(false)},
            {"Fn::If": ["HasOptional", optional, {"Ref": "AWS::NoValue"}]},
        ],
    })
}

/// The queues of the configuration, or, if it has none yet, those that the template makes.
fn queue_arns(fleet: &Fleet) -> Vec<String> {
    if fleet.queue_arns.is_empty() {
        return vec![format!("arn:{PARTITION}:sqs:*:{ACCOUNT}:{QUEUE_NAME}")];
    }
    fleet.queue_arns.clone()
}

/// Unlike [`super::runner`], with what is optional: a managed policy is attached as a whole. Also with
/// what queues need, since the template makes them.
fn runner_policy(fleet: &Fleet, scope: &Scope) -> Policy {
    let mut fleet = fleet.clone();
    fleet.needs.extend([Need::Events, Need::Items]);
    let fleet = &fleet;
    let own = [false, true].into_iter().filter(|_| fleet.serves_own_account);
    let own = own.flat_map(|is_optional| statements(fleet, Holder::Lane, is_optional));
    let all = own.chain(statements(fleet, Holder::Runner, false));
    Policy::new(all.map(|statement| Block::of(statement, scope)).collect())
}

fn delivery_role() -> Value {
    let policy = events::delivery_policy(PARTITION, RUNNER_ACCOUNT);
    json!({
        "RoleName": DELIVERY_ROLE,
        "AssumeRolePolicyDocument": events::delivery_trust(ACCOUNT),
        "Policies": [{"PolicyName": "patchferry-events", "PolicyDocument": policy}],
    })
}

fn bus_policy() -> Value {
    json!({
        "StatementId": "patchferry",
        "Statement": events::bus_statement(BUS, &json!({"Ref": "AccountIds"})),
    })
}

fn queue() -> Value {
    json!({
        "QueueName": QUEUE_NAME,
        "MessageRetentionPeriod": RETENTION_SECONDS,
        "ReceiveMessageWaitTimeSeconds": 20,
        "VisibilityTimeout": VISIBILITY_SECONDS,
        "SqsManagedSseEnabled": true,
        "RedrivePolicy": {
            "deadLetterTargetArn": {"Fn::GetAtt": ["UnansweredMessages", "Arn"]},
            "maxReceiveCount": RECEIVES_MAX,
        },
    })
}

fn queue_policy() -> Value {
    let rule =
        |kind: &events::Kind| json!({"Fn::GetAtt": [format!("Take{}", kind.logical), "Arn"]});
    let rules: Value = events::kinds().iter().map(rule).collect();
    json!({
        "Queues": [{"Ref": "Queue"}],
        "PolicyDocument": events::taking("${Queue.Arn}", &rules),
    })
}

/// Every text with a `${…}` in it is one that `CloudFormation` is to fill in.
fn substituted(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("${") => json!({"Fn::Sub": text}),
        Value::Array(items) => items.into_iter().map(substituted).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, substituted(value))).collect()
        }
        other => other,
    }
}

impl Fleet {
    /// Of the roles of the configuration, as far as they agree.
    fn role_path_and_name(&self) -> (String, String) {
        let first = self.role_arns.first().and_then(|arn| arn.split_once(":role"));
        let path = first.map_or("/patchferry", |(_, path)| path);
        let (path, name) = path.rsplit_once('/').unwrap_or(("", path));
        (format!("{path}/"), name.to_string())
    }
}
