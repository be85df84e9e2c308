//! The configuration: defaults, then the file, then the environment, then the command line.
//!
//! Guarantees: a [`Config`] is checked throughout: every value lies within its limits, every lane
//! is a valid one and no lane is there twice, so nothing behind it checks again. What is wrong is
//! reported all at once, each with its place, its key and the nearest thing that would be right.
//! Whatever is sensitive has no `Debug` or text form that shows it.
//!
//! Deliberately doesn't know: AWS's own settings (profile, endpoint, proxy: the SDK reads these),
//! and whether the lanes can be reached.
//!
//! [`keys`] lists every key; [`rules`] says how each kind of value is read.

mod discovery;
mod error;
mod file;
mod keys;
mod lanes;
mod queues;
mod reader;
mod roles;
mod rules;
mod show;
mod state_dir;
mod units;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use discovery::DiscoveryConfig;
pub use error::{ConfigError, Fault, Origin, Problem};
pub use keys::{COMPANY_NAME_DEFAULT, PRODUCT_NAME_DEFAULT};
pub use lanes::{LANES_MAX, LaneConfig};
pub use queues::{QUEUES_MAX, QueueConfig};
pub use roles::{ExternalId, Role, RoleTemplate};

use crate::record::{HybridAs, Region, Severity, Shard, Text};
use file::{FileContent, Settings};
use reader::Reader;
use show::Shown;

/// Read if there, unless another file is named.
pub const FILE_DEFAULT: &str = "/etc/patchferry/patchferry.toml";

/// 2,000 lanes with roles are about 400 KB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration in effect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Absolute.
    pub state_dir: PathBuf,
    pub ingest: IngestConfig,
    pub finding: FindingConfig,
    pub deliver: DeliverConfig,
    pub reconcile: ReconcileConfig,
    pub store: StoreConfig,
    pub http: HttpConfig,
    pub shard: ShardConfig,
    pub log: LogConfig,
    /// `None`: one lane, the caller's own account and Region, unless there is discovery. Never an
    /// empty list.
    pub lanes: Option<Vec<LaneConfig>>,
    /// Lanes of the organization's accounts, beside those above.
    pub discovery: Option<DiscoveryConfig>,
    /// Where events come from; empty: from nowhere.
    pub queues: Vec<QueueConfig>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    state_dir_origin: Origin,
    shown: Vec<Shown>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct IngestConfig {
    pub poll_interval: Duration,
    /// Of lanes whose Region has a queue.
    pub fed_poll_interval: Duration,
    pub ssm_requests_per_second: f64,
    pub patch_details: bool,
    /// Whether Cloud Control is asked about EC2 nodes that SSM no longer lists.
    pub cloud_control: bool,
    pub associations: bool,
}

/// How a node's state becomes a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingConfig {
    pub identity: Identity,
    pub resolve: bool,
    pub unspecified_severity: UnspecifiedSeverity,
    pub hybrid_as: HybridAs,
    /// `None`: [`PRODUCT_NAME_DEFAULT`], said or not.
    pub product_name: Option<Text<128>>,
    /// `None`: [`COMPANY_NAME_DEFAULT`], said or not.
    pub company_name: Option<Text<128>>,
    /// `None`: the lane's default product.
    pub product_arn: Option<Text<2048>>,
    pub refresh_after: Duration,
    pub gone_after: Duration,
}

impl FindingConfig {
    /// AWS's own integration is to be mimicked entirely.
    #[must_use]
    pub fn is_aws_parity(&self) -> bool {
        self.identity == Identity::Operation && !self.resolve
    }
}

/// What makes two reports the same finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The node.
    Node,
    /// The run that reported it: AWS's way.
    Operation,
}

/// Severity where the patch baseline gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnspecifiedSeverity {
    /// Any critical patch missing: HIGH; any security patch: MEDIUM; else LOW.
    Counts,
    Fixed(Severity),
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeliverConfig {
    pub requests_per_second: f64,
    pub burst_requests: u32,
    pub max_in_flight_requests: u32,
    pub probe_interval: Duration,
}

/// How hubs are compared with the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcileConfig {
    pub interval: Duration,
    pub repair: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Live bytes.
    pub max_bytes: u64,
    pub min_free_bytes: u64,
    pub receipts_kept: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// Lower case, without port, beside the listen address and localhost.
    pub allowed_hosts: Vec<String>,
}

/// How lanes are divided among machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// Which of the machines this is.
    pub shard: Shard,
    /// How long a lane's owner may be away without the hub being read back.
    pub lease: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// Directives as `tracing_subscriber::EnvFilter` takes them.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What there is to load a configuration from.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--config`; must be there if given.
    pub config: Option<PathBuf>,
    /// `--state-dir`; relative to the working directory.
    pub state_dir: Option<PathBuf>,
    pub environment: BTreeMap<String, OsString>,
    /// Read if there and nothing else is named.
    pub default_file: Option<PathBuf>,
    pub is_root: bool,
}

impl LoadOptions {
    /// This process's environment and user.
    #[must_use]
    pub fn from_process(config: Option<PathBuf>, state_dir: Option<PathBuf>) -> Self {
        Self {
            config,
            state_dir,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            default_file: Some(FILE_DEFAULT.into()),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        let named = self.environment.get(keys::FILE_VARIABLE).filter(|value| !value.is_empty());
        self.config
            .clone()
            .or_else(|| named.map(PathBuf::from))
            .or_else(|| self.default_file.clone().filter(|path| path.exists()))
    }
}

impl Config {
    /// Reads, merges and checks everything.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        let file = options.file();
        let content = match &file {
            Some(path) => file::read(path, &read_bytes(path)?),
            None => FileContent::default(),
        };
        let mut reader = Reader::new(content.settings, content.problems);
        reader.add_environment(&options.environment);
        let mut config = reader.read_all(content.lanes.as_deref(), &content.queues);
        config.file = file;
        // A wrong key comes first: it may be the very one that names the directory.
        if !reader.problems.is_empty() {
            return Err(ConfigError::Invalid(reader.problems));
        }
        config.settle_state_dir(options)?;
        Ok(config)
    }

    /// Defaults throughout, for what runs without a file or environment (tests, the demo).
    #[must_use]
    pub fn defaults(state_dir: impl Into<PathBuf>) -> Self {
        let mut config = Reader::new(Settings::new(), Vec::new()).read_all(None, &[]);
        config.state_dir = state_dir.into();
        config
    }

    /// Time between the sweeps of a lane in `region`.
    #[must_use]
    pub fn poll_interval(&self, region: &Region) -> Duration {
        let is_fed = self.queues.iter().any(|queue| queue.region == *region);
        if is_fed { self.ingest.fed_poll_interval } else { self.ingest.poll_interval }
    }

    /// A commented file with every key and its default.
    #[must_use]
    pub fn init_text() -> &'static str {
        show::init()
    }

    /// What is in effect, as TOML, with the place where each value that isn't the default comes
    /// from. `external_id` is shown as a comment that says that it is set.
    #[must_use]
    pub fn show(&self) -> String {
        show::effective(self)
    }

    fn settle_state_dir(&mut self, options: &LoadOptions) -> Result<(), ConfigError> {
        if let Some(given) = options.state_dir.as_ref().filter(|path| !path.as_os_str().is_empty())
        {
            self.state_dir = std::path::absolute(given).map_err(|_| ConfigError::NoStateDir)?;
            self.state_dir_origin = Origin::Flag("--state-dir");
        } else if self.state_dir.as_os_str().is_empty() {
            (self.state_dir, self.state_dir_origin) =
                state_dir::fallback(options).ok_or(ConfigError::NoStateDir)?;
        }
        Ok(())
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_path_buf(),
            limit_bytes: FILE_BYTES_MAX,
        });
    }
    Ok(bytes)
}
