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
        let action = format!("{}:{}", prefix(route.service), route.operation);
        let (_, _, lacking) = self.0.iter().find(|(account, denied, lacking)| {
            let concerned = match lacking {
                Lacking::Resource => route.assumed_account.as_deref().unwrap_or(&caller.account),
                _ => &caller.account,
            };
            *denied == action && account == concerned
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
        Some(ApiError::new(
            status(route.service),
            code(route.service),
            format!(
                "User: {} is not authorized to perform: {action} on resource: {} {because}",
                caller.arn(),
                resource(caller, route, body)
            ),
        ))
    }
}

/// An action's service, as IAM writes it.
pub(super) fn prefix(service: Service) -> &'static str {
    match service {
        Service::Ssm => "ssm",
        Service::SecurityHub => "securityhub",
        Service::Sts => "sts",
        Service::CloudControl => "cloudformation",
    }
}

pub(super) fn status(service: Service) -> u16 {
    if matches!(service, Service::Ssm | Service::CloudControl) { 400 } else { 403 }
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
    node.map(str::to_string)
}
