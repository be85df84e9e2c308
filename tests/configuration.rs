//! What an operator writes is taken as meant, or refused with the place and the remedy.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod queues;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use patchferry::{
    config::{Config, ConfigError, Identity, LoadOptions, LogFormat, UnspecifiedSeverity},
    record::Severity,
};
use proptest::prelude::*;

struct Setup {
    dir: tempfile::TempDir,
    options: LoadOptions,
}

impl Setup {
    fn new(file: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("patchferry.toml");
        std::fs::write(&path, file).unwrap();
        let options = LoadOptions {
            config: Some(path),
            environment: BTreeMap::from([("HOME".into(), "/home/op".into())]),
            ..LoadOptions::default()
        };
        Self { dir, options }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.options.environment.insert(name.into(), value.into());
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.options)
    }

    /// The message, with the file's directory taken out.
    fn error(&self) -> String {
        let error = self.load().expect_err("this configuration is wrong").to_string();
        error.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn load(file: &str) -> Config {
    Setup::new(file.as_bytes()).load().unwrap()
}

fn error(file: &str) -> String {
    Setup::new(file.as_bytes()).error()
}

/// Without the lines that name the file, which differ between two loads.
fn shown(config: &Config) -> String {
    config.show().lines().filter(|line| !line.starts_with("# file")).collect::<Vec<_>>().join("\n")
}

/// The default file with every key's `#` taken away.
fn uncommented() -> String {
    let is_key = |line: &str| {
        line.strip_prefix("# ").is_some_and(|rest| {
            rest.split_once(" = ").is_some_and(|(name, value)| {
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !value.contains('…')
            })
        })
    };
    Config::init_text()
        .lines()
        .take_while(|line| !line.contains("[[lanes]]"))
        .map(|line| if is_key(line) { &line[2..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_commented_default_file_means_the_defaults() {
    let empty = load("");
    assert_eq!(shown(&load(Config::init_text())), shown(&empty));
    assert_eq!(empty.ingest.poll_interval, Duration::from_secs(300));
    assert_eq!(empty.store.max_bytes, 4 << 30);
    assert!(empty.lanes.is_none());
}

#[test]
fn the_default_file_without_its_comment_marks_means_the_defaults_too() {
    let config = load(&uncommented());
    let empty = load("");
    // Where the interval is set, it is that of Regions with a queue, too.
    let fed_poll_interval = empty.ingest.fed_poll_interval;
    let ingest = patchferry::config::IngestConfig { fed_poll_interval, ..config.ingest };
    assert_eq!(ingest, empty.ingest);
    assert_eq!(config.deliver, empty.deliver);
    assert_eq!(config.store, empty.store);
    assert_eq!(config.http, empty.http);
    assert_eq!(config.log, empty.log);
    let arn = config.finding.product_arn.clone().expect("the sample sets it");
    assert!(arn.as_str().starts_with("arn:aws:securityhub:"));
    let finding = patchferry::config::FindingConfig { product_arn: None, ..config.finding };
    assert_eq!(finding, empty.finding);
}

#[test]
fn every_key_of_the_default_file_is_shown_as_in_effect() {
    let show = load("").show();
    let sample = uncommented();
    let keys: Vec<&str> = sample
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    assert_eq!(keys.len(), 39);
    for key in keys {
        assert!(
            show.contains(&format!("{key} = ")) || show.contains(&format!("# {key} is not set")),
            "{key}"
        );
    }
}

#[test]
fn what_is_shown_is_a_configuration_that_means_the_same() {
    let config = load(
        "finding.identity = \"operation\"\ndeliver.requests_per_second = 2.5\n\
         http.allowed_hosts = [\"Patch.Example\"]\nstate_dir = \"/srv/\\\"quoted\\\"\"",
    );
    let again = load(&config.show());
    assert_eq!(again.state_dir, config.state_dir);
    assert_eq!(again.finding, config.finding);
    assert_eq!(again.deliver, config.deliver);
    assert_eq!(again.http.allowed_hosts, ["patch.example"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    assert_eq!(
        error("[ingest]\n\npol_interval = \"5m\"\n"),
        "error: patchferry.toml:3: unknown key `ingest.pol_interval`; \
         did you mean `ingest.poll_interval`?"
    );
}

#[test]
fn a_key_in_the_wrong_section_is_pointed_to_the_right_one() {
    assert!(error("poll_interval = \"5m\"").contains("did you mean `ingest.poll_interval`?"));
    assert!(error("[store]\nburst = 3").contains("did you mean `deliver.burst`?"));
}

#[test]
fn a_key_like_no_other_is_answered_with_the_section_s_keys() {
    let message = error("[log]\nxyzzy = 1");
    assert!(message.contains("log.format, log.level"), "{message}");
}

#[test]
fn an_unknown_section_is_refused_with_the_nearest_one() {
    assert_eq!(
        error("\n[delivery]\nburst = 3"),
        "error: patchferry.toml:2: unknown section `[delivery]`; did you mean `deliver`?"
    );
    assert!(error("[shards]\nindex = 0").contains("unknown section `[shards]`"));
}

#[test]
fn each_kind_of_wrong_value_is_named_with_file_line_and_key() {
    for (file, expected) in [
        ("[ingest]\npoll_interval = 5", ":2: `ingest.poll_interval` must be a duration such as"),
        ("[ingest]\npoll_interval = \"5 parsecs\"", "must be a duration such as"),
        (
            "[ingest]\npoll_interval = \"0s\"",
            ":2: `ingest.poll_interval` is 0ms; allowed: 1s to 1d",
        ),
        ("[ingest]\npatch_details = \"yes\"", "must be true or false, not the string \"yes\""),
        ("[ingest]\nssm_requests_per_second = 0", "is 0; allowed: 0.1 to 100"),
        ("[ingest]\nssm_requests_per_second = nan", "is NaN; allowed: 0.1 to 100"),
        ("[deliver]\nburst = 2.5", "`deliver.burst` must be a whole number, not the number 2.5"),
        ("[deliver]\nburst = -1", "`deliver.burst` is -1; allowed: 1 to 1000"),
        ("[deliver]\nburst = 99999999999999999999", "`deliver.burst` must be a whole number"),
        ("[store]\nmax_bytes = \"1KiB\"", "`store.max_bytes` is 1KiB; allowed: 1MiB to 1TiB"),
        ("[store]\nmax_bytes = true", "must be a size such as \"256MiB\", not true"),
        ("[finding]\nidentity = \"nodes\"", "did you mean \"node\"?"),
        ("[finding]\nunspecified_severity = \"high\"", "did you mean \"HIGH\"?"),
        ("[finding]\nproduct_name = \" \"", "allowed: 1 to 128 characters"),
        ("[finding]\nproduct_arn = \"arn:aws:s3:::x\"", "is not a product ARN"),
        ("[http]\nlisten = \"localhost:9464\"", "must be an IP address and a port"),
        ("[http]\nallowed_hosts = [\"a:1\"]", "is not a host name without port"),
        ("[log]\nlevel = \"inof\"", "`log.level` is \"inof\"; allowed: off, error"),
        ("[log]\nformat = 1979-05-27", "must be one of \"text\", \"json\", not a date"),
        ("state_dir = \"~/state\"", ":1: `state_dir`: \"~/state\" is not an absolute path"),
        ("ingest = 5", ":1: `ingest` is a section"),
        ("[[ingest]]\npoll_interval = \"5m\"", "`ingest` is a section"),
        ("[lanes]\naccount = \"1\"", "`lanes` is a list: write `[[lanes]]`"),
        ("lanes = []", "`lanes` is empty"),
        ("[log]\nformat = \"text\"\nformat = \"json\"", ":3: not TOML: duplicate key"),
        ("[log\n", ":1: not TOML: "),
    ] {
        let message = error(file);
        assert!(message.starts_with("error: patchferry.toml:"), "{message}");
        assert!(message.contains(expected), "{file:?} gave {message:?}");
    }
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let message = error("[log]\nlevle = \"info\"\n[deliver]\nburst = 0\n");
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn a_file_that_is_no_text_is_refused_with_the_line() {
    let setup = Setup::new(b"# fine\n# \xff\n");
    assert_eq!(setup.error(), "error: patchferry.toml:2: the value is not UTF-8 text");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let mut setup = Setup::new(b"");
    setup.options.config = Some("/nowhere/patchferry.toml".into());
    assert!(setup.error().contains("/nowhere/patchferry.toml: can't read the configuration"));
    setup.options.config = None;
    setup.options.default_file = Some("/nowhere/patchferry.toml".into());
    assert!(setup.load().unwrap().file.is_none());
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_both() {
    let mut setup = Setup::new(b"state_dir = \"/file\"\n[ingest]\npoll_interval = \"1h\"\n")
        .variable("PATCHFERRY_INGEST__POLL_INTERVAL", "1s")
        .variable("PATCHFERRY_DELIVER__BURST", "3")
        .variable("PATCHFERRY_FINDING__RESOLVE", "false")
        .variable("PATCHFERRY_HTTP__ALLOWED_HOSTS", "a.example, b.example")
        .variable("PATCHFERRY_LOG__FORMAT", "json");
    let config = setup.load().unwrap();
    assert_eq!(config.ingest.poll_interval, Duration::from_secs(1));
    assert_eq!(config.deliver.burst_requests, 3);
    assert!(!config.finding.resolve);
    assert_eq!(config.http.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.state_dir, PathBuf::from("/file"));
    assert!(config.show().contains("poll_interval = \"1s\"  # $PATCHFERRY_INGEST__POLL_INTERVAL"));

    setup = setup.variable("PATCHFERRY_STATE_DIR", "/variable");
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/variable"));
    setup.options.state_dir = Some("/flag".into());
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/flag"));
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    let misspelt = Setup::new(b"").variable("PATCHFERRY_INGEST_POLL_INTERVAL", "1s").error();
    assert_eq!(
        misspelt,
        "error: $PATCHFERRY_INGEST_POLL_INTERVAL: unknown variable; \
         did you mean `PATCHFERRY_INGEST__POLL_INTERVAL`?"
    );
    let wrong = Setup::new(b"").variable("PATCHFERRY_DELIVER__BURST", "many").error();
    assert_eq!(
        wrong,
        "error: $PATCHFERRY_DELIVER__BURST: `deliver.burst` must be a whole number, not \"many\""
    );
    let lanes = Setup::new(b"").variable("PATCHFERRY_LANES", "x").error();
    assert!(lanes.contains("can only be given in the file"), "{lanes}");
}

#[test]
fn the_state_directory_follows_systemd_then_xdg_then_the_user() {
    let mut setup = Setup::new(b"");
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/home/op/.local/state/patchferry"));
    setup.options.is_root = true;
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/var/lib/patchferry"));
    setup = setup.variable("XDG_STATE_HOME", "/xdg");
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/xdg/patchferry"));
    setup = setup.variable("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
    assert_eq!(setup.load().unwrap().state_dir, PathBuf::from("/var/lib/a"));
    setup.options.environment.clear();
    setup.options.is_root = false;
    assert!(setup.error().contains("give --state-dir"));
}

#[test]
fn aws_s_way_of_reporting_takes_aws_s_severity_unless_told_otherwise() {
    let aws = load("[finding]\nidentity = \"operation\"\nresolve = false");
    assert_eq!(aws.finding.identity, Identity::Operation);
    assert_eq!(
        aws.finding.unspecified_severity,
        UnspecifiedSeverity::Fixed(Severity::Informational)
    );
    let told = load(
        "[finding]\nidentity = \"operation\"\nresolve = false\nunspecified_severity = \"counts\"",
    );
    assert_eq!(told.finding.unspecified_severity, UnspecifiedSeverity::Counts);
}

#[test]
fn a_name_that_is_the_default_said_aloud_is_the_default() {
    let config = load("[finding]\nproduct_name = \"Systems Manager Patch Manager\"");
    assert_eq!(config.finding.product_name, None);
    assert!(load("[finding]\nproduct_name = \"Mine\"").finding.product_name.is_some());
}

#[test]
fn a_machine_has_a_number_below_their_count_and_its_own_lanes() {
    let lanes = "[[lanes]]\naccount = \"111122223333\"\n\
                 regions = [\"us-east-1\", \"us-west-2\", \"eu-west-1\", \"eu-central-1\"]\n";
    let whole = load(lanes);
    assert!(!whole.shard.shard.is_divided());
    assert_eq!(whole.shard.lease, Duration::from_secs(300));
    let owned = |index| {
        let config = load(&format!("[shard]\nindex = {index}\ncount = 2\n{lanes}"));
        let all = config.lanes.as_ref().unwrap();
        let own = all.iter().filter(|lane| config.shard.shard.owns(&lane.lane)).count();
        assert_eq!(config.show().matches("# another machine's").count(), all.len() - own);
        own
    };
    assert_eq!(owned(0) + owned(1), 4);

    let message = error("[shard]\nindex = 2\ncount = 2\n");
    assert!(message.contains(":2: `shard.index`: is 2, but must be below"), "{message}");
    let message = error("[shard]\ncount = 0\n");
    assert!(message.contains("`shard.count` is 0; allowed: 1 to 256"), "{message}");
}

const LANE: &str = "[[lanes]]\naccount = \"111122223333\"\nregions = [\"us-east-1\"]\n";

#[test]
fn lanes_are_accounts_times_regions() {
    let config = load(
        "[[lanes]]\naccount = \"111122223333\"\nregions = [\"us-east-1\", \"eu-west-1\"]\n\
         role_arn = \"arn:aws:iam::111122223333:role/patchferry\"\nexternal_id = \"s3cr3t\"\n",
    );
    let lanes = config.lanes.as_ref().unwrap();
    assert_eq!(lanes.len(), 2);
    assert_eq!(lanes[1].lane.to_string(), "111122223333/eu-west-1");
    let external_id = lanes[0].role.as_ref().unwrap().external_id.as_ref().unwrap();
    assert_eq!(external_id.expose(), "s3cr3t");
    assert!(!format!("{config:?}{}", config.show()).contains("s3cr3t"));
    assert!(config.show().contains("external_id = (set)"));
}

#[test]
fn a_role_template_makes_lanes_of_many_accounts_in_every_partition() {
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-east-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        for role in [
            "role_name = \"ops/patchferry\"".to_string(),
            format!("role_arn = \"arn:{partition}:iam::{{account}}:role/ops/patchferry\""),
        ] {
            let config = load(&format!(
                "[[lanes]]\naccounts = [\"111122223333\", \"444455556666\"]\n\
                 regions = [\"{region}\"]\n{role}\nexternal_id = \"s3cr3t\"\nhub = \"off\""
            ));
            let lanes = config.lanes.as_ref().unwrap();
            let arns: Vec<&str> =
                lanes.iter().map(|lane| lane.role.as_ref().unwrap().arn.as_str()).collect();
            let arn = |account| format!("arn:{partition}:iam::{account}:role/ops/patchferry");
            assert_eq!(arns, [arn("111122223333"), arn("444455556666")]);
            assert!(lanes.iter().all(|lane| lane.hub_off));
            assert!(!format!("{config:?}{}", config.show()).contains("s3cr3t"));
            let again = load(&config.show().replace("# external_id = (set)", ""));
            assert!(again.lanes.unwrap().iter().zip(lanes).all(|(again, lane)| {
                again.lane == lane.lane
                    && again.hub_off
                    && again.role.as_ref().unwrap().arn == lane.role.as_ref().unwrap().arn
            }));
        }
    }
    assert!(load(LANE).lanes.unwrap().iter().all(|lane| !lane.hub_off));
}

#[test]
fn an_entry_of_many_lanes_that_is_wrong_in_one_way_is_told_of_once() {
    let entry = "[[lanes]]\naccounts = [\"111122223333\", \"444455556666\"]\n\
                 regions = [\"us-east-1\", \"us-west-2\"]\nrole_name = \"patchferry\"\n";
    let message = error(&format!("{entry}{entry}"));
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains(":5: `lanes`: lane 111122223333/us-east-1 is already"), "{message}");
    assert!(message.contains("(and 3 more lanes of this entry)"), "{message}");
    let message = error(&entry.replace("us-west-2", "cn-north-1"));
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains("run one daemon for each (and 1 more"), "{message}");
}

#[test]
fn each_kind_of_wrong_lane_is_refused() {
    for (file, expected) in [
        (
            format!("{LANE}accounts = [\"444455556666\"]"),
            ":2: `lanes.account`: give either this or `lanes.accounts`",
        ),
        (
            "[[lanes]]\naccounts = []\nregions = [\"us-east-1\"]".into(),
            ":2: `lanes.accounts`: names no account",
        ),
        (
            "[[lanes]]\naccounts = \"111122223333\"\nregions = [\"us-east-1\"]".into(),
            ":2: `lanes.accounts` must be a list of account ids",
        ),
        (
            "[[lanes]]\naccounts = [111122223333]\nregions = [\"us-east-1\"]".into(),
            "must be a list of account ids such as [\"111122223333\"], not the number",
        ),
        (
            "[[lanes]]\naccounts = [\"111122223333\", \"111122223333\"]\n\
             regions = [\"us-east-1\"]"
                .into(),
            "lane 111122223333/us-east-1 is already given",
        ),
        (
            "[[lanes]]\naccounts = [\"111122223333\", \"444455556666\"]\n\
             regions = [\"us-east-1\"]\nrole_arn = \"arn:aws:iam::111122223333:role/x\""
                .into(),
            ":4: `lanes.role_arn`: `arn:aws:iam::111122223333:role/x` is one account's role, but \
             the entry has 2 accounts: write {account} in its place, or give `lanes.role_name`",
        ),
        (
            format!("{LANE}role_arn = \"arn:aws-cn:iam::{{account}}:role/x\""),
            "is not in partition aws of lane",
        ),
        (
            format!("{LANE}role_arn = \"arn:aws:iam::{{acount}}:role/x\""),
            "is not a role: expected arn:",
        ),
        (
            format!("{LANE}role_name = \"a role\""),
            ":4: `lanes.role_name`: `a role` is not the name of a role",
        ),
        (
            format!("{LANE}role_arn = \"arn:aws:iam::111122223333:role/x\"\nrole_name = \"x\""),
            ":5: `lanes.role_name`: give either this or `lanes.role_arn`",
        ),
        (format!("{LANE}hub = \"of\""), ":4: `lanes.hub` is \"of\"; allowed: \"on\", \"off\""),
        (format!("{LANE}{LANE}"), ":4: `lanes`: lane 111122223333/us-east-1 is already given at"),
        (
            format!("{LANE}[[lanes]]\naccount = \"111122223333\"\nregions = [\"cn-north-1\"]"),
            "run one daemon for each",
        ),
        (
            format!("{LANE}role_arn = \"arn:aws:iam::444455556666:role/x\""),
            ":4: `lanes.role_arn`: `arn:aws:iam::444455556666:role/x` is a role of account 444455556666",
        ),
        (
            format!("{LANE}role_arn = \"arn:aws-cn:iam::111122223333:role/x\""),
            "is not in partition aws of lane",
        ),
        (format!("{LANE}role_arn = \"patchferry\""), "is not a role: expected arn:"),
        (format!("{LANE}external_id = \"abc\""), "has no meaning without `lanes.role_arn`"),
        (
            format!("{LANE}acount = \"x\""),
            "unknown key `lanes.acount`; did you mean `lanes.account`?",
        ),
        ("[[lanes]]\naccount = \"111122223333\"".into(), ":1: `lanes.regions`: missing"),
        ("[[lanes]]\nregions = [\"us-east-1\"]".into(), ":1: `lanes.account`: missing"),
        (
            "[[lanes]]\naccount = 111122223333\nregions = [\"us-east-1\"]".into(),
            ":2: `lanes.account` must be 12 digits in quotes",
        ),
        (
            "[[lanes]]\naccount = \"1\"\nregions = [\"us-east-1\"]".into(),
            "`1` is not an AWS account id",
        ),
        (
            "[[lanes]]\naccount = \"111122223333\"\nregions = [\"mars\"]".into(),
            ":3: `lanes.regions`: `mars` is not an AWS Region",
        ),
        (
            "[[lanes]]\naccount = \"111122223333\"\nregions = \"us-east-1\"".into(),
            "must be a list of Regions",
        ),
        ("[[lanes]]\naccount = \"111122223333\"\nregions = []".into(), "names no Region"),
        ("lanes = [1]".into(), "`lanes` is a list: write `[[lanes]]`"),
    ] {
        let message = error(&file);
        assert!(message.contains(expected), "{file:?} gave {message:?}");
    }
}

const DISCOVERY: &str = "[discovery]\norganization = true\nregions = [\"us-east-1\", \"eu-west-1\"]\n\
                         role_name = \"ops/patchferry\"\n";

#[test]
fn discovery_has_its_role_in_every_account_and_hides_its_external_id() {
    let setup = Setup::new(
        format!(
            "{DISCOVERY}exclude = [\"444455556666\"]\nlist_role_arn = \
                 \"arn:aws:iam::111122223333:role/list\"\n"
        )
        .as_bytes(),
    )
    .variable("PATCHFERRY_DISCOVERY__EXTERNAL_ID", "s3cr3t")
    .variable("PATCHFERRY_DISCOVERY__INCLUDE", "111122223333, 777788889999");
    let config = setup.load().unwrap();
    let discovery = config.discovery.as_ref().unwrap();
    assert_eq!((discovery.regions.len(), discovery.include.len()), (2, 2));
    assert_eq!(discovery.exclude[0].as_str(), "444455556666");
    assert_eq!(discovery.interval, Duration::from_secs(3600));
    let role = discovery.role_in(&"777788889999/eu-west-1".parse().unwrap()).unwrap();
    assert_eq!(role.arn, "arn:aws:iam::777788889999:role/ops/patchferry");
    assert_eq!(role.external_id.unwrap().expose(), "s3cr3t");
    assert!(!format!("{config:?}{}", config.show()).contains("s3cr3t"));
    assert!(config.show().contains("# external_id = (set)  # $PATCHFERRY_DISCOVERY__EXTERNAL_ID"));
    assert!(load("").discovery.is_none());
}

#[test]
fn each_kind_of_wrong_discovery_is_refused() {
    for (file, expected) in [
        (
            "[discovery]\norganization = true\nrole_name = \"x\"".to_string(),
            ":2: `discovery.regions`: is needed with",
        ),
        (
            "[discovery]\norganization = true\nregions = [\"us-east-1\"]".into(),
            ":2: `discovery.role_name`: is needed with",
        ),
        (
            DISCOVERY.replace("true", "false"),
            ":3: `discovery.regions`: has no meaning without `discovery.organization = true`",
        ),
        (
            DISCOVERY.replace("eu-west-1", "cn-north-1"),
            ":3: `discovery.regions`: us-east-1 is in partition aws, cn-north-1 in aws-cn",
        ),
        (
            format!("{DISCOVERY}{}", LANE.replace("us-east-1", "us-gov-west-1")),
            "us-gov-west-1 in aws-us-gov: credentials never cross",
        ),
        (
            format!("{DISCOVERY}list_role_arn = \"arn:aws-cn:iam::111122223333:role/x\""),
            ":5: `discovery.list_role_arn`: arn:aws-cn:iam::111122223333:role/x is not in partition",
        ),
        (
            format!("{DISCOVERY}list_role_arn = \"arn:aws:iam::{{account}}:role/x\""),
            "must be the role of one account",
        ),
        (format!("{DISCOVERY}include = [\"12\"]"), "`12` is not an AWS account id"),
        (format!("{DISCOVERY}exclude = \"111122223333\""), "must be a list of account ids"),
        (format!("{DISCOVERY}external_id = \"a b\""), "must be a string of 2 to 1224 letters"),
        (DISCOVERY.replace("ops/", "a b/"), "is not the name of a role"),
    ] {
        let message = error(&file);
        assert!(message.contains(expected), "{file:?} gave {message:?}");
        assert!(!message.contains("a b\""), "an external id is repeated: {message}");
    }
}

#[test]
fn a_wrong_external_id_is_never_repeated() {
    let message = error(&format!(
        "{LANE}role_arn = \"arn:aws:iam::111122223333:role/x\"\nexternal_id = \"my secret\""
    ));
    assert!(message.contains("lanes.external_id") && !message.contains("my secret"), "{message}");
}

#[test]
fn a_product_of_another_region_than_the_lane_s_is_refused() {
    let message = error(&format!(
        "[finding]\nproduct_arn = \"arn:aws:securityhub:eu-west-1::product/a/b\"\n{LANE}"
    ));
    assert!(message.contains(":2: `finding.product_arn`: is a product of eu-west-1"), "{message}");
}

#[test]
fn nesting_beyond_reason_is_refused_not_followed_to_a_stack_overflow() {
    for opening in ["x = ", "[lanes", "[[lanes]]\nregions = "] {
        let message = error(&format!("{opening}{}", "[".repeat(200_000)));
        assert!(message.contains("not TOML"), "{message}");
    }
    let message = error(&format!("{}a = 1", "a.".repeat(200_000)));
    assert!(message.len() < 1_000, "{}", message.len());
}

fn never_panics(bytes: &[u8]) {
    match Setup::new(bytes).load() {
        Ok(config) => assert!(!config.show().is_empty()),
        Err(error) => assert!(error.to_string().starts_with("error: ")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        never_panics(&bytes);
    }

    #[test]
    fn no_mutation_of_a_valid_file_makes_the_parser_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..12),
    ) {
        let mut bytes = format!("{}\n{LANE}", uncommented()).into_bytes();
        for (index, byte, edit) in edits {
            let at = index.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, b"\"[]=.\n{}'#"[usize::from(byte) % 10]),
            }
        }
        never_panics(&bytes);
    }

    #[test]
    fn no_value_of_any_variable_makes_the_parser_panic(value: String, key in 0..24usize) {
        let sample = uncommented();
        let name = sample.lines().filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = ")).nth(key).map_or("x", |(name, _)| name);
        for section in ["", "INGEST__", "FINDING__", "DELIVER__", "STORE__", "HTTP__", "SHARD__", "LOG__"] {
            let variable = format!("PATCHFERRY_{section}{}", name.to_uppercase());
            let _ = Setup::new(b"").variable(&variable, &value).load();
        }
    }
}
