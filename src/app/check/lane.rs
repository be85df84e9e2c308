//! A lane: whose its credentials are, and each action that its statements list, tried.
//!
//! What a service can't be asked because of what it said before is skipped, not tried: a service
//! that is out of reach costs one time limit, not one an action.

use super::{
    Shared, is_out_of_reach,
    predict::{NodeCount, Prediction, count_nodes},
    report::{Item, LaneReport},
    role_of,
    verdict::{self, Identity},
};
use crate::{
    aws::{
        AwsError, HubQuery, LaneClients,
        permissions::{Holder, Need, STATEMENTS},
        preflight::{ImportProbe, PROBE_ID},
    },
    config::LaneConfig,
    record::NodeId,
};

/// Nodes are counted up to here: 500. A daemon beside this shares the lane's quota.
const NODE_PAGES_MAX: usize = 10;
/// Well-formed, and nobody's: what is asked if the lane has no node.
const NO_NODE: &str = "i-00000000000000000";
/// AWS's own integration, as the end of its subscription's ARN.
const AWS_INTEGRATION: &str = "/aws/ssm-patch-manager";
const DESCRIBE_HUB: &str = "securityhub:DescribeHub";

/// What Cloud Control does for `cloudformation:GetResource`, and says so if it may not.
const BY_CLOUD_CONTROL: &str = "ec2:DescribeInstances";

/// The order of trying: nodes first, since others are asked about one; the hub before what is in it.
const FIRST: [&str; 2] = ["ssm:DescribeInstanceInformation", DESCRIBE_HUB];

pub async fn check(shared: &Shared, config: &LaneConfig) -> LaneReport {
    let role_arn = config.role.as_ref().map(|role| role.arn.clone());
    let clients = shared.aws.lane(&config.lane, role_of(config).as_ref()).await;
    let mut report = LaneReport {
        lane: config.lane.clone(),
        role_arn: role_arn.clone(),
        items: Vec::new(),
        predicted: None,
        is_aws_reached: false,
    };
    let identity = Identity { role_arn: role_arn.as_deref() };
    report.is_aws_reached = match clients.identity().await.0 {
        Ok(caller) if caller.account == config.lane.account => {
            report.items.push(Item::ok("identity", caller.arn.to_string()));
            true
        }
        Ok(caller) => {
            let text = format!("the credentials are {}: another account's", caller.arn);
            let advice = "give the lane a `role_arn` in its own account";
            report.items.push(Item::fail("identity", text, advice));
            report.is_aws_reached = true;
            return report;
        }
        Err(error) => {
            report.items.push(verdict::of_identity(&error, &identity));
            report.is_aws_reached = !is_out_of_reach(&error);
            return report;
        }
    };
    let mut trial = Trial { shared, clients: &clients, identity, node: None, nodes: None };
    report.items.extend(trial.all().await);
    report.predicted =
        trial.nodes.map(|count| Prediction::of(count, &shared.settings_in(&config.lane.region)));
    report
}

struct Trial<'a> {
    shared: &'a Shared,
    clients: &'a LaneClients,
    identity: Identity<'a>,
    node: Option<NodeId>,
    nodes: Option<NodeCount>,
}

/// The actions that the configuration needs in a lane, in the order of trying.
fn actions(shared: &Shared) -> Vec<&'static str> {
    let needed = STATEMENTS.iter().filter(|statement| {
        let is_needed = statement.need == Need::Always || shared.needs.contains(&statement.need);
        statement.holder == Holder::Lane && is_needed
    });
    let actions = needed.flat_map(|it| it.actions).copied();
    let mut actions: Vec<&str> = actions.filter(|action| *action != BY_CLOUD_CONTROL).collect();
    actions.sort_by_key(|action| (service(action) != "ssm", !FIRST.contains(action)));
    actions
}

fn service(action: &str) -> &str {
    action.split(':').next().unwrap_or_default()
}

impl Trial<'_> {
    async fn all(&mut self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut unreachable: Vec<(&str, String)> = Vec::new();
        for action in actions(self.shared) {
            let service = service(action);
            if let Some((_, why)) = unreachable.iter().find(|(it, _)| *it == service) {
                items.push(Item::skipped(action, format!("not tried: {why}")));
                continue;
            }
            let tried = self.attempt(action).await;
            if let Err(error) = &tried {
                if is_out_of_reach(error) {
                    unreachable.push((service, format!("{service} is out of reach")));
                } else if is_hub_off(error) {
                    unreachable.push((service, "the hub is off".into()));
                }
            }
            let found = tried.map(|found| match found {
                Found::Well(text) => Item::ok(action, text),
                Found::Else(item) => item,
            });
            items.push(match found {
                Ok(item) => item,
                Err(error) => verdict::of_action(action, Err(error), &self.identity),
            });
        }
        items
    }

    /// The harmless call for an action, and what it tells.
    async fn attempt(&mut self, action: &str) -> Result<Found, AwsError> {
        let LaneClients { ssm, hub, cloud_control, .. } = self.clients;
        let node = || self.node.clone().or_else(|| NO_NODE.parse().ok());
        let allowed = || Found::Well("allowed".into());
        match action {
            "ssm:DescribeInstanceInformation" => {
                let (count, first) =
                    count_nodes(ssm, &self.shared.settings, NODE_PAGES_MAX).await?;
                (self.nodes, self.node) = (Some(count), first);
                let at_least = if count.is_more { "at least " } else { "" };
                Ok(Found::Well(format!("{at_least}{} nodes", count.nodes)))
            }
            "ssm:ListResourceComplianceSummaries" => {
                ssm.compliance_summaries(None).await.map(|_| allowed())
            }
            "ssm:DescribeInstancePatchStates" => {
                let nodes: Vec<NodeId> = node().into_iter().collect();
                ssm.patch_states(&nodes, None).await.map(|_| allowed())
            }
            "ssm:DescribeInstancePatches" => {
                let Some(node) = node() else { return Ok(allowed()) };
                ssm.patches(&node, None).await.map(|_| allowed())
            }
            "ssm:ListComplianceItems" => {
                let Some(node) = node() else { return Ok(allowed()) };
                ssm.non_compliant_items(&node, None).await.map(|_| allowed())
            }
            "ssm:ListAssociations" => ssm.patch_associations(None).await.map(|_| allowed()),
            "ssm:DescribeInstanceAssociationsStatus" => {
                let Some(node) = node() else { return Ok(allowed()) };
                ssm.association_runs(&node, None).await.map(|_| allowed())
            }
            "cloudformation:GetResource" => {
                let Ok(nobody) = NO_NODE.parse() else { return Ok(allowed()) };
                cloud_control.instance(&nobody).await.map(|_| allowed())
            }
            DESCRIBE_HUB => {
                hub.enabled_since().await.map(|since| Found::Well(format!("on since {since}")))
            }
            "securityhub:GetFindings" => {
                let query = HubQuery::Ids {
                    product_arn: self.product_arn(),
                    ids: vec![PROBE_ID.to_string()],
                };
                hub.get_findings(&query, None).await.map(|_| allowed())
            }
            "securityhub:BatchImportFindings" => {
                Ok(match hub.probe_import(&self.product_arn()).await? {
                    ImportProbe::Permitted => allowed(),
                    ImportProbe::Stored => Found::Else(Item::warn(
                        action,
                        "allowed, and the hub has taken a finding that it had to refuse",
                        format!("archive finding `{PROBE_ID}`; tell patchferry's authors"),
                    )),
                })
            }
            "securityhub:ListEnabledProductsForImport" => {
                let products = hub.enabled_products().await?;
                Ok(integration(action, &products))
            }
            _ => Ok(Found::Else(Item::warn(
                action,
                "not tried: this patchferry knows no harmless call for it",
                "tell patchferry's authors",
            ))),
        }
    }

    fn product_arn(&self) -> String {
        let configured = self.shared.product_arn.clone();
        configured.unwrap_or_else(|| self.clients.lane().default_product_arn())
    }
}

/// What a call that was answered has shown.
enum Found {
    Well(String),
    Else(Item),
}

fn integration(action: &str, products: &[String]) -> Found {
    let own = products.iter().find(|product| product.ends_with(AWS_INTEGRATION));
    let Some(own) = own else {
        return Found::Well("AWS's own integration is off, as it should be".into());
    };
    Found::Else(Item::warn(
        action,
        "AWS's own integration of Patch Manager is on, too: every non-compliant node has two findings",
        format!(
            "turn it off: aws securityhub disable-import-findings-for-product \
             --product-subscription-arn {own}"
        ),
    ))
}

fn is_hub_off(error: &AwsError) -> bool {
    use crate::aws::{Fault, HoldReason};
    matches!(error.fault, Fault::Held { reason: HoldReason::HubOff, .. })
}
