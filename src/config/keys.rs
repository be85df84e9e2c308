//! Every key that the configuration has: its path, what it means, its limits, its default.
//!
//! This is the one place to add a key. The commented default file, the names offered for a
//! misspelt key, the variables and `config show` all come from here.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    Identity, LogFormat, UnspecifiedSeverity,
    discovery::{ExternalIdRule, ListRule, RoleArnRule, RoleNameRule},
    rules::{
        BytesRule, ChoiceRule, CountRule, DurationRule, FlagRule, HostsRule, LevelRule, ListenRule,
        PathRule, ProductArnRule, RateRule, Rule, TextRule,
    },
};
use crate::record::{AccountId, HybridAs, Region, Severity, shard::SHARDS_MAX};

/// A key: `<section>.<name>`, or a name alone at the top.
pub(super) struct Key<R: Rule> {
    pub path: &'static str,
    /// Complete sentences, one line each, below 96 characters.
    pub help: &'static [&'static str],
    pub rule: R,
    pub default: fn() -> R::Value,
    /// Shown where the default is "not set".
    pub example: &'static str,
}

/// What can be said of any key, whatever its type.
pub(super) trait AnyKey: Sync {
    fn path(&self) -> &'static str;
    fn help(&self) -> &'static [&'static str];
    /// The default as TOML, or an example of a value if it isn't set by default.
    fn sample_toml(&self) -> String;
}

impl<R: Rule + Sync> AnyKey for Key<R> {
    fn path(&self) -> &'static str {
        self.path
    }
    fn help(&self) -> &'static [&'static str] {
        self.help
    }
    fn sample_toml(&self) -> String {
        self.rule.write(&(self.default)()).unwrap_or_else(|| self.example.to_string())
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// `ProductName` if the key isn't set: AWS's own, so that the filters people use keep working.
pub const PRODUCT_NAME_DEFAULT: &str = "Systems Manager Patch Manager";
/// `CompanyName` if the key isn't set.
pub const COMPANY_NAME_DEFAULT: &str = "patchferry";

/// `ingest.poll_interval`, if it isn't set, of lanes that events tell of: a sweep there only finds
/// what events have missed.
pub(super) const FED_POLL_INTERVAL_DEFAULT: Duration = seconds(30 * MINUTE);

pub(super) const STATE_DIR: Key<PathRule> = Key {
    path: "state_dir",
    help: &[
        "Where everything is kept that must survive: queues, ledger, receipts, dead letters.",
        "Also --state-dir. Not set: $STATE_DIRECTORY (systemd), $XDG_STATE_HOME/patchferry,",
        "/var/lib/patchferry (root) or ~/.local/state/patchferry, the first that there is.",
    ],
    rule: PathRule,
    default: || None,
    example: "\"/var/lib/patchferry\"",
};

pub(super) const POLL_INTERVAL: Key<DurationRule> = Key {
    path: "ingest.poll_interval",
    help: &[
        "Time from the end of one sweep of a lane to the start of its next (1s to 1d). Not set: 30m",
        "for lanes whose Region has a queue under [[sqs]].",
    ],
    rule: DurationRule(seconds(1)..=seconds(DAY)),
    default: || seconds(5 * MINUTE),
    example: "",
};
pub(super) const SSM_REQUESTS_PER_SECOND: Key<RateRule> = Key {
    path: "ingest.ssm_requests_per_second",
    help: &[
        "Requests to Systems Manager per lane (0.1 to 100). AWS publishes no quota for these;",
        "a throttled lane slows down by itself.",
    ],
    rule: RateRule(0.1..=100.0),
    default: || 2.0,
    example: "",
};
pub(super) const PATCH_DETAILS: Key<FlagRule> = Key {
    path: "ingest.patch_details",
    help: &[
        "Read which patches are missing on non-compliant nodes: one more request per 50 patches.",
    ],
    rule: FlagRule,
    default: || true,
    example: "",
};

pub(super) const CLOUD_CONTROL: Key<FlagRule> = Key {
    path: "ingest.cloud_control",
    help: &[
        "Ask AWS Cloud Control whether EC2 nodes that Systems Manager no longer lists still exist.",
        "Needs cloudformation:GetResource and ec2:DescribeInstances. Without: finding.gone_after.",
    ],
    rule: FlagRule,
    default: || true,
    example: "",
};

pub(super) const ASSOCIATIONS: Key<FlagRule> = Key {
    path: "ingest.associations",
    help: &[
        "Tell what scans by associations of AWS-RunPatchBaselineAssociation have found, too: one",
        "more request per sweep, and where there are such associations one per 50 nodes.",
    ],
    rule: FlagRule,
    default: || true,
    example: "",
};

pub(super) const IDENTITY: Key<ChoiceRule<Identity>> = Key {
    path: "finding.identity",
    help: &[
        "\"node\": one finding per node, updated and resolved in place.",
        "\"operation\": a new finding for every run, as AWS's own integration does.",
    ],
    rule: ChoiceRule(&[("node", Identity::Node), ("operation", Identity::Operation)]),
    default: || Identity::Node,
    example: "",
};
pub(super) const RESOLVE: Key<FlagRule> = Key {
    path: "finding.resolve",
    help: &["Resolve a finding when its node becomes compliant or is gone."],
    rule: FlagRule,
    default: || true,
    example: "",
};
pub(super) const UNSPECIFIED_SEVERITY: Key<ChoiceRule<UnspecifiedSeverity>> = Key {
    path: "finding.unspecified_severity",
    help: &[
        "Severity where the patch baseline gives none. \"counts\": HIGH if a critical patch is",
        "missing, MEDIUM if a security patch is, else LOW. Or one of CRITICAL, HIGH, MEDIUM, LOW,",
        "INFORMATIONAL. With identity = \"operation\" and resolve = false the default is",
        "INFORMATIONAL, as AWS's own integration does.",
    ],
    rule: ChoiceRule(&[
        ("counts", UnspecifiedSeverity::Counts),
        ("CRITICAL", UnspecifiedSeverity::Fixed(Severity::Critical)),
        ("HIGH", UnspecifiedSeverity::Fixed(Severity::High)),
        ("MEDIUM", UnspecifiedSeverity::Fixed(Severity::Medium)),
        ("LOW", UnspecifiedSeverity::Fixed(Severity::Low)),
        ("INFORMATIONAL", UnspecifiedSeverity::Fixed(Severity::Informational)),
    ]),
    default: || UnspecifiedSeverity::Counts,
    example: "",
};
pub(super) const HYBRID_AS: Key<ChoiceRule<HybridAs>> = Key {
    path: "finding.hybrid_as",
    help: &[
        "Resource type of hybrid nodes: \"Other\", or \"AwsEc2Instance\" as AWS's own integration",
        "reports them.",
    ],
    rule: ChoiceRule(&[("Other", HybridAs::Other), ("AwsEc2Instance", HybridAs::AwsEc2Instance)]),
    default: || HybridAs::Other,
    example: "",
};
pub(super) const PRODUCT_NAME: Key<TextRule<128>> = Key {
    path: "finding.product_name",
    help: &["ProductName of the findings (1 to 128 characters)."],
    rule: TextRule,
    default: || Some(PRODUCT_NAME_DEFAULT.into()),
    example: "",
};
pub(super) const COMPANY_NAME: Key<TextRule<128>> = Key {
    path: "finding.company_name",
    help: &["CompanyName of the findings (1 to 128 characters)."],
    rule: TextRule,
    default: || Some(COMPANY_NAME_DEFAULT.into()),
    example: "",
};
pub(super) const PRODUCT_ARN: Key<ProductArnRule> = Key {
    path: "finding.product_arn",
    help: &[
        "ProductArn of the findings. Not set: the default product of each lane's own account and",
        "Region. Security Hub takes only a product of the lane's own Region.",
    ],
    rule: ProductArnRule,
    default: || None,
    example: "\"arn:aws:securityhub:us-east-1:111122223333:product/111122223333/default\"",
};
pub(super) const REFRESH_AFTER: Key<DurationRule> = Key {
    path: "finding.refresh_after",
    help: &[
        "An open finding is sent again, unchanged, after this time (1m to 80d): Security Hub",
        "deletes active findings that weren't updated for 90 days.",
    ],
    rule: DurationRule(seconds(MINUTE)..=seconds(80 * DAY)),
    default: || seconds(7 * DAY),
    example: "",
};

pub(super) const GONE_AFTER: Key<DurationRule> = Key {
    path: "finding.gone_after",
    help: &[
        "A node that Systems Manager no longer lists, and that nobody can say more about, is gone",
        "after this time (1d to 80d): its finding is resolved.",
    ],
    rule: DurationRule(seconds(DAY)..=seconds(80 * DAY)),
    default: || seconds(30 * DAY),
    example: "",
};

pub(super) const REQUESTS_PER_SECOND: Key<RateRule> = Key {
    path: "deliver.requests_per_second",
    help: &[
        "BatchImportFindings quota of each lane (0.2 to 1000): AWS's default is 10, with a burst",
        "of 30. A smaller quota that is shared with others is found by itself.",
    ],
    rule: RateRule(0.2..=1000.0),
    default: || 10.0,
    example: "",
};
pub(super) const BURST: Key<CountRule> = Key {
    path: "deliver.burst",
    help: &["Requests that may go out at once after a pause (1 to 1000)."],
    rule: CountRule(1..=1000),
    default: || 30,
    example: "",
};
pub(super) const MAX_IN_FLIGHT: Key<CountRule> = Key {
    path: "deliver.max_in_flight",
    help: &["Requests of a lane that may wait for their answer at a time (1 to 64)."],
    rule: CountRule(1..=64),
    default: || 8,
    example: "",
};
pub(super) const PROBE_INTERVAL: Key<DurationRule> = Key {
    path: "deliver.probe_interval",
    help: &[
        "How often a held lane tries whether it can send again, and a queue that can't be read whether",
        "it can (1s to 10m).",
    ],
    rule: DurationRule(seconds(1)..=seconds(10 * MINUTE)),
    default: || seconds(60),
    example: "",
};

pub(super) const RECONCILE_INTERVAL: Key<DurationRule> = Key {
    path: "reconcile.interval",
    help: &[
        "How often each lane's hub is compared with the ledger, and looked through for findings",
        "that somebody has resolved although a newer scan still finds them (1h to 30d).",
    ],
    rule: DurationRule(seconds(HOUR)..=seconds(30 * DAY)),
    default: || seconds(DAY),
    example: "",
};
pub(super) const RECONCILE_REPAIR: Key<FlagRule> = Key {
    path: "reconcile.repair",
    help: &["Repair the differences that this finds, rather than only count and log them."],
    rule: FlagRule,
    default: || true,
    example: "",
};

pub(super) const MAX_BYTES: Key<BytesRule> = Key {
    path: "store.max_bytes",
    help: &[
        "Live bytes in the store (1MiB to 1TiB). When they are reached, ingest pauses and delivery",
        "goes on; nothing is dropped.",
    ],
    rule: BytesRule(MIB..=TIB),
    default: || 4 * GIB,
    example: "",
};
pub(super) const MIN_FREE_BYTES: Key<BytesRule> = Key {
    path: "store.min_free_bytes",
    help: &["Ingest pauses while the file system has less than this free (1MiB to 1TiB)."],
    rule: BytesRule(MIB..=TIB),
    default: || 256 * MIB,
    example: "",
};
pub(super) const RECEIPTS_KEPT: Key<DurationRule> = Key {
    path: "store.receipts_kept",
    help: &["How long the proof of a delivery is kept (1d to 3650d)."],
    rule: DurationRule(seconds(DAY)..=seconds(3650 * DAY)),
    default: || seconds(400 * DAY),
    example: "",
};

pub(super) const LISTEN: Key<ListenRule> = Key {
    path: "http.listen",
    help: &[
        "Where metrics, health and the status page are served: read-only, without a password, so",
        "think before listening on more than the machine itself. Port 0: any free one.",
    ],
    rule: ListenRule,
    default: || SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464),
    example: "",
};
pub(super) const ALLOWED_HOSTS: Key<HostsRule> = Key {
    path: "http.allowed_hosts",
    help: &[
        "Further names, without port, that the server may be asked for: those that Prometheus or a",
        "proxy use. The listen address and localhost always are.",
    ],
    rule: HostsRule,
    default: Vec::new,
    example: "",
};

pub(super) const SHARD_INDEX: Key<CountRule> = Key {
    path: "shard.index",
    help: &["Number of this machine, from 0, where several divide the lanes among them."],
    rule: CountRule(0..=SHARDS_MAX - 1),
    default: || 0,
    example: "",
};
pub(super) const SHARD_COUNT: Key<CountRule> = Key {
    path: "shard.count",
    help: &[
        "Machines that divide the lanes among them (1 to 256). All of them have the same lanes in",
        "their files; each serves its own.",
    ],
    rule: CountRule(1..=SHARDS_MAX),
    default: || 1,
    example: "",
};

pub(super) const LEASE: Key<DurationRule> = Key {
    path: "shard.lease",
    help: &[
        "Where nobody looked after a lane for longer than this (0s to 1d), another machine may have,",
        "or this one was set back: its hub is read back before anything is sent. With shard.count",
        "above 1 every start reads back.",
    ],
    rule: DurationRule(Duration::ZERO..=seconds(DAY)),
    default: || seconds(5 * MINUTE),
    example: "",
};

pub(super) const FORMAT: Key<ChoiceRule<LogFormat>> = Key {
    path: "log.format",
    help: &["\"text\" for people, \"json\" for machines."],
    rule: ChoiceRule(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    default: || LogFormat::Text,
    example: "",
};
pub(super) const LEVEL: Key<LevelRule> = Key {
    path: "log.level",
    help: &[
        "off, error, warn, info, debug or trace; or per target: \"info,aws_config=debug\".",
        "Libraries are told at debug at most: at trace the AWS SDK's hold secrets.",
    ],
    rule: LevelRule,
    default: || "info".to_string(),
    example: "",
};

pub(super) const ORGANIZATION: Key<FlagRule> = Key {
    path: "discovery.organization",
    help: &[
        "Serve every active account of the AWS organization, in these Regions, beside lanes below.",
        "The daemon's identity, or list_role_arn, must be the management account's or a delegated",
        "administrator's. Accounts that appear get lanes; those that vanish become orphaned.",
    ],
    rule: FlagRule,
    default: || false,
    example: "",
};
pub(super) const DISCOVERY_REGIONS: Key<ListRule<Region>> = Key {
    path: "discovery.regions",
    help: &["Regions to serve in each account."],
    rule: ListRule::new("a list of Regions such as [\"us-east-1\"]"),
    default: Vec::new,
    example: "",
};
pub(super) const DISCOVERY_ROLE_NAME: Key<RoleNameRule> = Key {
    path: "discovery.role_name",
    help: &["The role to assume in each account: its name, perhaps behind a path."],
    rule: RoleNameRule,
    default: || None,
    example: "\"patchferry\"",
};
pub(super) const DISCOVERY_EXTERNAL_ID: Key<ExternalIdRule> = Key {
    path: "discovery.external_id",
    help: &["What these roles' trust policies ask for, if they do."],
    rule: ExternalIdRule,
    default: || None,
    example: "\"as-agreed\"",
};
pub(super) const LIST_ROLE_ARN: Key<RoleArnRule> = Key {
    path: "discovery.list_role_arn",
    help: &["The role to list the accounts with. Not set: the daemon's own identity."],
    rule: RoleArnRule,
    default: || None,
    example: "\"arn:aws:iam::111122223333:role/list-accounts\"",
};
pub(super) const INCLUDE: Key<ListRule<AccountId>> = Key {
    path: "discovery.include",
    help: &["Only these accounts. Empty: all."],
    rule: ListRule::new("a list of account ids such as [\"111122223333\"]"),
    default: Vec::new,
    example: "",
};
pub(super) const EXCLUDE: Key<ListRule<AccountId>> = Key {
    path: "discovery.exclude",
    help: &["Never these accounts."],
    rule: ListRule::new("a list of account ids such as [\"111122223333\"]"),
    default: Vec::new,
    example: "",
};
pub(super) const DISCOVERY_INTERVAL: Key<DurationRule> = Key {
    path: "discovery.interval",
    help: &["How often the accounts are listed (1s to 1d)."],
    rule: DurationRule(seconds(1)..=seconds(DAY)),
    default: || seconds(HOUR),
    example: "",
};

/// Every key, in the order of the file.
pub(super) const ALL: [&dyn AnyKey; 39] = [
    &STATE_DIR,
    &POLL_INTERVAL,
    &SSM_REQUESTS_PER_SECOND,
    &PATCH_DETAILS,
    &CLOUD_CONTROL,
    &ASSOCIATIONS,
    &IDENTITY,
    &RESOLVE,
    &UNSPECIFIED_SEVERITY,
    &HYBRID_AS,
    &PRODUCT_NAME,
    &COMPANY_NAME,
    &PRODUCT_ARN,
    &REFRESH_AFTER,
    &GONE_AFTER,
    &REQUESTS_PER_SECOND,
    &BURST,
    &MAX_IN_FLIGHT,
    &PROBE_INTERVAL,
    &RECONCILE_INTERVAL,
    &RECONCILE_REPAIR,
    &MAX_BYTES,
    &MIN_FREE_BYTES,
    &RECEIPTS_KEPT,
    &LISTEN,
    &ALLOWED_HOSTS,
    &SHARD_INDEX,
    &SHARD_COUNT,
    &LEASE,
    &FORMAT,
    &LEVEL,
    &ORGANIZATION,
    &DISCOVERY_REGIONS,
    &DISCOVERY_ROLE_NAME,
    &DISCOVERY_EXTERNAL_ID,
    &LIST_ROLE_ARN,
    &INCLUDE,
    &EXCLUDE,
    &DISCOVERY_INTERVAL,
];

pub(super) const SECTIONS: [&str; 9] =
    ["ingest", "finding", "deliver", "reconcile", "store", "http", "shard", "log", "discovery"];

pub(super) fn paths() -> impl Iterator<Item = &'static str> + Clone {
    ALL.iter().map(|key| key.path())
}

/// The part before the dot; empty at the top.
pub(super) fn section_of(path: &str) -> &str {
    path.split_once('.').map_or("", |(section, _)| section)
}

/// `ingest.poll_interval` is overridden by `PATCHFERRY_INGEST__POLL_INTERVAL`.
pub(super) fn variable_of(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

pub(super) const VARIABLE_PREFIX: &str = "PATCHFERRY_";
/// Names the file; not a key.
pub(super) const FILE_VARIABLE: &str = "PATCHFERRY_CONFIG";
