//! From the ambient AWS environment to one lane's clients.
//!
//! The environment is taken as every SDK takes it: variables, profile, SSO, process, instance
//! role; `AWS_ENDPOINT_URL`, FIPS and dual-stack switches, proxies.
//!
//! Guarantees: lanes share the HTTP client with its connections and the ambient credentials,
//! nothing else. Each has its own identity cache (the SDK's shared one evicts beyond 64
//! providers) and its own retry partition (the SDK's default one is per service and Region, so
//! that one throttled account would slow every other account of its Region).
//!
//! Deliberately doesn't know: which lanes there are, and when they are due.

use std::{fmt, time::Duration};

use aws_config::{BehaviorVersion, SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sts::config::{IdentityCache, retry::RetryPartition};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{
    os_shim_internal::{Env, Fs},
    sdk_config::SharedTimeSource,
};

use super::{
    AwsError, ClockOffset, CloudControl, Fault, HoldReason, SecurityHub, Sqs, Ssm,
    classify::classify,
    clock::DateWatch,
    credentials::{CachedCredentials, RENEWAL_MARGIN},
    http::{self, CONNECT_TIMEOUT, CaBundle, HttpSetupError},
    organizations::{self, Organizations},
};
use crate::record::{AccountId, Lane, Partition, Region, Text};

const STS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const STS_OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const STS_ATTEMPTS_MAX: u32 = 3;
/// Below the shortest attempt timeout, so that a slow provider is named as the cause.
const CREDENTIALS_LOAD_TIMEOUT: Duration = Duration::from_secs(9);

/// A role to assume for a lane.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AssumeRole {
    pub role_arn: String,
    pub external_id: Option<String>,
    /// 2..64 characters of `[\w+=,.@-]` (STS API Reference, `AssumeRole`).
    pub session_name: String,
}

/// Leaves out the external id, which some treat as a secret.
impl fmt::Debug for AssumeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssumeRole").field("role_arn", &self.role_arn).finish_non_exhaustive()
    }
}

/// Whose credentials these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    pub account: AccountId,
    /// Of the identity's ARN: credentials never cross partitions.
    pub partition: Partition,
    pub arn: Text<2048>,
}

/// The ambient identity, and what all lanes share.
pub struct Aws {
    base: SdkConfig,
    ambient: Option<CachedCredentials>,
}

/// A lane's clients, all with the lane's own credentials.
#[derive(Clone)]
pub struct LaneClients {
    pub ssm: Ssm,
    pub hub: SecurityHub,
    pub cloud_control: CloudControl,
    lane: Lane,
    sts: aws_sdk_sts::Client,
}

impl Aws {
    /// Reads the environment. Credentials are loaded when they are first needed; a missing
    /// Region may be asked from the instance metadata service here.
    pub async fn load() -> Result<Self, HttpSetupError> {
        let bundle = match CaBundle::from_env() {
            Some(bundle) => Some(bundle),
            None => bundle_of_profile().await,
        };
        let base = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http::client(bundle.as_ref())?)
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .load()
            .await;
        Ok(Self::from_config(base))
    }

    /// With an SDK configuration made elsewhere.
    #[must_use]
    pub fn from_config(base: SdkConfig) -> Self {
        let ambient = base.credentials_provider().map(CachedCredentials::new);
        Self { base, ambient }
    }

    /// With fixed credentials for a fixed endpoint, such as the simulator; the environment has
    /// no say.
    pub fn for_endpoint(
        endpoint_url: &str,
        region: &str,
        access_key_id: &str,
        secret_access_key: &str,
    ) -> Result<Self, HttpSetupError> {
        let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "fixed");
        let base = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(endpoint_url)
            .http_client(http::direct_client()?)
            // `AssumeRoleProvider` takes it from here and panics without.
            .time_source(SharedTimeSource::default())
            .build();
        Ok(Self::from_config(base))
    }

    /// The Region of the environment, if it has one.
    #[must_use]
    pub fn default_region(&self) -> Option<Region> {
        self.base.region()?.as_ref().parse().ok()
    }

    /// Whose the ambient credentials are (`GetCallerIdentity`, which needs no permission).
    pub async fn caller_identity(&self) -> Result<CallerIdentity, AwsError> {
        self.identity().await.0
    }

    /// The same, and how far this machine's clock is from AWS's, if AWS has answered at all.
    pub async fn identity(&self) -> (Result<CallerIdentity, AwsError>, Option<ClockOffset>) {
        if self.base.region().is_none() {
            let fault = Fault::Held {
                reason: HoldReason::Misconfigured,
                detail: "no Region is set: give AWS_REGION or a profile with one".into(),
            };
            let error = AwsError { operation: "GetCallerIdentity", lane: None, fault };
            return (Err(error), None);
        }
        let sts = sts_client(&self.config(None, None), "ambient");
        let dates = DateWatch::default();
        let identity = caller_identity(&sts, None, &dates).await;
        (identity, dates.offset())
    }

    /// The clients of one lane. Calls nothing.
    pub async fn lane(&self, lane: &Lane, role: Option<&AssumeRole>) -> LaneClients {
        let config = self.config_in(&lane.region, role).await;
        let partition = lane.to_string();
        LaneClients {
            ssm: Ssm::new(&config, lane.clone()),
            hub: SecurityHub::new(&config, lane.clone()),
            cloud_control: CloudControl::new(&config, lane.clone()),
            lane: lane.clone(),
            sts: sts_client(&config, &partition),
        }
    }

    /// The client of one queue. Calls nothing.
    pub async fn queue(&self, url: &str, region: &Region, role: Option<&AssumeRole>) -> Sqs {
        Sqs::new(&self.config_in(region, role).await, url)
    }

    /// The client of one queue with credentials loaded anew.
    pub async fn renewed_queue(
        &self,
        url: &str,
        region: &Region,
        role: Option<&AssumeRole>,
    ) -> Sqs {
        if let Some(ambient) = &self.ambient {
            ambient.forget().await;
        }
        self.queue(url, region, role).await
    }

    /// The clients of one lane with credentials loaded anew: what to use after AWS called the
    /// old ones expired.
    pub async fn renewed_lane(&self, lane: &Lane, role: Option<&AssumeRole>) -> LaneClients {
        if let Some(ambient) = &self.ambient {
            ambient.forget().await;
        }
        self.lane(lane, role).await
    }

    /// The organization of a partition, read with the ambient identity or with a role. Calls
    /// nothing.
    pub async fn organization(
        &self,
        partition: Partition,
        role: Option<&AssumeRole>,
    ) -> Organizations {
        let region = organizations::region_of(partition);
        Organizations::new(&self.config_in(&region, role).await, partition)
    }

    /// The base with a Region, and the credentials of a role or else the ambient ones.
    async fn config_in(&self, region: &Region, role: Option<&AssumeRole>) -> SdkConfig {
        let config = self.config(Some(region), self.ambient_provider());
        let Some(role) = role else { return config };
        let assumed = AssumeRoleProvider::builder(&role.role_arn)
            .configure(&sts_settings(&config))
            .session_name(&role.session_name);
        let assumed = match &role.external_id {
            Some(id) => assumed.external_id(id),
            None => assumed,
        };
        let provider = SharedCredentialsProvider::new(assumed.build().await);
        self.config(Some(region), Some(provider))
    }

    fn ambient_provider(&self) -> Option<SharedCredentialsProvider> {
        self.ambient.clone().map(SharedCredentialsProvider::new)
    }

    /// The base with a Region and credentials, and an identity cache of its own.
    fn config(
        &self,
        region: Option<&Region>,
        credentials: Option<SharedCredentialsProvider>,
    ) -> SdkConfig {
        let identities = IdentityCache::lazy()
            .load_timeout(CREDENTIALS_LOAD_TIMEOUT)
            .buffer_time(RENEWAL_MARGIN)
            .build();
        let mut config = self.base.to_builder().identity_cache(identities);
        config.set_credentials_provider(credentials.or_else(|| self.ambient_provider()));
        if let Some(region) = region {
            config = config.region(aws_config::Region::new(region.as_str().to_owned()));
        }
        config.build()
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("region", &self.default_region()).finish_non_exhaustive()
    }
}

impl LaneClients {
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The account that the lane's credentials belong to.
    pub async fn caller_account(&self) -> Result<AccountId, AwsError> {
        self.identity().await.0.map(|identity| identity.account)
    }

    /// Whose the lane's credentials are, and how far this machine's clock is from AWS's, if AWS
    /// has answered at all.
    pub async fn identity(&self) -> (Result<CallerIdentity, AwsError>, Option<ClockOffset>) {
        let dates = DateWatch::default();
        let identity = caller_identity(&self.sts, Some(&self.lane), &dates).await;
        (identity, dates.offset())
    }

    /// Fails with [`HoldReason::ForeignAccount`] if the credentials aren't the lane's account's.
    pub async fn check_account(&self) -> Result<(), AwsError> {
        let account = self.caller_account().await?;
        if account == self.lane.account {
            return Ok(());
        }
        Err(AwsError {
            operation: "GetCallerIdentity",
            lane: Some(self.lane.clone()),
            fault: Fault::Held {
                reason: HoldReason::ForeignAccount,
                detail: Text::truncated(&format!("the credentials belong to account {account}")),
            },
        })
    }
}

impl fmt::Debug for LaneClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneClients").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// `ca_bundle` of the profile in use. A profile that can't be read is told of when it is needed.
#[allow(clippy::default_trait_access, reason = "the type has no name in a crate of ours")]
async fn bundle_of_profile() -> Option<CaBundle> {
    let (fs, env) = (Fs::real(), Env::real());
    let profiles = aws_config::profile::load(&fs, &env, &Default::default(), None).await.ok()?;
    let path = profiles.get("ca_bundle").filter(|path| !path.is_empty())?;
    Some(CaBundle { named_by: "the profile's ca_bundle", path: path.into() })
}

/// The retry quota of one client of one lane.
pub(super) fn retry_partition(service: &str, lane: &str) -> RetryPartition {
    RetryPartition::new(format!("patchferry {service} {lane}"))
}

fn sts_settings(config: &SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(STS_ATTEMPT_TIMEOUT)
        .operation_timeout(STS_OPERATION_TIMEOUT)
        .build();
    config
        .to_builder()
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(STS_ATTEMPTS_MAX))
        .build()
}

fn sts_client(config: &SdkConfig, partition: &str) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::config::Builder::from(&sts_settings(config))
        .retry_partition(retry_partition("sts", partition))
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

async fn caller_identity(
    sts: &aws_sdk_sts::Client,
    lane: Option<&Lane>,
    dates: &DateWatch,
) -> Result<CallerIdentity, AwsError> {
    const OPERATION: &str = "GetCallerIdentity";
    let failed = |fault| AwsError { operation: OPERATION, lane: lane.cloned(), fault };
    let request = sts.get_caller_identity().customize().interceptor(dates.clone());
    let answer = request.send().await.map_err(|error| failed(classify(&error)))?;
    let (account, arn) = (answer.account().unwrap_or_default(), answer.arn().unwrap_or_default());
    match (account.parse(), partition_of_arn(arn)) {
        (Ok(account), Some(partition)) => {
            Ok(CallerIdentity { account, partition, arn: Text::truncated(arn) })
        }
        _ => Err(failed(Fault::Unavailable {
            kind: super::Unavailability::BadBody,
            detail: "the answer has no account or no ARN".into(),
        })),
    }
}

fn partition_of_arn(arn: &str) -> Option<Partition> {
    const PARTITIONS: [Partition; 8] = [
        Partition::Aws,
        Partition::AwsCn,
        Partition::AwsUsGov,
        Partition::AwsIso,
        Partition::AwsIsoB,
        Partition::AwsIsoE,
        Partition::AwsIsoF,
        Partition::AwsEusc,
    ];
    let name = arn.strip_prefix("arn:")?.split(':').next()?;
    PARTITIONS.into_iter().find(|partition| partition.as_str() == name)
}
