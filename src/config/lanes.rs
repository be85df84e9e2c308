//! `[[lanes]]`: accounts, their Regions, and the role to assume in each.
//!
//! Guarantees of a list of lanes that comes out of here: not empty, no lane twice, all in one
//! partition, every role in its lane's account and partition, at most [`LANES_MAX`]. An entry of
//! many lanes that is wrong in one way is told of once.
//!
//! A role is assumed wherever an entry gives one, in the daemon's own account too: whose account
//! that is would have to be asked first. Its lanes may have an entry of their own without a role.
//!
//! Deliberately doesn't know: whether the accounts exist or the roles can be assumed.

use std::collections::HashMap;

use super::{
    error::{Fault, Origin, Problem},
    file::{ListEntry, Setting, expect_text},
    roles::{ExternalId, Role, RoleTemplate},
    rules::{ChoiceRule, Raw, Rule as _, shortened, wrong_type},
};
use crate::record::{AccountId, Lane, Region, ids::InvalidId};

/// Lanes of one daemon: 150 accounts in 10 Regions, and room. More are divided among machines.
pub const LANES_MAX: usize = 2_000;

/// One lane as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    pub lane: Lane,
    /// `None`: the daemon's own credentials, which must then be the account's.
    pub role: Option<Role>,
    /// Declared: its hub is off as intended, so that nobody is called while it is.
    pub hub_off: bool,
}

impl LaneConfig {
    #[must_use]
    pub fn new(lane: Lane, role: Option<Role>) -> Self {
        Self { lane, role, hub_off: false }
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
        let accounts = self.accounts(entry);
        let regions = self.regions(entry);
        let role = self.role(entry, &accounts);
        let hub_off = self.hub_off(entry);
        let Some((template, external_id)) = role else { return };
        let mut told = Told::default();
        for account in accounts {
            for region in &regions {
                let lane = Lane::new(account, region.clone());
                let external_id = external_id.as_ref();
                match self.lane(entry, lane, template.as_ref(), external_id, hub_off) {
                    Ok(()) => {}
                    Err(wrong) => told.note(wrong),
                }
            }
        }
        for (Wrong { key, reason, .. }, more) in told.0 {
            let origin = entry.settings.get(key).map_or(&entry.origin, |setting| &setting.origin);
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more lanes of this entry)"),
            };
            self.invalid(origin, key, reason + &more);
        }
    }

    fn setting<'e>(&mut self, entry: &'e ListEntry, key: &str) -> Option<&'e Setting> {
        let setting = entry.settings.get(key);
        if setting.is_none() {
            self.invalid(&entry.origin, key, "missing from this `[[lanes]]`".into());
        }
        setting
    }

    fn accounts(&mut self, entry: &ListEntry) -> Vec<AccountId> {
        let Some(setting) = entry.settings.get("lanes.accounts") else {
            return self.account(entry).into_iter().collect();
        };
        let key = "lanes.accounts";
        if let Some(one) = entry.settings.get("lanes.account") {
            let reason = "give either this or `lanes.accounts`".into();
            self.invalid(&one.origin, "lanes.account", reason);
        }
        let expected = "a list of account ids such as [\"111122223333\"]";
        self.list(setting, key, expected, "account")
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
        self.list(setting, key, expected, "Region")
    }

    fn list<T: std::str::FromStr<Err = InvalidId>>(
        &mut self,
        setting: &Setting,
        key: &str,
        expected: &str,
        noun: &str,
    ) -> Vec<T> {
        let Raw::List(items) = &setting.raw else {
            self.problem(&setting.origin, wrong_type(key, expected, &setting.raw));
            return Vec::new();
        };
        if items.is_empty() {
            self.invalid(&setting.origin, key, format!("names no {noun}"));
        }
        let mut read = Vec::new();
        for item in items {
            let parsed = match item {
                Raw::String(text) => {
                    shortened(text).parse().map_err(|reason| Fault::Id { key: key.into(), reason })
                }
                other => Err(wrong_type(key, expected, other)),
            };
            match parsed {
                Ok(value) => read.push(value),
                Err(fault) => self.problem(&setting.origin, fault),
            }
        }
        read
    }

    fn hub_off(&mut self, entry: &ListEntry) -> bool {
        let Some(setting) = entry.settings.get("lanes.hub") else { return false };
        let read = ChoiceRule(&[("on", false), ("off", true)]).read("lanes.hub", &setting.raw);
        read.map_err(|fault| self.problem(&setting.origin, fault)).unwrap_or(false)
    }

    /// `None`: there is a role, but it is wrong.
    fn role(
        &mut self,
        entry: &ListEntry,
        accounts: &[AccountId],
    ) -> Option<(Option<RoleTemplate>, Option<ExternalId>)> {
        let external_id = entry.settings.get("lanes.external_id");
        let Some((key, setting)) = self.role_setting(entry) else {
            if let Some(setting) = external_id {
                let reason = "has no meaning without `lanes.role_arn` or `lanes.role_name`".into();
                self.invalid(&setting.origin, "lanes.external_id", reason);
            }
            return Some((None, None));
        };
        let external_id = match external_id {
            Some(setting) => Some(self.external_id(setting)?),
            None => None,
        };
        let template = match expect_text(key, setting) {
            Err(fault) => {
                self.problem(&setting.origin, fault);
                return None;
            }
            Ok(text) if key == "lanes.role_arn" => RoleTemplate::of_arn(text),
            Ok(text) => RoleTemplate::of_name(text),
        };
        let template = match template {
            Ok(template) if template.is_of_one_account() && accounts.len() > 1 => Err(format!(
                "`{}` is one account's role, but the entry has {} accounts: write {{account}} in \
                 its place, or give `lanes.role_name`",
                shortened(template.as_str()),
                accounts.len()
            )),
            template => template,
        };
        match template {
            Ok(template) => Some((Some(template), external_id)),
            Err(reason) => {
                self.invalid(&setting.origin, key, reason);
                None
            }
        }
    }

    fn role_setting<'e>(&mut self, entry: &'e ListEntry) -> Option<(&'static str, &'e Setting)> {
        let arn = entry.settings.get("lanes.role_arn");
        let Some(name) = entry.settings.get("lanes.role_name") else {
            return Some(("lanes.role_arn", arn?));
        };
        if arn.is_some() {
            let reason = "give either this or `lanes.role_arn`".into();
            self.invalid(&name.origin, "lanes.role_name", reason);
        }
        Some(("lanes.role_name", name))
    }

    fn external_id(&mut self, setting: &Setting) -> Option<ExternalId> {
        let parsed = match &setting.raw {
            Raw::String(text) => ExternalId::parse(text),
            // Never repeated in a message.
            _ => Err(ExternalId::EXPECTED.into()),
        };
        match parsed {
            Ok(id) => Some(id),
            Err(reason) => {
                self.invalid(&setting.origin, "lanes.external_id", reason);
                None
            }
        }
    }

    fn lane(
        &mut self,
        entry: &ListEntry,
        lane: Lane,
        template: Option<&RoleTemplate>,
        external_id: Option<&ExternalId>,
        hub_off: bool,
    ) -> Result<(), Wrong> {
        let wrong = |kind, key, reason| Err(Wrong { kind, key, reason });
        if let Some(first) = self.seen.get(&lane) {
            let reason = format!("lane {lane} is already given at {first}");
            return wrong(Kind::Twice, "lanes", reason);
        }
        let partition = lane.partition();
        let first = self.lanes.first().map(|first| &first.lane);
        if let Some(other) = first.filter(|first| first.partition() != partition) {
            let reason = format!(
                "lane {lane} is in partition {partition}, {other} in {}: credentials never cross \
                 partitions, so run one daemon for each",
                other.partition()
            );
            return wrong(Kind::Partition, "lanes", reason);
        }
        let role = match template.map(|template| template.arn_for(&lane)).transpose() {
            Ok(arn) => arn.map(|arn| Role { arn, external_id: external_id.cloned() }),
            Err(reason) => return wrong(Kind::Role, "lanes.role_arn", reason),
        };
        self.seen.insert(lane.clone(), entry.origin.clone());
        if self.lanes.len() == LANES_MAX {
            let reason = format!("more than {LANES_MAX} lanes: divide them among daemons");
            return wrong(Kind::TooMany, "lanes", reason);
        }
        self.lanes.push(LaneConfig { lane, role, hub_off });
        Ok(())
    }
}

/// In which way a lane is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Twice,
    Partition,
    Role,
    TooMany,
}

struct Wrong {
    kind: Kind,
    key: &'static str,
    reason: String,
}

/// What is wrong with the lanes of one entry: the first of each kind, and how many more.
#[derive(Default)]
struct Told(Vec<(Wrong, usize)>);

impl Told {
    fn note(&mut self, wrong: Wrong) {
        match self.0.iter_mut().find(|(told, _)| told.kind == wrong.kind) {
            Some((_, more)) => *more += 1,
            None => self.0.push((wrong, 0)),
        }
    }
}
