//! Identifiers: accounts, Regions, partitions, lanes, nodes, and the numbers that give order.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// An identifier that isn't one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("`{0}` is not an AWS account id: give its 12 digits")]
    Account(String),
    #[error("`{0}` is not an AWS Region: expected a form like `us-east-1`")]
    Region(String),
    #[error(
        "`{0}` is not a managed node id: expected `i-` with 8 or 17 characters, or `mi-` with 17"
    )]
    Node(String),
    #[error("`{0}` is not a lane: expected `<account>/<region>`")]
    Lane(String),
}

macro_rules! text_serde {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

/// A 12-digit AWS account id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId([u8; 12]);

impl AccountId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an account id is made of ASCII digits")
    }
}

impl FromStr for AccountId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; 12] =
            text.as_bytes().try_into().map_err(|_| InvalidId::Account(text.into()))?;
        if !bytes.iter().all(u8::is_ascii_digit) {
            return Err(InvalidId::Account(text.into()));
        }
        Ok(Self(bytes))
    }
}

/// An AWS Region name; 16 characters at most (ASFF `Resources[].Region`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(Arc<str>);

impl Region {
    pub const MAX_CHARS: usize = 16;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.0)
    }
}

impl FromStr for Region {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parts: Vec<&str> = text.split('-').collect();
        let well_formed = parts.len() >= 3
            && text.len() <= Self::MAX_CHARS
            && parts.iter().all(|part| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            })
            && parts.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !well_formed {
            return Err(InvalidId::Region(text.into()));
        }
        Ok(Self(text.into()))
    }
}

/// An AWS partition. Credentials, roles and ARNs never cross it.
///
/// Ids and name prefixes: botocore 1.44.5 `partitions.json`. (The Security Hub model's own
/// `Partition` enum has `aws-us-iso`, which is not a partition id.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Partition {
    Aws,
    AwsCn,
    AwsUsGov,
    AwsIso,
    AwsIsoB,
    AwsIsoE,
    AwsIsoF,
    AwsEusc,
}

impl Partition {
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        const PREFIXES: [(&str, Partition); 7] = [
            ("cn-", Partition::AwsCn),
            ("us-gov-", Partition::AwsUsGov),
            ("us-isob-", Partition::AwsIsoB),
            ("us-isof-", Partition::AwsIsoF),
            ("us-iso-", Partition::AwsIso),
            ("eu-isoe-", Partition::AwsIsoE),
            ("eusc-", Partition::AwsEusc),
        ];
        PREFIXES
            .iter()
            .find(|(prefix, _)| region.starts_with(prefix))
            .map_or(Self::Aws, |(_, partition)| *partition)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
            Self::AwsEusc => "aws-eusc",
        }
    }
}

/// One AWS account and Region: its SSM to read, its Security Hub to write. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lane {
    pub account: AccountId,
    pub region: Region,
}

impl Lane {
    #[must_use]
    pub fn new(account: AccountId, region: Region) -> Self {
        Self { account, region }
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        self.region.partition()
    }

    /// The product of custom findings, there in every account whose hub is on:
    /// `arn:P:securityhub:R:A:product/A/default`.
    #[must_use]
    pub fn default_product_arn(&self) -> String {
        format!(
            "arn:{}:securityhub:{}:{account}:product/{account}/default",
            self.partition(),
            self.region,
            account = self.account
        )
    }
}

impl FromStr for Lane {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (account, region) =
            text.split_once('/').ok_or_else(|| InvalidId::Lane(text.to_string()))?;
        Ok(Self { account: account.parse()?, region: region.parse()? })
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.region)
    }
}

/// What kind of node a node id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeKind {
    /// `i-…`: an EC2 instance.
    Ec2,
    /// `mi-…`: a server, virtual machine or device registered with a hybrid activation.
    Hybrid,
}

/// The id of a managed node: `(^i-(\w{8}|\w{17})$)|(^mi-\w{17}$)` (SSM model, `InstanceId`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Box<str>);

impl NodeId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn kind(&self) -> NodeKind {
        if self.0.starts_with("mi-") { NodeKind::Hybrid } else { NodeKind::Ec2 }
    }
}

impl FromStr for NodeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_word = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let valid = match (text.strip_prefix("i-"), text.strip_prefix("mi-")) {
            (Some(rest), _) => matches!(rest.len(), 8 | 17) && is_word(rest),
            (_, Some(rest)) => rest.len() == 17 && is_word(rest),
            _ => false,
        };
        if !valid {
            return Err(InvalidId::Node(text.chars().take(128).collect()));
        }
        Ok(Self(text.into()))
    }
}

text_serde!(AccountId);
text_serde!(Region);
text_serde!(Lane);
text_serde!(NodeId);

macro_rules! text_fmt {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
text_fmt!(AccountId, Region, NodeId);

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number that an SSM read took from its lane's persistent counter before its request went
/// out. Order between two observations of a node comes from this, never from a clock.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct ReadNumber(pub u64);

/// Names one version of one finding; from the store's persistent sequence, never used twice.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_follow_the_model_pattern() {
        for valid in ["i-12345678", "i-02573cafcfEXAMPLE", "mi-0123456789abcdef0"] {
            assert!(valid.parse::<NodeId>().is_ok(), "{valid}");
        }
        for invalid in ["", "i-", "i-123456789", "mi-12345678", "x-12345678", "i-1234567\u{e9}"] {
            assert!(invalid.parse::<NodeId>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_region_knows_its_partition() {
        for (region, partition) in [
            ("us-east-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(region.parse::<Region>().unwrap().partition().as_str(), partition);
        }
    }

    #[test]
    fn what_is_no_region_or_account_is_refused() {
        for invalid in ["", "us", "US-EAST-1", "us-east-", "us-east-1a", "us-east-1/x", "a-b-c"] {
            assert!(invalid.parse::<Region>().is_err(), "{invalid}");
        }
        for invalid in ["", "12345678901", "1234567890123", "12345678901a"] {
            assert!(invalid.parse::<AccountId>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_lane_survives_its_own_text() {
        let lane: Lane = "111122223333/us-gov-west-1".parse().unwrap();
        assert_eq!(lane.to_string().parse::<Lane>().unwrap(), lane);
        assert_eq!(
            lane.default_product_arn(),
            "arn:aws-us-gov:securityhub:us-gov-west-1:111122223333:product/111122223333/default"
        );
    }
}
