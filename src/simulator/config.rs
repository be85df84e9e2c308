//! What a simulator is started with: its lanes and fleets, its quotas, its clock, its seed.
//!
//! Everything here is data. Nothing is read from files or the environment.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::queue::SimQueue;

/// Milliseconds since the Unix epoch, as the simulated services see the time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of the machine.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    })
}

/// One simulated account + Region.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SimLane {
    account: Arc<str>,
    region: Arc<str>,
}

impl SimLane {
    pub fn new(account: &str, region: &str) -> Self {
        Self { account: account.into(), region: region.into() }
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The partition that the Region belongs to, as it stands in ARNs.
    pub fn partition(&self) -> &'static str {
        match self.region.split('-').collect::<Vec<_>>().as_slice() {
            ["cn", ..] => "aws-cn",
            ["us", "gov", ..] => "aws-us-gov",
            ["us", "iso", ..] => "aws-iso",
            ["us", "isob", ..] => "aws-iso-b",
            ["us", "isof", ..] => "aws-iso-f",
            ["eu", "isoe", ..] => "aws-iso-e",
            ["eusc", ..] => "aws-eusc",
            _ => "aws",
        }
    }

    /// The one product into which this lane's hub accepts custom findings.
    pub fn product_arn(&self) -> String {
        format!(
            "arn:{}:securityhub:{}:{account}:product/{account}/default",
            self.partition(),
            self.region,
            account = self.account
        )
    }
}

impl fmt::Display for SimLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.region)
    }
}

impl fmt::Debug for SimLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request quota: a bucket of `burst` tokens, refilled at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    pub per_second: f64,
    pub burst: f64,
}

/// The quotas of every lane; `None` is no limit.
///
/// Security Hub's numbers: API Reference, "Throttling limits". SSM publishes none; ours is a
/// plausible one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quotas {
    pub import: Option<Quota>,
    pub get_findings: Option<Quota>,
    pub hub_other: Option<Quota>,
    /// One bucket for all SSM operations of a lane.
    pub ssm: Option<Quota>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            import: Some(Quota { per_second: 10.0, burst: 30.0 }),
            get_findings: Some(Quota { per_second: 3.0, burst: 6.0 }),
            hub_other: Some(Quota { per_second: 10.0, burst: 30.0 }),
            ssm: Some(Quota { per_second: 20.0, burst: 40.0 }),
        }
    }
}

impl Quotas {
    pub const UNLIMITED: Self =
        Self { import: None, get_findings: None, hub_other: None, ssm: None };
}

/// What a lane's fleet is made of. Shares are parts of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetConfig {
    pub nodes: usize,
    pub hybrid_share: f64,
    pub non_compliant_share: f64,
    pub never_scanned_share: f64,
}

impl FleetConfig {
    /// A fleet as it is met: mostly EC2, a third with patches missing, a few never scanned.
    pub fn of(nodes: usize) -> Self {
        Self { nodes, hybrid_share: 0.1, non_compliant_share: 0.3, never_scanned_share: 0.05 }
    }
}

/// The one role that can be assumed in an account, and who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRole {
    /// Path, if any, and name.
    pub name: String,
    /// What `AssumeRole` has to bring, if set.
    pub external_id: Option<String>,
    /// Accounts whose identities its trust policy admits.
    pub trusts: Vec<String>,
}

/// An organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimOrganization {
    /// Accounts that may list it: the management account's and delegated administrators'.
    pub readers: Vec<String>,
    /// State of each account: `ACTIVE`, `SUSPENDED`, …
    pub accounts: BTreeMap<String, String>,
}

/// Everything that a simulator is started with.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// The same seed gives the same fleet, ids and random faults.
    pub seed: u64,
    pub lanes: Vec<(SimLane, FleetConfig)>,
    /// Where `EventBridge` puts its events: every queue of a Region gets those of the Region.
    pub queues: Vec<SimQueue>,
    /// Accounts that may call STS besides those of the lanes, such as a central runner's.
    pub callers: Vec<String>,
    /// What `AssumeRole` has to bring, if set, in accounts that aren't in `roles`.
    pub external_id: Option<String>,
    /// By account. In those that aren't here, any role can be assumed by anybody.
    pub roles: BTreeMap<String, SimRole>,
    pub organization: SimOrganization,
    pub quotas: Quotas,
    /// Whether the hub keeps each finding's JSON. Without it, memory stays small, but rewritten
    /// history isn't noticed and `GetFindings` is refused.
    pub keep_json: bool,
    pub clock: Clock,
    /// TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
}

impl SimulatorConfig {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            lanes: Vec::new(),
            queues: Vec::new(),
            callers: Vec::new(),
            external_id: None,
            roles: BTreeMap::new(),
            organization: SimOrganization::default(),
            quotas: Quotas::default(),
            keep_json: true,
            clock: system_clock(),
            port: 0,
        }
    }

    /// Says which role there is in an account.
    #[must_use]
    pub fn role(mut self, account: &str, role: SimRole) -> Self {
        self.roles.insert(account.to_string(), role);
        self
    }

    /// Adds a lane.
    #[must_use]
    pub fn lane(mut self, account: &str, region: &str, fleet: FleetConfig) -> Self {
        self.lanes.push((SimLane::new(account, region), fleet));
        self
    }

    /// Adds a queue for a Region's events.
    #[must_use]
    pub fn queue(mut self, account: &str, region: &str, name: &str) -> Self {
        self.queues.push(SimQueue::new(account, region, name));
        self
    }
}

const LONG_TERM_KEY_PREFIX: &str = "AKIA";
const SESSION_KEY_PREFIX: &str = "ASIA";
const KEY_SUFFIX: &str = "SIM0";

/// The secret of every simulated access key. Signatures aren't checked.
pub const SECRET_ACCESS_KEY: &str = "simulated-secret-that-opens-nothing";

/// The access key id with which a client is `account`.
pub fn access_key_id(account: &str) -> String {
    format!("{LONG_TERM_KEY_PREFIX}{account}{KEY_SUFFIX}")
}

/// The access key id of a session in `account`, as `AssumeRole` hands it out.
pub(super) fn session_key_id(account: &str) -> String {
    format!("{SESSION_KEY_PREFIX}{account}{KEY_SUFFIX}")
}

/// The account of an access key id of ours, and whether it is a session's.
pub(super) fn account_of_key(key_id: &str) -> Option<(&str, bool)> {
    let body = key_id.strip_suffix(KEY_SUFFIX)?;
    let (account, is_session) = match body.strip_prefix(LONG_TERM_KEY_PREFIX) {
        Some(account) => (account, false),
        None => (body.strip_prefix(SESSION_KEY_PREFIX)?, true),
    };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_account.then_some((account, is_session))
}
