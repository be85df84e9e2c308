//! What identities aren't allowed to do, and the words in which AWS says so.
//!
//! A denial concerns an account's identities (for `sts:AssumeRole`: the caller's, or, in the words of
//! a role's trust policy, the role's account) and one action. It is met before anything of the
//! request's body is looked at, as AWS authorizes before it validates.

use std::collections::BTreeSet;

use super::{
    caller::Caller,
    faults::Service,
    reply::ApiError,
    wire::{IMPORT, Route},
};

/// Whose policy lacks an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lacking {
    /// The caller's own policies.
    Identity,
    /// The policy of what is called: a role's trust policy, a queue's policy.
    Resource,
    /// A service control policy of the organization forbids it.
    Organization,
}

/// Denials by account.
#[derive(Debug, Default)]
pub(super) struct Denials(BTreeSet<(String, String, Lacking)>);

impl Denials {
    pub(super) fn deny(&mut self, account: &str, action: &str, lacking: Lacking) {
        self.0.insert((account.to_string(), action.to_string(), lacking));
    }

    pub(super) fn allow_all(&mut self) {
        self.0.clear();
    }

    /// Whether the caller may not make this call, and what it is told then.
    pub(super) fn refusal(&self, caller: &Caller, route: &Route, body: &[u8]) -> Option<ApiError> {
        if self.0.is_empty() {
            return None;
        }
        let actions = actions(route);
        let (_, action, lacking) = self.0.iter().find(|(account, denied, lacking)| {
            let concerned = match lacking {
                Lacking::Resource => route.assumed_account.as_deref().unwrap_or(&caller.account),
                _ => &caller.account,
            };
            actions.contains(denied) && account == concerned
        })?;
        let because = match lacking {
            Lacking::Identity => format!("no identity-based policy allows the {action} action"),
            Lacking::Resource => format!("no resource-based policy allows the {action} action"),
            Lacking::Organization => "with an explicit deny in a service control policy".into(),
        };
        let because = match lacking {
            Lacking::Organization => because,
            _ => format!("because {because}"),
        };
        // What Cloud Control may not read for its caller, its handler says.
        let is_handler_s = action == READ_BY_CLOUD_CONTROL;
        let code = if is_handler_s { "GeneralServiceException" } else { code(route.service) };
        Some(ApiError::new(
            status(route.service),
            code,
            format!(
                "User: {} is not authorized to perform: {action} on resource: {} {because}",
                caller.arn(),
                resource(caller, route, body)
            ),
        ))
    }
}

/// What Cloud Control reads with its caller's permissions.
const READ_BY_CLOUD_CONTROL: &str = "ec2:DescribeInstances";

/// The actions that a call needs.
fn actions(route: &Route) -> Vec<String> {
    let operation = match route.service {
        // A batch needs what each of its entries would.
        Service::Sqs => route.operation.trim_end_matches("Batch"),
        _ => &route.operation,
    };
    let mut actions = vec![format!("{}:{operation}", prefix(route.service))];
    if route.service == Service::CloudControl {
        actions.push(READ_BY_CLOUD_CONTROL.into());
    }
    actions
}

/// An action's service, as IAM writes it.
pub(super) fn prefix(service: Service) -> &'static str {
    match service {
        Service::Ssm => "ssm",
        Service::SecurityHub => "securityhub",
        Service::Sts => "sts",
        Service::CloudControl => "cloudformation",
        Service::Sqs => "sqs",
        Service::Organizations => "organizations",
    }
}

pub(super) fn status(service: Service) -> u16 {
    match service {
        Service::Ssm | Service::CloudControl | Service::Organizations => 400,
        Service::SecurityHub | Service::Sts | Service::Sqs => 403,
    }
}

pub(super) fn code(service: Service) -> &'static str {
    if service == Service::Sts { "AccessDenied" } else { "AccessDeniedException" }
}

fn resource(caller: &Caller, route: &Route, body: &[u8]) -> String {
    let (region, account) = (&caller.region, &caller.account);
    match route.service {
        Service::Sts => route.assumed_role.clone().unwrap_or_default(),
        Service::SecurityHub if route.operation == IMPORT => {
            format!("arn:aws:securityhub:{region}:{account}:product/{account}/default")
        }
        Service::SecurityHub => format!("arn:aws:securityhub:{region}:{account}:hub/default"),
        Service::CloudControl => {
            format!("arn:aws:cloudformation:{region}:{account}:resource/*")
        }
        Service::Sqs => {
            let name = queue(body).unwrap_or_else(|| "*".into());
            format!("arn:aws:sqs:{region}:{account}:{name}")
        }
        Service::Organizations => "*".into(),
        Service::Ssm => match node(body) {
            Some(node) => format!("arn:aws:ec2:{region}:{account}:instance/{node}"),
            None => format!("arn:aws:ssm:{region}:{account}:*"),
        },
    }
}

/// The node that an SSM call is about, or the first of them.
fn node(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let node = body["InstanceId"].as_str().or_else(|| body["InstanceIds"][0].as_str());
    node.or_else(|| body["ResourceIds"][0].as_str()).map(str::to_string)
}

/// The name of the queue that an SQS call is about.
fn queue(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body["QueueUrl"].as_str()?.rsplit('/').next().map(str::to_string)
}
