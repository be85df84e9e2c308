//! Roles to assume: one that is named, or a template that gives one for each account.
//!
//! Guarantees: a role that comes out of here is in the account and partition of its lane.
//!
//! Deliberately doesn't know: whether the role is there, and whether it can be assumed.

use std::fmt;

use super::rules::shortened;
use crate::record::{AccountId, Lane, Partition};

/// Stands for the account in a template.
const ACCOUNT_PLACE: &str = "{account}";

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

    /// 2 to 1224 characters of `[\w+=,.@:\/-]` (STS model, `externalIdType`). The error never
    /// repeats the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b':' | b'/' | b'-')
        };
        if (2..=1224).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_string()));
        }
        Err(Self::EXPECTED.to_string())
    }

    pub(super) const EXPECTED: &str = "must be a string of 2 to 1224 letters, digits and _+=,.@:/-";
}

impl fmt::Debug for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// Which role to assume in whatever account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleTemplate {
    /// An ARN, of one account, or with `{account}` in its place.
    Arn(String),
    /// Path, if any, and name: the rest of the ARN is the lane's.
    Name(String),
}

impl RoleTemplate {
    /// From an ARN; which lanes it fits is told by [`RoleTemplate::arn_for`].
    pub(super) fn of_arn(text: &str) -> Result<Self, String> {
        let sample = text.replacen(ACCOUNT_PLACE, "111122223333", 1);
        match owner(&sample) {
            Some(_) => Ok(Self::Arn(text.to_string())),
            None => Err(format!(
                "`{}` is not a role: expected arn:<partition>:iam::<account>:role/<name>, the \
                 account as 12 digits or as {ACCOUNT_PLACE}",
                shortened(text)
            )),
        }
    }

    /// From a name of 1 to 64 characters, perhaps behind a path of at most 512 (IAM model,
    /// `roleNameType`, `pathType`).
    pub(super) fn of_name(text: &str) -> Result<Self, String> {
        let given = text.strip_prefix('/').unwrap_or(text);
        let (path, name) = given.rsplit_once('/').unwrap_or(("", given));
        let in_name = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(in_name)
            && path.len() <= 510
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b':')
            && (given == name || path.split('/').all(|part| !part.is_empty()));
        if fits {
            return Ok(Self::Name(given.to_string()));
        }
        Err(format!(
            "`{}` is not the name of a role: expected up to 64 letters, digits and _+=,.@-, \
             perhaps behind a path such as service/",
            shortened(text)
        ))
    }

    /// Whether it is one account's role.
    pub(super) fn is_of_one_account(&self) -> bool {
        matches!(self, Self::Arn(arn) if !arn.contains(ACCOUNT_PLACE))
    }

    /// The role to assume for `lane`, or why there can't be one.
    pub fn arn_for(&self, lane: &Lane) -> Result<String, String> {
        let (account, partition) = (lane.account, lane.partition());
        let arn = match self {
            Self::Name(name) => {
                return Ok(format!("arn:{partition}:iam::{account}:role/{name}"));
            }
            Self::Arn(arn) => arn.replacen(ACCOUNT_PLACE, account.as_str(), 1),
        };
        match owner(&arn) {
            Some(owner) if owner == account => {}
            _ => {
                let owner = arn.split(':').nth(4).unwrap_or_default();
                return Err(format!(
                    "`{}` is a role of account {owner}, but the lane's account is {account}",
                    shortened(&arn)
                ));
            }
        }
        if arn.split(':').nth(1) != Some(partition.as_str()) {
            return Err(format!(
                "{} is not in partition {partition} of lane {lane}",
                shortened(&arn)
            ));
        }
        Ok(arn)
    }

    /// As IAM writes the roles of all accounts of a partition.
    #[must_use]
    pub fn arn_pattern(&self, partition: Partition) -> String {
        match self {
            Self::Name(name) => format!("arn:{partition}:iam::*:role/{name}"),
            Self::Arn(arn) => arn.replacen(ACCOUNT_PLACE, "*", 1),
        }
    }

    /// As in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Arn(text) | Self::Name(text) => text,
        }
    }
}

/// The account whose role `arn` is; 20 to 2048 characters (STS model, `arnType`).
pub(super) fn owner(arn: &str) -> Option<AccountId> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", owner, resource]
            if partition.starts_with("aws")
                && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
                && (20..=2048).contains(&arn.len())
                && arn.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            owner.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(text: &str) -> Lane {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_gives_a_role_in_each_account_and_partition() {
        let plain = RoleTemplate::of_name("patchferry").unwrap();
        let with_path = RoleTemplate::of_name("/service/ops/patchferry").unwrap();
        for (of, partition) in [
            ("111122223333/us-east-1", "aws"),
            ("111122223333/cn-north-1", "aws-cn"),
            ("111122223333/us-gov-west-1", "aws-us-gov"),
            ("111122223333/us-iso-east-1", "aws-iso"),
            ("111122223333/us-isob-east-1", "aws-iso-b"),
            ("111122223333/eu-isoe-west-1", "aws-iso-e"),
            ("111122223333/us-isof-east-1", "aws-iso-f"),
            ("111122223333/eusc-de-east-1", "aws-eusc"),
        ] {
            let arn = |end: &str| Ok(format!("arn:{partition}:iam::111122223333:role/{end}"));
            assert_eq!(plain.arn_for(&lane(of)), arn("patchferry"));
            assert_eq!(with_path.arn_for(&lane(of)), arn("service/ops/patchferry"));
        }
    }

    #[test]
    fn an_arn_with_a_place_for_the_account_fits_every_account_of_its_partition() {
        let template = RoleTemplate::of_arn("arn:aws:iam::{account}:role/x/patchferry").unwrap();
        assert_eq!(
            template.arn_for(&lane("444455556666/eu-west-1")).unwrap(),
            "arn:aws:iam::444455556666:role/x/patchferry"
        );
        let other = template.arn_for(&lane("444455556666/cn-north-1")).unwrap_err();
        assert!(other.contains("is not in partition aws-cn"), "{other}");
    }

    #[test]
    fn what_is_no_role_is_refused() {
        for arn in ["patchferry", "arn:aws:iam::{account}:user/x", "arn:aws:iam::12:role/x", ""] {
            assert!(RoleTemplate::of_arn(arn).is_err(), "{arn}");
        }
        for name in ["", "a b", "/", "a//b", "ä", "arn:aws:iam::111122223333:role/x"] {
            assert!(RoleTemplate::of_name(name).is_err(), "{name}");
        }
        assert!(RoleTemplate::of_name(&"x".repeat(65)).is_err());
    }
}
