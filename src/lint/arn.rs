//! ARNs, and which partition a Region is in.

/// `arn:partition:service:region:account:resource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// `None` if it doesn't have the six parts.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        if next()? != "arn" {
            return None;
        }
        let arn = Self {
            partition: next()?,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        };
        (!arn.partition.is_empty() && !arn.resource.is_empty()).then_some(arn)
    }
}

/// The partition that a Region's name tells; `None` if it is no Region's name.
pub(super) fn partition_of(region: &str) -> Option<&'static str> {
    const PREFIXES: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    let is_name = region.len() >= 8
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && region.ends_with(|c: char| c.is_ascii_digit())
        && region.matches('-').count() >= 2;
    if !is_name {
        return None;
    }
    let found = PREFIXES.iter().find(|(prefix, _)| region.starts_with(prefix));
    Some(found.map_or("aws", |(_, partition)| partition))
}

/// The model's other name of a partition.
pub(super) fn same_partition(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.replace("aws-us-iso", "aws-iso");
    plain(one) == plain(other)
}
