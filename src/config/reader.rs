//! Settings of all layers become one checked configuration.
//!
//! Guarantees: every key is taken exactly once, through its rule; a problem doesn't end the
//! reading, so that the next ones are found too.
//!
//! Deliberately doesn't know: files, processes, and where the state directory falls back to.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use super::{
    COMPANY_NAME_DEFAULT, Config, DeliverConfig, DiscoveryConfig, FindingConfig, HttpConfig,
    IngestConfig, LogConfig, PRODUCT_NAME_DEFAULT, ReconcileConfig, ShardConfig, StoreConfig,
    UnspecifiedSeverity, discovery,
    error::{Fault, Origin, Problem, hint},
    file::{ListEntry, Setting, Settings},
    keys::{self, Key, VARIABLE_PREFIX},
    lanes, queues,
    rules::{Raw, Rule},
    show::Shown,
};
use crate::{
    failpoint,
    record::{HybridAs, Severity, Shard, Text},
};

/// Takes settings one by one, notes what is wrong with them, and goes on with the default.
pub(super) struct Reader {
    settings: Settings,
    pub problems: Vec<Problem>,
    shown: Vec<Shown>,
}

impl Reader {
    pub fn new(settings: Settings, problems: Vec<Problem>) -> Self {
        Self { settings, problems, shown: Vec::new() }
    }

    pub fn add_environment(&mut self, environment: &BTreeMap<String, OsString>) {
        for (name, value) in environment {
            if name.starts_with(VARIABLE_PREFIX)
                && name != keys::FILE_VARIABLE
                && !failpoint::owns_variable(name)
                && let Err(fault) = self.add_variable(name, value)
            {
                self.problems.push(Problem { origin: Origin::Variable(name.clone()), fault });
            }
        }
    }

    fn add_variable(&mut self, name: &str, value: &OsString) -> Result<(), Fault> {
        if name == "PATCHFERRY_LANES" || name.starts_with("PATCHFERRY_LANES__") {
            let advice = "can only be given in the file, as `[[lanes]]`";
            return Err(Fault::Shape { key: "lanes".into(), advice });
        }
        if name == "PATCHFERRY_SQS" || name.starts_with("PATCHFERRY_SQS__") {
            let advice = "can only be given in the file, as `[[sqs]]`";
            return Err(Fault::Shape { key: "sqs".into(), advice });
        }
        let Some(path) = keys::paths().find(|path| keys::variable_of(path) == name) else {
            let valid: Vec<String> = keys::paths()
                .map(keys::variable_of)
                .chain([keys::FILE_VARIABLE.to_string()])
                .collect();
            return Err(Fault::UnknownVariable {
                hint: hint(name, valid.iter().map(String::as_str)),
            });
        };
        let text = value.to_str().ok_or(Fault::NotUtf8)?.to_string();
        let setting = Setting { raw: Raw::Words(text), origin: Origin::Variable(name.into()) };
        self.settings.insert(path.to_string(), setting);
        Ok(())
    }

    pub(super) fn take<R: Rule>(&mut self, key: &Key<R>) -> R::Value {
        let (value, origin) = match self.settings.remove(key.path) {
            None => ((key.default)(), Origin::Default),
            Some(setting) => match key.rule.read(key.path, &setting.raw) {
                Ok(value) => (value, setting.origin),
                Err(fault) => {
                    self.problems.push(Problem { origin: setting.origin, fault });
                    ((key.default)(), Origin::Default)
                }
            },
        };
        let hidden = key.rule.is_hidden() && origin != Origin::Default;
        self.shown.push(Shown { path: key.path, toml: key.rule.write(&value), hidden, origin });
        value
    }

    /// The origin of the key that was taken last.
    pub(super) fn last_origin(&self) -> Origin {
        self.shown.last().map_or(Origin::Default, |shown| shown.origin.clone())
    }

    pub fn read_all(&mut self, lanes: Option<&[ListEntry]>, queues: &[ListEntry]) -> Config {
        let state_dir = self.take(&keys::STATE_DIR).unwrap_or_default();
        let state_dir_origin = self.last_origin();
        let mut config = Config {
            state_dir,
            state_dir_origin,
            ingest: self.read_ingest(),
            finding: self.read_finding(),
            deliver: DeliverConfig {
                requests_per_second: self.take(&keys::REQUESTS_PER_SECOND),
                burst_requests: self.take(&keys::BURST),
                max_in_flight_requests: self.take(&keys::MAX_IN_FLIGHT),
                probe_interval: self.take(&keys::PROBE_INTERVAL),
            },
            reconcile: ReconcileConfig {
                interval: self.take(&keys::RECONCILE_INTERVAL),
                repair: self.take(&keys::RECONCILE_REPAIR),
            },
            store: StoreConfig {
                max_bytes: self.take(&keys::MAX_BYTES),
                min_free_bytes: self.take(&keys::MIN_FREE_BYTES),
                receipts_kept: self.take(&keys::RECEIPTS_KEPT),
            },
            http: HttpConfig {
                listen: self.take(&keys::LISTEN),
                allowed_hosts: self.take(&keys::ALLOWED_HOSTS),
            },
            shard: self.read_shard(),
            log: LogConfig { format: self.take(&keys::FORMAT), level: self.take(&keys::LEVEL) },
            lanes: lanes.map(|entries| lanes::read(entries, &mut self.problems)),
            discovery: None,
            queues: Vec::new(),
            file: None,
            shown: Vec::new(),
        };
        config.discovery = discovery::read(self, config.lanes.as_deref().unwrap_or_default());
        let first = config.lanes.iter().flatten().next().map(|first| first.lane.partition());
        let partition = first.or(config.discovery.as_ref().map(DiscoveryConfig::partition));
        config.queues = queues::read(queues, partition, &mut self.problems);
        config.shown = std::mem::take(&mut self.shown);
        self.check_product_arn(&config);
        config
    }

    fn read_ingest(&mut self) -> IngestConfig {
        let poll_interval = self.take(&keys::POLL_INTERVAL);
        let fed_poll_interval = match self.last_origin() {
            Origin::Default => keys::FED_POLL_INTERVAL_DEFAULT,
            _ => poll_interval,
        };
        IngestConfig {
            poll_interval,
            fed_poll_interval,
            ssm_requests_per_second: self.take(&keys::SSM_REQUESTS_PER_SECOND),
            patch_details: self.take(&keys::PATCH_DETAILS),
            cloud_control: self.take(&keys::CLOUD_CONTROL),
            associations: self.take(&keys::ASSOCIATIONS),
        }
    }

    fn read_shard(&mut self) -> ShardConfig {
        let index = self.take(&keys::SHARD_INDEX);
        let origin = self.last_origin();
        let count = self.take(&keys::SHARD_COUNT);
        let shard = Shard::try_new(index, count).unwrap_or_else(|wrong| {
            let fault =
                Fault::Invalid { key: keys::SHARD_INDEX.path.into(), reason: wrong.to_string() };
            self.problems.push(Problem { origin, fault });
            Shard::WHOLE
        });
        ShardConfig { shard, lease: self.take(&keys::LEASE) }
    }

    fn read_finding(&mut self) -> FindingConfig {
        let mut finding = FindingConfig {
            identity: self.take(&keys::IDENTITY),
            resolve: self.take(&keys::RESOLVE),
            unspecified_severity: self.take(&keys::UNSPECIFIED_SEVERITY),
            hybrid_as: HybridAs::Other,
            product_name: None,
            company_name: None,
            product_arn: None,
            refresh_after: Duration::ZERO,
            gone_after: Duration::ZERO,
        };
        if finding.is_aws_parity() && self.last_origin() == Origin::Default {
            finding.unspecified_severity = UnspecifiedSeverity::Fixed(Severity::Informational);
            if let Some(shown) = self.shown.last_mut() {
                shown.toml = keys::UNSPECIFIED_SEVERITY.rule.write(&finding.unspecified_severity);
            }
        }
        let unless = |default: &str, value: Option<Text<128>>| {
            value.filter(|value| value.as_str() != default)
        };
        finding.hybrid_as = self.take(&keys::HYBRID_AS);
        finding.product_name = unless(PRODUCT_NAME_DEFAULT, self.take(&keys::PRODUCT_NAME));
        finding.company_name = unless(COMPANY_NAME_DEFAULT, self.take(&keys::COMPANY_NAME));
        finding.product_arn = self.take(&keys::PRODUCT_ARN);
        finding.refresh_after = self.take(&keys::REFRESH_AFTER);
        finding.gone_after = self.take(&keys::GONE_AFTER);
        finding
    }

    /// Security Hub takes only products of the endpoint's own Region.
    fn check_product_arn(&mut self, config: &Config) {
        let Some(arn) = &config.finding.product_arn else { return };
        let region = arn.as_str().split(':').nth(3).unwrap_or_default();
        let foreign =
            config.lanes.iter().flatten().find(|config| config.lane.region.as_str() != region);
        if let Some(foreign) = foreign {
            let key = keys::PRODUCT_ARN.path;
            let shown = config.shown.iter().find(|shown| shown.path == key);
            let reason = format!(
                "is a product of {region}, which lane {} isn't in: Security Hub takes only \
                 products of the lane's own Region",
                foreign.lane
            );
            self.problems.push(Problem {
                origin: shown.map_or(Origin::Default, |shown| shown.origin.clone()),
                fault: Fault::Invalid { key: key.into(), reason },
            });
        }
    }
}
