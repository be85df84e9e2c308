//! A dry run: the whole product on an empty store of its own, whose findings are compared with what
//! the hubs hold instead of being sent.
//!
//! Its ledger is what the hubs themselves hold, so it decides as a daemon that is started anew:
//! every open finding would be told once more. Where that would change nothing worth telling, it is
//! counted as the same, since a daemon whose ledger knows the finding sends nothing.
//!
//! Guarantees: imports nothing; reads and writes nothing in the state directory; what it keeps
//! meanwhile is in a temporary directory that is gone afterwards.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::PathBuf, time::Duration};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    App, Failure, Options, Purpose, StartError,
    round::{self, Round},
};
use crate::{
    aws::{Aws, asff::fields::Difference},
    config::Config,
    pipeline::deliver::{HubCopy, Preview, Previewed},
    record::{Change, Clock, Lane, Severity, UnixMillis},
    store::StoreError,
};

/// The temporary store is small, and may be on a small file system.
const MIN_FREE_BYTES_MAX: u64 = 64 << 20;

/// What a daemon would do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    Open,
    Update,
    Resolve,
    Reopen,
    /// Nothing has changed, but the hub is to be told again.
    Refresh,
    /// The hub holds it as it is.
    Same,
}

impl Deed {
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Update, Self::Resolve, Self::Reopen, Self::Refresh, Self::Same];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Resolve => "resolve",
            Self::Reopen => "reopen",
            Self::Refresh => "refresh",
            Self::Same => "same",
        }
    }
}

/// One finding of a dry run.
#[derive(Clone, Debug, Serialize)]
pub struct Foreseen {
    pub lane: Lane,
    pub node: String,
    pub id: String,
    #[serde(rename = "do")]
    pub deed: Deed,
    pub severity: Severity,
    /// Whether the hub could be asked what it holds.
    pub compared: bool,
    /// Fields that the hub has otherwise.
    pub differences: Vec<Difference>,
}

/// What a dry run came to.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    pub round: Round,
    /// By lane, what is to be done, and node.
    pub findings: Vec<Foreseen>,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    #[error("can't make a temporary directory for the dry run's store, {path}; set TMPDIR")]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the temporary store has failed")]
    Close(#[source] StoreError),
    #[error("interrupted")]
    Interrupted,
    #[error("lane {0} is not served here")]
    Unserved(Lane),
}

/// Does one round of `config`'s lanes and says what a daemon would do.
pub async fn dry_run(
    mut config: Config,
    lanes: &[Lane],
    aws: Aws,
    time_max: Duration,
    stop: &CancellationToken,
) -> Result<DryRun, DryRunError> {
    let directory = Temporary::create()?;
    let refresh_after = config.finding.refresh_after;
    config.state_dir.clone_from(&directory.path);
    config.store.min_free_bytes = config.store.min_free_bytes.min(MIN_FREE_BYTES_MAX);
    let clock = Clock::system();
    let options =
        Options { config: round::configured(config), aws, clock: clock.clone(), listen: false };
    let (preview, mut found) = Preview::new();
    let mut app = tokio::select! {
        started = App::start_as(options, Purpose::Round { preview: Some(preview) }) => started?,
        () = stop.cancelled() => return Err(DryRunError::Interrupted),
    };
    let done = match lanes.iter().find(|lane| app.lane(lane).is_none()) {
        None => app.round(time_max, stop).await.map_err(DryRunError::from),
        Some(lane) => Err(DryRunError::Unserved(lane.clone())),
    };
    let closed = app.shutdown().await;
    let round = done?;
    closed.map_err(DryRunError::Close)?;
    let now = clock.now();
    let mut findings = Vec::new();
    while let Ok(previewed) = found.try_recv() {
        findings.push(foreseen(previewed, refresh_after, now));
    }
    findings
        .sort_by(|a, b| (&a.lane, a.deed, &a.node, &a.id).cmp(&(&b.lane, b.deed, &b.node, &b.id)));
    Ok(DryRun { round, findings })
}

fn foreseen(previewed: Previewed, refresh_after: Duration, now: UnixMillis) -> Foreseen {
    let Previewed { lane, node, id, change, severity, hub } = previewed;
    let compared = hub != HubCopy::Unknown;
    let differences = match hub {
        HubCopy::Held(differences) => Some(differences),
        HubCopy::Unknown | HubCopy::Absent => None,
    };
    let deed = match (change, &differences) {
        (Change::Resolved, _) => Deed::Resolve,
        (Change::Reopened, _) => Deed::Reopen,
        (_, None) => Deed::Open,
        (_, Some(differences)) if differences.iter().any(is_worth_telling) => Deed::Update,
        (_, Some(differences)) if is_due(differences, refresh_after, now) => Deed::Refresh,
        (_, Some(_)) => Deed::Same,
    };
    let differences = differences.unwrap_or_default();
    Foreseen { lane, node: node.to_string(), id, deed, severity, compared, differences }
}

/// Whether a daemon would send a finding for this: not for what every scan changes.
fn is_worth_telling(difference: &Difference) -> bool {
    const FIELDS: [&str; 10] = [
        "UpdatedAt",
        "LastObservedAt",
        "ProductFields.patchferry/change",
        "ProductFields.patchferry/execution-id",
        "PatchSummary.Operation",
        "PatchSummary.OperationStartTime",
        "PatchSummary.OperationEndTime",
        "PatchSummary.RebootOption",
        "PatchSummary.InstalledCount",
        "PatchSummary.InstalledOtherCount",
    ];
    const GROUPS: [&str; 4] = [
        "Resources[0].Details.Other.",
        "Resources[0].Details.AwsEc2Instance.",
        "Resources[0].Details.AwsSsmPatchCompliance.Compliant",
        "Resources[0].Details.AwsSsmPatchCompliance.ExecutionType",
    ];
    let field = difference.field.as_str();
    !FIELDS.contains(&field) && !GROUPS.iter().any(|group| field.starts_with(group))
}

/// The hub's copy is older than it may become.
fn is_due(differences: &[Difference], refresh_after: Duration, now: UnixMillis) -> bool {
    differences
        .iter()
        .filter(|difference| difference.field == "UpdatedAt")
        .filter_map(|difference| UnixMillis::parse_rfc3339(difference.hub.as_deref()?).ok())
        .any(|updated_at| now.since(updated_at) > refresh_after)
}

/// A directory that is gone afterwards.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create() -> Result<Self, DryRunError> {
        let name = format!("patchferry-dry-run-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        let created = fs::DirBuilder::new().mode(0o700).create(&path);
        match created.and_then(|()| fs::canonicalize(&path)) {
            Ok(path) => Ok(Self { path }),
            Err(source) => Err(DryRunError::Directory { path, source }),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the temporary store is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(field: &str) -> Difference {
        Difference { field: field.into(), hub: None, ours: Some("x".into()) }
    }

    #[test]
    fn what_every_scan_changes_is_no_reason_to_send() {
        for field in [
            "UpdatedAt",
            "PatchSummary.Operation",
            "Resources[0].Details.Other.IpAddress",
            "Resources[0].Details.AwsSsmPatchCompliance.CompliantHighCount",
        ] {
            assert!(!is_worth_telling(&difference(field)), "{field}");
        }
        for field in [
            "Title",
            "PatchSummary.MissingCount",
            "FindingProviderFields.Severity.Label",
            "ProductFields.patchferry/baseline",
            "Resources[0].Details.AwsSsmPatchCompliance.NonCompliantHighCount",
            "Resources[0].Id",
        ] {
            assert!(is_worth_telling(&difference(field)), "{field}");
        }
    }
}
