//! `[[lanes]]`: accounts, their Regions, and the role to assume in each.
//!
//! Guarantees of a list of lanes that comes out of here: not empty, no lane twice, all in one
//! partition, every role in its lane's account and partition, at most [`LANES_MAX`].
//!
//! Deliberately doesn't know: whether the accounts exist or the roles can be assumed.

use std::{collections::HashMap, fmt};

use super::{
    error::{Fault, Origin, Problem},
    file::{ListEntry, Setting, expect_text},
    rules::{Raw, shortened, wrong_type},
};
use crate::record::{AccountId, Lane, Region};

/// Lanes of one daemon: 150 accounts in 10 Regions, and room. More are divided among machines.
pub const LANES_MAX: usize = 2_000;

/// One lane as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    pub lane: Lane,
    /// `None`: the daemon's own credentials, which must then be the account's.
    pub role: Option<Role>,
}

/// A role to assume for a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `arn:P:iam::A:role/…`, in the lane's own partition and account.
    pub arn: String,
    pub external_id: Option<ExternalId>,
}

/// STS `ExternalId`. Not quite a secret, but not for logs either: only [`ExternalId::expose`]
/// gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalId(String);

impl ExternalId {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// Checks each entry, then all of them together. Empty only if there are problems.
pub(super) fn read(entries: &[ListEntry], problems: &mut Vec<Problem>) -> Vec<LaneConfig> {
    let mut reader = Reader { problems, lanes: Vec::new(), seen: HashMap::new() };
    for entry in entries {
        reader.entry(entry);
    }
    reader.lanes
}

struct Reader<'a> {
    problems: &'a mut Vec<Problem>,
    lanes: Vec<LaneConfig>,
    seen: HashMap<Lane, Origin>,
}

impl Reader<'_> {
    fn problem(&mut self, origin: &Origin, fault: Fault) {
        self.problems.push(Problem { origin: origin.clone(), fault });
    }

    fn invalid(&mut self, origin: &Origin, key: &str, reason: String) {
        self.problem(origin, Fault::Invalid { key: key.into(), reason });
    }

    fn entry(&mut self, entry: &ListEntry) {
        let account = self.account(entry);
        let regions = self.regions(entry);
        let role = self.role(entry, account);
        let (Some(account), Some(role)) = (account, role) else { return };
        for region in regions {
            self.lane(entry, Lane::new(account, region), role.clone());
        }
    }

    fn setting<'e>(&mut self, entry: &'e ListEntry, key: &str) -> Option<&'e Setting> {
        let setting = entry.settings.get(key);
        if setting.is_none() {
            self.invalid(&entry.origin, key, "missing from this `[[lanes]]`".into());
        }
        setting
    }

    fn account(&mut self, entry: &ListEntry) -> Option<AccountId> {
        let key = "lanes.account";
        let setting = self.setting(entry, key)?;
        let parsed = match &setting.raw {
            Raw::Integer(_) => {
                Err(wrong_type(key, "12 digits in quotes (a number loses zeros)", &setting.raw))
            }
            _ => expect_text(key, setting).and_then(|text| {
                shortened(text).parse().map_err(|reason| Fault::Id { key: key.into(), reason })
            }),
        };
        parsed.map_err(|fault| self.problem(&setting.origin, fault)).ok()
    }

    fn regions(&mut self, entry: &ListEntry) -> Vec<Region> {
        let key = "lanes.regions";
        let Some(setting) = self.setting(entry, key) else { return Vec::new() };
        let expected = "a list of Regions such as [\"us-east-1\"]";
        let Raw::List(items) = &setting.raw else {
            self.problem(&setting.origin, wrong_type(key, expected, &setting.raw));
            return Vec::new();
        };
        if items.is_empty() {
            self.invalid(&setting.origin, key, "names no Region".into());
        }
        let mut regions = Vec::new();
        for item in items {
            let parsed = match item {
                Raw::String(text) => {
                    shortened(text).parse().map_err(|reason| Fault::Id { key: key.into(), reason })
                }
                other => Err(wrong_type(key, expected, other)),
            };
            match parsed {
                Ok(region) => regions.push(region),
                Err(fault) => self.problem(&setting.origin, fault),
            }
        }
        regions
    }

    /// Outer `None`: there is a role, but it is wrong.
    #[allow(clippy::option_option)]
    fn role(&mut self, entry: &ListEntry, account: Option<AccountId>) -> Option<Option<Role>> {
        let external_id = entry.settings.get("lanes.external_id");
        let Some(setting) = entry.settings.get("lanes.role_arn") else {
            if let Some(setting) = external_id {
                let reason = "has no meaning without `lanes.role_arn`".into();
                self.invalid(&setting.origin, "lanes.external_id", reason);
            }
            return Some(None);
        };
        let external_id = match external_id {
            Some(setting) => match check_external_id("lanes.external_id", &setting.raw) {
                Ok(id) => Some(id),
                Err(fault) => {
                    self.problem(&setting.origin, fault);
                    return None;
                }
            },
            None => None,
        };
        let arn = expect_text("lanes.role_arn", setting)
            .and_then(|text| check_role_arn("lanes.role_arn", text, account))
            .map_err(|fault| self.problem(&setting.origin, fault))
            .ok()?;
        Some(Some(Role { arn, external_id }))
    }

    fn lane(&mut self, entry: &ListEntry, lane: Lane, role: Option<Role>) {
        if let Some(first) = self.seen.get(&lane) {
            let reason = format!("lane {lane} is already given at {first}");
            return self.invalid(&entry.origin, "lanes", reason);
        }
        let partition = lane.partition();
        if let Some(other) = self
            .lanes
            .first()
            .map(|first| &first.lane)
            .filter(|first| first.partition() != partition)
        {
            let reason = format!(
                "lane {lane} is in partition {partition}, {other} in {}: credentials never cross \
                 partitions, so run one daemon for each",
                other.partition()
            );
            return self.invalid(&entry.origin, "lanes", reason);
        }
        if let Some(role) =
            role.as_ref().filter(|role| role.arn.split(':').nth(1) != Some(partition.as_str()))
        {
            let reason =
                format!("{} is not in partition {partition} of lane {lane}", shortened(&role.arn));
            return self.invalid(&entry.origin, "lanes.role_arn", reason);
        }
        if self.lanes.len() == LANES_MAX {
            let reason = format!("more than {LANES_MAX} lanes: divide them among daemons");
            self.seen.insert(lane, entry.origin.clone());
            return self.invalid(&entry.origin, "lanes", reason);
        }
        self.seen.insert(lane.clone(), entry.origin.clone());
        self.lanes.push(LaneConfig { lane, role });
    }
}

/// 2 to 1224 characters of `[\w+=,.@:\/-]` (STS model, `externalIdType`).
pub(super) fn check_external_id(key: &str, raw: &Raw) -> Result<ExternalId, Fault> {
    let allowed = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b':' | b'/' | b'-')
    };
    match raw {
        Raw::String(text) if (2..=1224).contains(&text.len()) && text.bytes().all(allowed) => {
            Ok(ExternalId(text.clone()))
        }
        // Never repeated in a message.
        _ => {
            let reason = "must be a string of 2 to 1224 letters, digits and _+=,.@:/-".into();
            Err(Fault::Invalid { key: key.into(), reason })
        }
    }
}

/// 20 to 2048 characters (STS model, `arnType`), a role, in `account` if that is known.
pub(super) fn check_role_arn(
    key: &str,
    text: &str,
    account: Option<AccountId>,
) -> Result<String, Fault> {
    let invalid = |reason: String| Fault::Invalid { key: key.into(), reason };
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let owner = match parts[..] {
        ["arn", _, "iam", "", owner, resource]
            if resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
                && (20..=2048).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            owner
        }
        _ => {
            return Err(invalid(format!(
                "`{}` is not a role: expected arn:<partition>:iam::<account>:role/<name>",
                shortened(text)
            )));
        }
    };
    let of = if key.starts_with("sqs") { "the queue" } else { "the lane" };
    match account {
        Some(account) if account.as_str() != owner => Err(invalid(format!(
            "`{}` is a role of account {owner}, but {of}'s account is {account}",
            shortened(text)
        ))),
        _ => Ok(text.to_string()),
    }
}
