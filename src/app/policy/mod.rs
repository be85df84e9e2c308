//! What identities need to be granted for a configuration, as IAM takes it.
//!
//! Guarantees: least privilege for the configuration at hand: exactly its roles, its Regions, its
//! partition, and of the actions those that it has patchferry call
//! ([`crate::aws::permissions`] is the one table); no secret is in any of it: an external id is a
//! placeholder in JSON and a parameter that isn't echoed in `CloudFormation`. It calls nothing.
//!
//! What isn't known without asking AWS stays open: with no lanes configured, the account is
//! `${aws:PrincipalAccount}`, whichever holds the identity.
//!
//! - [`document`]: a policy and its statements.
//! - [`fleet`]: of the configuration, what policies depend on.
//! - [`events`]: which events are wanted, and their way to a queue of ours.
//! - [`template`]: all of it as one `CloudFormation` template.

mod document;
mod events;
mod fleet;
mod template;

use serde_json::{Value, json};

pub use document::Policy;
pub use fleet::{Fleet, needs};
pub use template::template;

use crate::aws::permissions::{Holder, Need, STATEMENTS, Statement};
use document::{Block, Scope};

/// In place of what only the operator knows.
const EXTERNAL_ID_PLACEHOLDER: &str = "EXTERNAL_ID";

/// A part of what is to be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Runner,
    Member,
    Optional,
    Trust,
    Queue,
    Events,
}

impl Part {
    pub const ALL: [Self; 6] =
        [Self::Runner, Self::Member, Self::Optional, Self::Trust, Self::Queue, Self::Events];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Member => "member",
            Self::Optional => "optional",
            Self::Trust => "trust",
            Self::Queue => "queue",
            Self::Events => "events",
        }
    }

    /// The part as a document: a policy, or for [`Part::Queue`] one a Region, or for
    /// [`Part::Events`] the rules and what carries them.
    #[must_use]
    pub fn document(self, fleet: &Fleet) -> Value {
        match self {
            Self::Runner => value(&runner(fleet)),
            Self::Member => value(&lane_policy(fleet, false)),
            Self::Optional => value(&lane_policy(fleet, true)),
            Self::Trust => value(&trust(fleet)),
            Self::Queue => {
                let of_region =
                    |region: &String| (region.clone(), value(&events::queue_policy(fleet, region)));
                Value::Object(fleet.regions.iter().map(of_region).collect())
            }
            Self::Events => events::document(fleet),
        }
    }

    /// The part as text, in the order in which people write policies.
    #[must_use]
    pub fn text(self, fleet: &Fleet) -> String {
        match self {
            Self::Runner => pretty(&runner(fleet)),
            Self::Member => pretty(&lane_policy(fleet, false)),
            Self::Optional => pretty(&lane_policy(fleet, true)),
            Self::Trust => pretty(&trust(fleet)),
            Self::Queue | Self::Events => pretty(&self.document(fleet)),
        }
    }
}

/// All parts in one object.
#[must_use]
pub fn all(fleet: &Fleet) -> Value {
    Part::ALL.iter().map(|part| (part.as_str().to_string(), part.document(fleet))).collect()
}

fn value(policy: &Policy) -> Value {
    serde_json::to_value(policy).expect("a policy is JSON")
}

fn pretty<T: serde::Serialize>(document: &T) -> String {
    serde_json::to_string_pretty(document).expect("a policy is JSON")
}

/// The statements of a holder that the configuration needs, those that it can do without apart.
fn statements(
    fleet: &Fleet,
    holder: Holder,
    is_optional: bool,
) -> impl Iterator<Item = &'static Statement> {
    let needs = fleet.needs.clone();
    STATEMENTS.iter().filter(move |statement| {
        let is_needed = statement.need == Need::Always || needs.contains(&statement.need);
        statement.holder == holder && is_needed && statement.without.is_some() == is_optional
    })
}

/// Of the daemon's own identity: it enters accounts, and works in its own if that has no role.
fn runner(fleet: &Fleet) -> Policy {
    let own = fleet.serves_own_account.then(|| statements(fleet, Holder::Lane, false));
    let scope = fleet.scope(fleet.own_account());
    let own = own.into_iter().flatten().map(|statement| Block::of(statement, &scope));
    let entering = statements(fleet, Holder::Runner, false);
    Policy::new(own.chain(entering.map(|statement| Block::of(statement, &scope))).collect())
}

/// Of whoever works in a lane's account.
fn lane_policy(fleet: &Fleet, is_optional: bool) -> Policy {
    let scope = fleet.scope(fleet.only_account());
    let blocks = statements(fleet, Holder::Lane, is_optional);
    Policy::new(blocks.map(|statement| Block::of(statement, &scope)).collect())
}

/// Of the roles that are assumed: who may.
fn trust(fleet: &Fleet) -> Policy {
    let runner = fleet.runner_account.as_deref().unwrap_or("RUNNER_ACCOUNT_ID");
    let principal = json!({"AWS": format!("arn:{}:iam::{runner}:root", fleet.partition)});
    let external_id = json!({"StringEquals": {"sts:ExternalId": EXTERNAL_ID_PLACEHOLDER}});
    Policy::new(vec![Block {
        sid: "TrustRunner".into(),
        effect: "Allow",
        principal: Some(principal),
        actions: vec!["sts:AssumeRole".into()],
        resources: Vec::new(),
        condition: fleet.has_external_ids.then_some(external_id),
    }])
}

impl Fleet {
    fn scope(&self, account: Option<&str>) -> Scope {
        Scope {
            partition: self.partition.clone(),
            account: account.unwrap_or("${aws:PrincipalAccount}").to_string(),
            regions: (!self.regions.is_empty()).then(|| json!(self.regions)),
            product_arns: self.product_arn.clone().into_iter().collect(),
            role_arns: self.entered(),
            queue_arns: self.queue_arns.clone(),
        }
    }
}
