//! Of the configuration, what policies depend on.

use std::collections::BTreeSet;

use crate::{
    aws::permissions::Need,
    config::{Config, DiscoveryConfig, Identity, QueueConfig},
    record::Region,
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub partition: String,
    /// Of all lanes, sorted. Empty: not known.
    pub regions: Vec<String>,
    /// Of all lanes, sorted. Empty: not known.
    pub accounts: Vec<String>,
    /// Exactly those of the configuration's lanes; with a wildcard for accounts that discovery is
    /// to find.
    pub role_arns: Vec<String>,
    /// Likewise of its queues.
    pub queue_role_arns: Vec<String>,
    /// What the organization's accounts are listed with, if it is a role.
    pub list_role_arn: Option<String>,
    /// Queues that are read with the daemon's own identity.
    pub queue_arns: Vec<String>,
    /// Whether some account is served with the daemon's own identity.
    pub serves_own_account: bool,
    pub runner_account: Option<String>,
    pub has_external_ids: bool,
    pub product_arn: Option<String>,
    pub needs: BTreeSet<Need>,
}

impl Fleet {
    /// `default_region` is where the caller's own account is served if no lanes are configured;
    /// `runner_account` is told where the configuration doesn't tell it.
    #[must_use]
    pub fn of(
        config: &Config,
        default_region: Option<&Region>,
        runner_account: Option<String>,
    ) -> Self {
        let lanes = config.lanes.as_deref().unwrap_or_default();
        let discovery = config.discovery.as_ref();
        let serves_caller = lanes.is_empty() && discovery.is_none();
        let region_of_none = default_region.filter(|_| serves_caller);
        let regions = lanes.iter().map(|lane| &lane.lane.region).chain(region_of_none);
        let regions = regions.chain(discovery.iter().flat_map(|it| &it.regions));
        let regions: BTreeSet<String> = regions.map(ToString::to_string).collect();
        let partition = lanes.first().map(|lane| lane.lane.partition());
        let partition = partition.or_else(|| region_of_none.map(Region::partition));
        let partition = partition.or_else(|| discovery.map(DiscoveryConfig::partition));
        let accounts = lanes.iter().map(|lane| lane.lane.account);
        let accounts = accounts.chain(discovery.iter().flat_map(|it| it.named_accounts()));
        let are_named = discovery.is_none_or(|it| !it.include.is_empty());
        let accounts = accounts.filter(|_| are_named).map(|account| account.to_string());
        let own = lanes.iter().find(|lane| lane.role.is_none());
        let roles: Vec<_> = lanes.iter().filter_map(|lane| lane.role.as_ref()).collect();
        let role_arns = roles.iter().map(|role| role.arn.clone());
        let found_role_arns = discovery.iter().flat_map(|it| it.role_arns());
        let role_arns: BTreeSet<String> = role_arns.chain(found_role_arns).collect();
        let queue_roles = config.queues.iter().filter_map(|queue| queue.role.as_ref());
        let queue_role_arns: BTreeSet<&String> = queue_roles.map(|role| &role.arn).collect();
        let own_queues = config.queues.iter().filter(|queue| queue.role.is_none());
        Self {
            // IAM takes a wildcard for a partition that isn't known.
            partition: partition.map_or("*", |it| it.as_str()).to_string(),
            regions: regions.into_iter().collect(),
            accounts: accounts.collect::<BTreeSet<_>>().into_iter().collect(),
            role_arns: role_arns.into_iter().collect(),
            queue_role_arns: queue_role_arns.into_iter().cloned().collect(),
            list_role_arn: discovery
                .and_then(|it| it.list_role.as_ref())
                .map(|role| role.arn.clone()),
            queue_arns: own_queues.map(QueueConfig::arn).collect(),
            serves_own_account: serves_caller || own.is_some(),
            runner_account: own.map(|lane| lane.lane.account.to_string()).or(runner_account),
            has_external_ids: roles.iter().any(|role| role.external_id.is_some())
                || discovery.is_some_and(|it| it.external_id.is_some()),
            product_arn: config.finding.product_arn.as_ref().map(ToString::to_string),
            needs: needs(config),
        }
    }

    /// All roles that are entered.
    #[must_use]
    pub fn entered(&self) -> Vec<String> {
        let of_lanes_and_queues = self.role_arns.iter().chain(&self.queue_role_arns);
        let all: BTreeSet<&String> = of_lanes_and_queues.chain(&self.list_role_arn).collect();
        all.into_iter().cloned().collect()
    }

    /// The account that the daemon's own identity works in, if it is known.
    #[must_use]
    pub fn own_account(&self) -> Option<&str> {
        self.runner_account.as_deref().filter(|_| self.serves_own_account)
    }

    /// The account whose role is assumed, or that is served without one, if there is only one.
    #[must_use]
    pub fn only_account(&self) -> Option<&str> {
        let of_roles = self.role_arns.iter().filter_map(|arn| arn.split(':').nth(4));
        let mut accounts: BTreeSet<&str> = of_roles.collect();
        if accounts.is_empty() {
            accounts.extend(self.accounts.iter().map(String::as_str));
        }
        let only = accounts.pop_first();
        only.filter(|only| accounts.is_empty() && *only != "*")
    }
}

/// What this configuration has patchferry do.
#[must_use]
pub fn needs(config: &Config) -> BTreeSet<Need> {
    let mut needs = BTreeSet::from([Need::Always, Need::Preflight]);
    if config.finding.identity == Identity::Node {
        needs.insert(Need::OneFindingPerNode);
    }
    if config.finding.identity == Identity::Node
        && config.finding.resolve
        && config.ingest.cloud_control
    {
        needs.insert(Need::CloudControl);
    }
    if config.ingest.associations {
        needs.insert(Need::Associations);
    }
    if config.ingest.associations || !config.queues.is_empty() {
        needs.insert(Need::Items);
    }
    let lanes = config.lanes.iter().flatten().map(|lane| lane.role.is_some());
    let lanes = lanes.chain(config.discovery.iter().map(|_| true));
    let queues = || config.queues.iter().map(|queue| queue.role.is_some());
    if lanes.chain(queues()).any(|has_role| has_role) {
        needs.insert(Need::Roles);
    }
    if queues().any(|has_role| !has_role) {
        needs.insert(Need::Events);
    }
    if config.discovery.as_ref().is_some_and(|it| it.list_role.is_none()) {
        needs.insert(Need::Discovery);
    }
    needs
}
