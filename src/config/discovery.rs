//! `[discovery]`: lanes of the organization's accounts.
//!
//! Guarantees: a [`DiscoveryConfig`] has Regions of one partition, that of `[[lanes]]`, and a role
//! that can be named in every account.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use super::{
    error::{Fault, Origin, Problem},
    keys,
    lanes::LaneConfig,
    reader::Reader,
    roles::{ExternalId, Role, RoleTemplate},
    rules::{Raw, Rule, shortened, wrong_type},
    units::quote,
};
use crate::record::{AccountId, Lane, Partition, Region, ids::InvalidId};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// Not empty.
    pub regions: Vec<Region>,
    pub role: RoleTemplate,
    pub external_id: Option<ExternalId>,
    /// `None`: the daemon's own identity lists the accounts.
    pub list_role: Option<Role>,
    /// Empty: all.
    pub include: Vec<AccountId>,
    pub exclude: Vec<AccountId>,
    pub interval: Duration,
}

impl DiscoveryConfig {
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.regions.first().map_or(Partition::Aws, Region::partition)
    }

    /// The role of a lane's account.
    #[must_use]
    pub fn role_in(&self, lane: &Lane) -> Option<Role> {
        let arn = self.role.arn_for(lane).ok()?;
        Some(Role { arn, external_id: self.external_id.clone() })
    }

    /// Whether the account is to be served if the organization has it.
    #[must_use]
    pub fn is_meant(&self, account: AccountId) -> bool {
        (self.include.is_empty() || self.include.contains(&account))
            && !self.exclude.contains(&account)
    }

    /// The accounts that are to be served, as far as the configuration tells.
    pub fn named_accounts(&self) -> impl Iterator<Item = AccountId> + '_ {
        self.include.iter().copied().filter(|account| self.is_meant(*account))
    }

    /// The roles to assume, as IAM writes them: a pattern where the accounts aren't named.
    #[must_use]
    pub fn role_arns(&self) -> Vec<String> {
        if self.include.is_empty() {
            return vec![self.role.arn_pattern(self.partition())];
        }
        let Some(region) = self.regions.first() else { return Vec::new() };
        let lanes = self.named_accounts().map(|account| Lane::new(account, region.clone()));
        lanes.filter_map(|lane| self.role.arn_for(&lane).ok()).collect()
    }
}

/// Takes the section's keys and checks them together, and with the lanes.
pub(super) fn read(reader: &mut Reader, lanes: &[LaneConfig]) -> Option<DiscoveryConfig> {
    let is_on = reader.take(&keys::ORGANIZATION);
    let origin = reader.last_origin();
    let mut given = Vec::new();
    let mut note = |reader: &Reader, path: &'static str| {
        if reader.last_origin() != Origin::Default {
            given.push((path, reader.last_origin()));
        }
        reader.last_origin()
    };
    let regions = reader.take(&keys::DISCOVERY_REGIONS);
    let regions_origin = note(reader, keys::DISCOVERY_REGIONS.path);
    let role = reader.take(&keys::DISCOVERY_ROLE_NAME);
    note(reader, keys::DISCOVERY_ROLE_NAME.path);
    let external_id = reader.take(&keys::DISCOVERY_EXTERNAL_ID);
    note(reader, keys::DISCOVERY_EXTERNAL_ID.path);
    let list_role = reader.take(&keys::LIST_ROLE_ARN);
    let list_origin = note(reader, keys::LIST_ROLE_ARN.path);
    let include = reader.take(&keys::INCLUDE);
    note(reader, keys::INCLUDE.path);
    let exclude = reader.take(&keys::EXCLUDE);
    note(reader, keys::EXCLUDE.path);
    let interval = reader.take(&keys::DISCOVERY_INTERVAL);
    note(reader, keys::DISCOVERY_INTERVAL.path);
    let mut problem = |origin: &Origin, key: &str, reason: String| {
        let fault = Fault::Invalid { key: key.into(), reason };
        reader.problems.push(Problem { origin: origin.clone(), fault });
    };
    if !is_on {
        // Keys that only say their defaults, or a sample without Regions, are no mistake.
        if let Some((path, origin)) = given.first().filter(|_| !regions.is_empty()) {
            let reason = "has no meaning without `discovery.organization = true`".into();
            problem(origin, path, reason);
        }
        return None;
    }
    let missing = "is needed with `discovery.organization = true`";
    if regions.is_empty() {
        problem(&origin, keys::DISCOVERY_REGIONS.path, missing.into());
    }
    if role.is_none() {
        problem(&origin, keys::DISCOVERY_ROLE_NAME.path, missing.into());
    }
    let first = regions.first()?;
    let partition = first.partition();
    let mut all = regions.iter().chain(lanes.iter().map(|config| &config.lane.region));
    if let Some(other) = all.find(|region| region.partition() != partition) {
        let reason = format!(
            "{first} is in partition {partition}, {other} in {}: credentials never cross \
             partitions, so run one daemon for each",
            other.partition()
        );
        problem(&regions_origin, keys::DISCOVERY_REGIONS.path, reason);
    }
    if let Some(arn) = &list_role
        && arn.split(':').nth(1) != Some(partition.as_str())
    {
        let reason = format!("{} is not in partition {partition}", shortened(arn));
        problem(&list_origin, keys::LIST_ROLE_ARN.path, reason);
    }
    let list_role = list_role.map(|arn| Role { arn, external_id: None });
    Some(DiscoveryConfig {
        regions,
        role: role?,
        external_id,
        list_role,
        include,
        exclude,
        interval,
    })
}

/// Identifiers; a list, or words parted by commas.
pub(super) struct ListRule<T> {
    expected: &'static str,
    of: PhantomData<fn() -> T>,
}

impl<T> ListRule<T> {
    pub const fn new(expected: &'static str) -> Self {
        Self { expected, of: PhantomData }
    }
}

impl<T: FromStr<Err = InvalidId> + fmt::Display> Rule for ListRule<T> {
    type Value = Vec<T>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Vec<T>, Fault> {
        let parse = |text: &str| {
            shortened(text).parse().map_err(|reason| Fault::Id { key: key.into(), reason })
        };
        match raw {
            Raw::List(items) => items
                .iter()
                .map(|item| match item {
                    Raw::String(text) => parse(text),
                    other => Err(wrong_type(key, self.expected, other)),
                })
                .collect(),
            Raw::Words(text) => {
                text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
            }
            other => Err(wrong_type(key, self.expected, other)),
        }
    }
    fn write(&self, value: &Vec<T>) -> Option<String> {
        let items: Vec<String> = value.iter().map(|item| quote(&item.to_string())).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// The name of a role; unset by default.
pub(super) struct RoleNameRule;

impl Rule for RoleNameRule {
    type Value = Option<RoleTemplate>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault> {
        let text = text_of(key, raw)?;
        let invalid = |reason| Fault::Invalid { key: key.into(), reason };
        RoleTemplate::of_name(text).map(Some).map_err(invalid)
    }
    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().map(|role| quote(role.as_str()))
    }
}

/// The ARN of one role; unset by default.
pub(super) struct RoleArnRule;

impl Rule for RoleArnRule {
    type Value = Option<String>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault> {
        let text = text_of(key, raw)?;
        let invalid = |reason| Fault::Invalid { key: key.into(), reason };
        let role = RoleTemplate::of_arn(text).map_err(invalid)?;
        if role.is_of_one_account() {
            return Ok(Some(role.as_str().to_string()));
        }
        Err(invalid("must be the role of one account".into()))
    }
    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().map(|arn| quote(arn))
    }
}

/// STS `ExternalId`; unset by default, and never shown.
pub(super) struct ExternalIdRule;

impl Rule for ExternalIdRule {
    type Value = Option<ExternalId>;
    fn read(&self, key: &str, raw: &Raw) -> Result<Self::Value, Fault> {
        let parsed = match raw {
            Raw::Words(text) | Raw::String(text) => ExternalId::parse(text),
            // Never repeated in a message.
            _ => Err(ExternalId::EXPECTED.into()),
        };
        parsed.map(Some).map_err(|reason| Fault::Invalid { key: key.into(), reason })
    }
    fn write(&self, _: &Self::Value) -> Option<String> {
        None
    }
    fn is_hidden(&self) -> bool {
        true
    }
}

fn text_of<'a>(key: &str, raw: &'a Raw) -> Result<&'a str, Fault> {
    match raw {
        Raw::Words(text) | Raw::String(text) => Ok(text),
        other => Err(wrong_type(key, "a string in quotes", other)),
    }
}
