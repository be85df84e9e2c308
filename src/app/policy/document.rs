//! A policy document: statements, written in the order in which people write them.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::aws::permissions::{Holder, Statement, Target};

/// A policy.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    #[serde(rename = "Version")]
    version: &'static str,
    #[serde(rename = "Statement")]
    pub statements: Vec<Block>,
}

impl Policy {
    pub fn new(statements: Vec<Block>) -> Self {
        // The policy language's version, of which this is the newest.
        Self { version: "2012-10-17", statements }
    }
}

/// A statement as it stands in a policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Block {
    pub sid: String,
    pub effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Value>,
    #[serde(rename = "Action", serialize_with = "one_or_many")]
    pub actions: Vec<String>,
    /// Empty in a trust policy, which has none.
    #[serde(
        rename = "Resource",
        serialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

/// What statements are confined to.
pub struct Scope {
    pub partition: String,
    pub account: String,
    /// `aws:RequestedRegion`; `None`: any.
    pub regions: Option<Value>,
    /// Empty: the default product.
    pub product_arns: Vec<String>,
    pub role_arns: Vec<String>,
    pub queue_arns: Vec<String>,
}

impl Block {
    pub fn of(statement: &Statement, scope: &Scope) -> Self {
        // STS is called wherever its endpoint is; a lane's services only in the lane's Region.
        let is_regional = statement.holder == Holder::Lane;
        let regions = scope.regions.as_ref().filter(|_| is_regional);
        Self {
            sid: statement.sid.to_string(),
            effect: "Allow",
            principal: None,
            actions: statement.actions.iter().map(ToString::to_string).collect(),
            resources: scope.resources(statement.target),
            condition: regions.map(|it| json!({"StringEquals": {"aws:RequestedRegion": it}})),
        }
    }
}

impl Scope {
    fn resources(&self, target: Target) -> Vec<String> {
        let Self { partition, account, .. } = self;
        match target {
            Target::Anything => vec!["*".to_string()],
            Target::Product if !self.product_arns.is_empty() => self.product_arns.clone(),
            Target::Product => {
                vec![format!("arn:{partition}:securityhub:*:{account}:product/{account}/default")]
            }
            Target::Hub => vec![format!("arn:{partition}:securityhub:*:{account}:hub/default")],
            Target::Roles => self.role_arns.clone(),
            Target::Queues => self.queue_arns.clone(),
        }
    }
}

/// A list of one is written as what is in it.
fn one_or_many<S: Serializer>(items: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match items {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}
