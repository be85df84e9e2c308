//! This machine: configuration, state directory, disk, address, credentials, clock. Nothing is
//! created, locked or opened for writing.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use super::report::Item;
use crate::{
    admin::{
        commands::status::{GetStatus, Given},
        socket,
    },
    aws::{AwsError, ClockOffset, Fault, Unavailability, connect::CallerIdentity},
    config::Config,
    store::{self, FORMAT_VERSION, FormatOnDisk},
};

/// AWS refuses what was signed five minutes ago or ahead (IAM, "Signature Version 4").
const CLOCK_FAIL: Duration = Duration::from_secs(4 * 60);
const CLOCK_WARN: Duration = Duration::from_secs(30);

/// Everything that needs no AWS.
pub async fn of_this_machine(config: &Config) -> Vec<Item> {
    let mut items = vec![configuration(config)];
    let asked = socket::ask(&socket::path(&config.state_dir), &GetStatus {}).await;
    let daemon = match asked {
        Ok(Some(Ok(Given { status, .. }))) => {
            let text = format!("runs, version {}, {} lanes", status.version, status.lanes.len());
            items.push(Item::ok("daemon", text));
            true
        }
        Ok(None) => {
            items.push(Item::ok("daemon", "doesn't run"));
            false
        }
        Ok(Some(Err(refusal))) => {
            items.push(Item::warn("daemon", refusal.text, "see `patchferry status`"));
            true
        }
        Err(error) => {
            let text = format!("its socket doesn't answer: {error}");
            items.push(Item::warn("daemon", text, "run this as the daemon's user"));
            true
        }
    };
    items.push(if daemon {
        Item::ok("store", format!("{}: the daemon's", config.state_dir.display()))
    } else {
        state_directory(&config.state_dir)
    });
    items.push(disk(config));
    if !daemon {
        items.push(address(config));
    }
    items
}

fn configuration(config: &Config) -> Item {
    let file = config.file.as_ref().map_or_else(
        || "no file is read: the defaults and the environment apply".to_string(),
        |file| format!("{} is right", file.display()),
    );
    Item::ok("config", file)
}

fn state_directory(path: &Path) -> Item {
    const CHECK: &str = "store";
    let shown = path.display();
    let elsewhere = "make it the daemon's user's, or choose another with --state-dir";
    let there = nearest(path);
    if !may_write(&there) {
        let text = format!("{} can't be written", there.display());
        return Item::fail(CHECK, text, elsewhere);
    }
    if there != path {
        return Item::ok(CHECK, format!("{shown} will be made"));
    }
    let own = rustix::process::geteuid().as_raw();
    if let Ok(owner) = store::owner_uid(path)
        && owner != own
    {
        let text = format!("{shown} belongs to uid {owner}, this is uid {own}");
        return Item::fail(CHECK, text, "run this as that user");
    }
    let ours = FORMAT_VERSION.0;
    match store::format_on_disk(path) {
        Ok(FormatOnDisk::None) => Item::ok(CHECK, format!("{shown}: a store will be made")),
        Ok(FormatOnDisk::Known(found)) if found > FORMAT_VERSION => Item::fail(
            CHECK,
            format!("{shown} has format {}, this version knows {ours}", found.0),
            "install the newer version again",
        ),
        Ok(FormatOnDisk::Known(found)) if found < FORMAT_VERSION => Item::ok(
            CHECK,
            format!(
                "{shown}: format {}, which `run` brings to {ours}, with a backup first",
                found.0
            ),
        ),
        Ok(FormatOnDisk::Known(_)) => Item::ok(CHECK, format!("{shown}: format {ours}")),
        Ok(FormatOnDisk::Damaged) => Item::warn(
            CHECK,
            format!("{shown}: CURRENT is damaged"),
            "`run` finds the store without it; look at the disk",
        ),
        Err(error) => Item::fail(CHECK, format!("{shown} can't be read: {error}"), elsewhere),
    }
}

/// The directory, or of those above it the first that is there.
fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|it| it.exists());
    there.unwrap_or(Path::new("/")).to_path_buf()
}

fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn disk(config: &Config) -> Item {
    const CHECK: &str = "disk";
    const MIB: u64 = 1 << 20;
    let least = config.store.min_free_bytes;
    let shown = |bytes: u64| format!("{} MiB", bytes / MIB);
    let free = match store::free_bytes(&nearest(&config.state_dir)) {
        Ok(free) => free,
        Err(error) => {
            let text = format!("its free space can't be found out: {error}");
            return Item::warn(CHECK, text, "look at the file system");
        }
    };
    let text = format!("{} free; ingest pauses below {}", shown(free), shown(least));
    if free < least {
        Item::fail(CHECK, text, "free some space, or lower store.min_free_bytes")
    } else if free < least.saturating_mul(2) {
        Item::warn(CHECK, text, "free some space")
    } else {
        Item::ok(CHECK, text)
    }
}

/// Bound and let go of at once.
fn address(config: &Config) -> Item {
    const CHECK: &str = "http";
    let address = config.http.listen;
    match TcpListener::bind(address) {
        Ok(_) => Item::ok(CHECK, format!("{address} is free")),
        Err(error) => Item::fail(
            CHECK,
            format!("can't listen on {address}: {error}"),
            "choose another with http.listen, or stop what listens there",
        ),
    }
}

/// The daemon's own identity. With roles for all lanes it needn't be able to do anything else.
pub fn credentials(identity: &Result<CallerIdentity, AwsError>) -> Item {
    const CHECK: &str = "credentials";
    match identity {
        Ok(caller) => Item::ok(CHECK, caller.arn.to_string()),
        Err(error) => match &error.fault {
            Fault::Held { reason, .. } => {
                Item::fail(CHECK, error.fault.to_string(), reason.advice())
            }
            fault => Item::fail(
                CHECK,
                format!("whose they are can't be found out: {fault}"),
                "check the network on the way to STS, `HTTPS_PROXY` and `AWS_ENDPOINT_URL`",
            ),
        },
    }
}

pub fn clock(offset: ClockOffset) -> Item {
    const CHECK: &str = "clock";
    let seconds = offset.distance().as_secs();
    let text = match offset {
        _ if seconds == 0 => "agrees with AWS's".to_string(),
        ClockOffset::Ahead(_) => format!("{seconds} s ahead of AWS's"),
        ClockOffset::Behind(_) => format!("{seconds} s behind AWS's"),
    };
    let advice = "set this machine's clock, e.g. with chrony; at 5 minutes AWS refuses everything";
    if offset.distance() > CLOCK_FAIL {
        Item::fail(CHECK, text, advice)
    } else if offset.distance() > CLOCK_WARN {
        Item::warn(CHECK, text, advice)
    } else {
        Item::ok(CHECK, text)
    }
}

pub fn no_answer_in_time() -> AwsError {
    let (kind, detail) = (Unavailability::Timeout, "not within --timeout".into());
    AwsError {
        operation: "GetCallerIdentity",
        lane: None,
        fault: Fault::Unavailable { kind, detail },
    }
}
