//! Why a lane waits for somebody: the reasons that time alone doesn't heal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why sending can't succeed until somebody acts. The labels are stable: metrics carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// No provider of the chain has credentials.
    CredentialsMissing,
    /// AWS says that the credentials have expired.
    CredentialsExpired,
    /// AWS doesn't know the credentials, or their signature is wrong.
    CredentialsInvalid,
    /// AWS says that the request's time is too far from its own.
    ClockSkewed,
    /// The identity lacks a permission, or an account may not do this.
    AccessDenied,
    /// The credentials belong to another account than the lane's.
    ForeignAccount,
    /// Security Hub CSPM isn't enabled in this account and Region.
    HubOff,
    /// The account hasn't opted in to this Region.
    RegionOff,
    /// The hub calls everything invalid: the fault is in the configuration or on the way.
    Rejecting,
    /// A request can't even be built: no Region, an unusable endpoint.
    Misconfigured,
}

impl HoldReason {
    pub const ALL: [Self; 10] = [
        Self::CredentialsMissing,
        Self::CredentialsExpired,
        Self::CredentialsInvalid,
        Self::ClockSkewed,
        Self::AccessDenied,
        Self::ForeignAccount,
        Self::HubOff,
        Self::RegionOff,
        Self::Rejecting,
        Self::Misconfigured,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsMissing => "credentials_missing",
            Self::CredentialsExpired => "credentials_expired",
            Self::CredentialsInvalid => "credentials_invalid",
            Self::ClockSkewed => "clock_skewed",
            Self::AccessDenied => "access_denied",
            Self::ForeignAccount => "foreign_account",
            Self::HubOff => "hub_off",
            Self::RegionOff => "region_off",
            Self::Rejecting => "rejecting",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// What a person does to end the hold.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::CredentialsMissing => {
                "give the daemon credentials: environment, profile, SSO, process or instance role"
            }
            Self::CredentialsExpired => "renew the credentials; they are read again by themselves",
            Self::CredentialsInvalid => {
                "check the access key or role, and that the account has this Region enabled"
            }
            Self::ClockSkewed => "set this machine's clock, e.g. with chrony",
            Self::AccessDenied => {
                "`patchferry check` names the permission that is missing, `patchferry iam-policy` \
                 prints the policy that grants it"
            }
            Self::ForeignAccount => "give the lane a `role_arn` in its own account",
            Self::HubOff => "enable Security Hub CSPM in this account and Region",
            Self::RegionOff => "enable the Region for this account, or remove the lane",
            Self::Rejecting => "check `finding.product_arn` and what stands between here and AWS",
            Self::Misconfigured => "check the Region, `AWS_ENDPOINT_URL` and the AWS profile",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
