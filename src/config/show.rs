//! The configuration as text: the commented default file, and what is in effect.
//!
//! Guarantees: both are TOML that patchferry reads; what is sensitive is shown as set or not.

use std::{fmt::Write as _, sync::LazyLock};

use super::{Config, LaneConfig, Origin, keys, units::quote};

/// One key in effect.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub path: &'static str,
    /// `None`: not set.
    pub toml: Option<String>,
    /// It is set, and not to be shown.
    pub hidden: bool,
    pub origin: Origin,
}

static INIT_TEXT: LazyLock<String> = LazyLock::new(init_text);

pub(super) fn init() -> &'static str {
    &INIT_TEXT
}

const HEAD: &str = "\
# patchferry carries patch-compliance findings from Systems Manager to Security Hub.
#
# Every key has a default, shown here behind its `#`; with no file at all patchferry serves the
# caller's own account and Region. Each key can also be given as a variable, for example
# PATCHFERRY_INGEST__POLL_INTERVAL=1m: section, two underscores, key. A flag wins over a variable,
# a variable over this file. AWS settings (profile, endpoints, proxies, CA) are taken as every AWS
# SDK takes them. Check with `patchferry config check`.
";

const LANES: &str = "
# Which accounts and Regions to serve. None: the caller's own account and Region. Variables can't
# give these.
# [[lanes]]
# account = \"111122223333\"
# regions = [\"us-east-1\", \"eu-west-1\"]
# The role to assume in that account. Not set: the daemon's own credentials.
# role_arn = \"arn:aws:iam::111122223333:role/patchferry\"
# external_id = \"…\"
# Many accounts alike: a role of the same name in each (or role_arn with {account} in it). The role
# is assumed in every account named, the daemon's own too; that one may have an entry of its own.
# [[lanes]]
# accounts = [\"111122223333\", \"444455556666\"]
# regions = [\"us-east-1\", \"eu-west-1\"]
# role_name = \"patchferry\"
# external_id = \"…\"
# The hub is off there as intended: the lanes are dormant until it is on, and nobody is called.
# hub = \"off\"
";

const QUEUES: &str = "
# Queues that EventBridge puts events in, one per Region: changes are seen within seconds rather than
# at the next sweep. `region` only where the URL's host doesn't tell it; a role only for a queue in
# another account. Variables can't give these.
# [[sqs]]
# url = \"https://sqs.us-east-1.amazonaws.com/111122223333/patchferry\"
# region = \"us-east-1\"
# role_arn = \"arn:aws:iam::111122223333:role/patchferry\"
# external_id = \"…\"
";

fn init_text() -> String {
    let mut text = HEAD.to_string();
    let mut section = "";
    for key in keys::ALL {
        let (own_section, name) = split(key.path());
        text.push('\n');
        if own_section != section {
            section = own_section;
            let _ = writeln!(text, "[{section}]");
        }
        for line in key.help() {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "# {name} = {}", key.sample_toml());
    }
    text + LANES + QUEUES
}

fn split(path: &str) -> (&str, &str) {
    path.split_once('.').unwrap_or(("", path))
}

pub(super) fn effective(config: &Config) -> String {
    let mut text = match &config.file {
        Some(path) => format!("# file: {}\n", path.display()),
        None => "# file: none\n".to_string(),
    };
    let _ = writeln!(
        text,
        "state_dir = {}  # {}",
        quote(&config.state_dir.to_string_lossy()),
        config.state_dir_origin
    );
    let mut section = "";
    for shown in config.shown.iter().filter(|shown| shown.path != keys::STATE_DIR.path) {
        let (own_section, name) = split(shown.path);
        if own_section != section {
            section = own_section;
            let _ = writeln!(text, "\n[{section}]");
        }
        let origin = match &shown.origin {
            Origin::Default => String::new(),
            origin => format!("  # {origin}"),
        };
        let _ = match &shown.toml {
            Some(toml) => writeln!(text, "{name} = {toml}{origin}"),
            None if shown.hidden => writeln!(text, "# {name} = (set){origin}"),
            None => writeln!(text, "# {name} is not set"),
        };
    }
    lanes(config, &mut text);
    queues(config, &mut text);
    text
}

fn lanes(config: &Config, text: &mut String) {
    let Some(lanes) = &config.lanes else {
        text.push_str(match config.discovery {
            Some(_) => "\n# lanes: those that discovery finds\n",
            None => "\n# lanes: the caller's own account and Region\n",
        });
        return;
    };
    for LaneConfig { lane, role, hub_off } in lanes {
        let note = if config.shard.shard.owns(lane) { "" } else { "  # another machine's" };
        let _ = write!(
            text,
            "\n[[lanes]]{note}\naccount = \"{}\"\nregions = [\"{}\"]\n",
            lane.account, lane.region
        );
        if let Some(role) = role {
            let _ = writeln!(text, "role_arn = {}", quote(&role.arn));
            if let Some(external_id) = &role.external_id {
                let _ = writeln!(text, "# external_id = {external_id:?}");
            }
        }
        if *hub_off {
            text.push_str("hub = \"off\"\n");
        }
    }
}

fn queues(config: &Config, text: &mut String) {
    for queue in &config.queues {
        let _ =
            write!(text, "\n[[sqs]]\nurl = {}\nregion = \"{}\"\n", quote(&queue.url), queue.region);
        if let Some(role) = &queue.role {
            let _ = writeln!(text, "role_arn = {}", quote(&role.arn));
            if let Some(external_id) = &role.external_id {
                let _ = writeln!(text, "# external_id = {external_id:?}");
            }
        }
    }
}
