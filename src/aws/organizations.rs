//! The accounts of the organization, as AWS Organizations lists them.
//!
//! Needs `organizations:ListAccounts` in the management account or in that of a delegated
//! administrator.
//!
//! Deliberately doesn't know: what the accounts are for, and how often to ask.

use std::time::Duration;

use aws_config::SdkConfig;
use serde::{Deserialize, Serialize};

use super::{
    AwsError, Fault, Unavailability,
    signed::{JsonProtocol, JsonService, SignedClient},
};
use crate::record::{AccountId, Partition, Region, Text};

/// botocore 1.44.5, `organizations` 2016-11-28.
const SERVICE: JsonService = JsonService {
    id: "Organizations",
    endpoint_prefix: "organizations",
    signing_name: "organizations",
    target_prefix: "AWSOrganizationsV20161128",
    protocol: JsonProtocol::V1_1,
};
const OPERATION: &str = "ListAccounts";
/// The most that AWS takes.
const PAGE_ACCOUNTS_MAX: u8 = 20;
/// More are no organization: AWS's own limit is 10,000 and takes a person to raise.
const ACCOUNTS_MAX: usize = 50_000;
/// A page that is throttled is asked for again this often.
const THROTTLED_MAX: u32 = 6;
const THROTTLED_WAIT: Duration = Duration::from_millis(500);

/// Reads the organization.
pub struct Organizations {
    client: SignedClient,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    max_results: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    accounts: Vec<Account>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    id: String,
    /// Takes the place of `Status`, which AWS retires in September 2026.
    state: Option<String>,
    status: Option<String>,
}

impl Account {
    fn is_active(&self) -> bool {
        self.state.as_deref().or(self.status.as_deref()) == Some("ACTIVE")
    }
}

/// Where the partition's organizations are (botocore: `partitions.json`, endpoint of
/// `organizations` in each).
#[must_use]
pub(super) fn region_of(partition: Partition) -> Region {
    let name = match partition {
        Partition::Aws => "us-east-1",
        Partition::AwsCn => "cn-northwest-1",
        Partition::AwsUsGov => "us-gov-west-1",
        Partition::AwsIso => "us-iso-east-1",
        Partition::AwsIsoB => "us-isob-east-1",
        Partition::AwsIsoE => "eu-isoe-west-1",
        Partition::AwsIsoF => "us-isof-south-1",
        Partition::AwsEusc => "eusc-de-east-1",
    };
    name.parse().expect("the names above are Regions")
}

impl Organizations {
    pub(super) fn new(config: &SdkConfig, partition: Partition) -> Self {
        Self { client: SignedClient::new(config, SERVICE, &region_of(partition)) }
    }

    /// The accounts that are active, each once.
    pub async fn active_accounts(&self) -> Result<Vec<AccountId>, AwsError> {
        let failed = |fault| AwsError { operation: OPERATION, lane: None, fault };
        let mut active = Vec::new();
        let (mut listed, mut next_token) = (0, None);
        loop {
            let answer = self.page(next_token).await.map_err(failed)?;
            listed += answer.accounts.len();
            for account in answer.accounts.iter().filter(|account| account.is_active()) {
                active.push(account.id.parse().map_err(|_| failed(nonsense("an account id")))?);
            }
            // "" at the end means that there are no more.
            next_token = answer.next_token.filter(|token| !token.is_empty());
            if listed > ACCOUNTS_MAX {
                return Err(failed(nonsense("the number of accounts")));
            }
            if next_token.is_none() {
                active.sort();
                active.dedup();
                return Ok(active);
            }
        }
    }

    async fn page(&self, next_token: Option<String>) -> Result<Answer, Fault> {
        let request = Request { max_results: PAGE_ACCOUNTS_MAX, next_token };
        let mut throttled = 0;
        loop {
            match self.client.call(OPERATION, &request).await {
                Err(Fault::Throttled { .. }) if throttled < THROTTLED_MAX => {
                    let longest = THROTTLED_WAIT * 2_u32.pow(throttled);
                    throttled += 1;
                    tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                }
                answered => return answered,
            }
        }
    }
}

fn nonsense(what: &str) -> Fault {
    Fault::Unavailable {
        kind: Unavailability::BadBody,
        detail: Text::truncated(&format!("{what} in the answer makes no sense")),
    }
}
