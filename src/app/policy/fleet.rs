//! Of the configuration, what policies depend on.

use std::collections::BTreeSet;

use crate::{
    aws::permissions::Need,
    config::{Config, Identity},
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
    /// Exactly those of the configuration.
    pub role_arns: Vec<String>,
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
        let region_of_none = default_region.filter(|_| lanes.is_empty());
        let regions = lanes.iter().map(|lane| &lane.lane.region).chain(region_of_none);
        let regions: BTreeSet<String> = regions.map(ToString::to_string).collect();
        let partition = lanes.first().map(|lane| lane.lane.partition());
        let partition = partition.or_else(|| region_of_none.map(Region::partition));
        let accounts = lanes.iter().map(|lane| lane.lane.account.to_string());
        let own = lanes.iter().find(|lane| lane.role.is_none());
        let roles: Vec<_> = lanes.iter().filter_map(|lane| lane.role.as_ref()).collect();
        let role_arns: BTreeSet<&String> = roles.iter().map(|role| &role.arn).collect();
        Self {
            // IAM takes a wildcard for a partition that isn't known.
            partition: partition.map_or("*", |it| it.as_str()).to_string(),
            regions: regions.into_iter().collect(),
            accounts: accounts.collect::<BTreeSet<_>>().into_iter().collect(),
            role_arns: role_arns.into_iter().cloned().collect(),
            serves_own_account: lanes.is_empty() || own.is_some(),
            runner_account: own.map(|lane| lane.lane.account.to_string()).or(runner_account),
            has_external_ids: roles.iter().any(|role| role.external_id.is_some()),
            product_arn: config.finding.product_arn.as_ref().map(ToString::to_string),
            needs: needs(config),
        }
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
        only.filter(|_| accounts.is_empty())
    }
}

/// What this configuration has patchferry do.
#[must_use]
pub fn needs(config: &Config) -> BTreeSet<Need> {
    let mut needs = BTreeSet::from([Need::Always, Need::Preflight]);
    if config.finding.identity == Identity::Node {
        needs.insert(Need::OneFindingPerNode);
    }
    if config.lanes.iter().flatten().any(|lane| lane.role.is_some()) {
        needs.insert(Need::Roles);
    }
    needs
}
