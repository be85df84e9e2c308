//! `store backup`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
    },
    queue::{BackupError, BackupSummary},
    record::UnixMillis,
};

/// Writes a backup of the store to a file that isn't there yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackUp {
    /// Absolute; `None`: a new file below `backups/` in the state directory.
    pub path: Option<PathBuf>,
}

impl Command for BackUp {
    const NAME: &'static str = "store_backup";
    /// A backup of some gigabytes to a slow disk.
    const ANSWER_TIME_MAX: Duration = Duration::from_secs(30 * 60);

    type Answer = BackupSummary;

    fn audited(&self) -> Option<Value> {
        Some(json!({ "path": self.path }))
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<BackupSummary, Refusal> {
        let path = match self.path {
            Some(path) if path.is_absolute() => path,
            Some(path) => {
                return Err(Refusal::usage(format!("{} isn't absolute", path.display())));
            }
            None => default_path(admin)?,
        };
        let written = admin.queues().backup(path).await;
        let summary = written.map_err(|error| refusal(&error))?;
        tracing::info!(
            path = %summary.path.display(), entries = summary.entries, bytes = summary.bytes,
            "a backup was written"
        );
        Ok(summary)
    }
}

fn default_path(admin: &Admin) -> Result<PathBuf, Refusal> {
    let directory = admin.config().state_dir.join("backups");
    let made = std::fs::create_dir_all(&directory);
    made.map_err(|error| {
        let text = format!("can't make {}: {error}", directory.display());
        Refusal::new(RefusalKind::Io, text)
    })?;
    let UnixMillis(now_ms) = admin.queues().clock().now();
    let name = |time: &str| directory.join(format!("patchferry-{time}.pfb"));
    // To the second is enough, unless somebody is quick.
    let seconds = stamp(UnixMillis(now_ms / 1_000 * 1_000));
    let path = name(&seconds);
    Ok(if path.exists() {
        name(&format!("{seconds}-{:03}", now_ms.rem_euclid(1_000)))
    } else {
        path
    })
}

/// `20261124T024500Z`.
fn stamp(at: UnixMillis) -> String {
    let text = at.to_rfc3339();
    let seconds: String = text.chars().take(19).filter(|c| !"-:".contains(*c)).collect();
    format!("{seconds}Z")
}

fn refusal(error: &BackupError) -> Refusal {
    use std::error::Error as _;
    let kind = match error {
        BackupError::Store(_) => RefusalKind::Store,
        _ => RefusalKind::Io,
    };
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(kind, format!("{error}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_after_its_second() {
        assert_eq!(stamp(UnixMillis(1_790_000_000_000)), "20260921T141320Z");
    }
}
