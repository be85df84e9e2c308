//! `dead drop`: what is dropped is written to a file first.
//!
//! A page is in the file, on disk, before its letters are removed: a crash in between leaves a
//! letter in both, never in neither.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
        kept::{Kept, time_in_file_name},
    },
    failpoint::{self, FailPoint},
    queue::{DeadFilter, Dropped},
};

/// Below the state directory.
const DIRECTORY_NAME: &str = "dropped";
/// 200,000 letters take some two minutes.
const TIME_MAX: Duration = Duration::from_secs(1_800);

/// Ends letters for good.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropDead {
    pub filter: DeadFilter,
    /// Where to write what is dropped; must not be there yet.
    pub keep_in: Option<PathBuf>,
}

/// What was dropped, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropAnswer {
    #[serde(flatten)]
    pub dropped: Dropped,
    /// `None`: there was nothing to drop.
    pub file: Option<PathBuf>,
}

impl Command for DropDead {
    const NAME: &'static str = "dead_drop";
    const ANSWER_TIME_MAX: Duration = TIME_MAX;
    type Answer = DropAnswer;

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<DropAnswer, Refusal> {
        if self.keep_in.as_ref().is_some_and(|path| path.is_relative()) {
            return Err(Refusal::usage("the file to keep them in must be an absolute path"));
        }
        let mut all = DropAnswer { dropped: Dropped::default(), file: None };
        let mut keep = None;
        let mut from = None;
        loop {
            let page = admin.queues().complete_dead_page(self.filter.clone(), from).await;
            let page = page.map_err(|error| interrupted(&all, &error.to_string()))?;
            if !page.letters.is_empty() {
                let kept = match keep.take() {
                    Some(kept) => kept,
                    None => create(self.keep_in.clone(), admin).await?,
                };
                all.file = Some(kept.path().to_path_buf());
                let (kept, letters) = kept.write(page.letters).await?;
                keep = Some(kept);
                let letters = letters.into_iter().map(|complete| complete.letter).collect();
                failpoint::reach(FailPoint::DeadDropFileWritten);
                let dropped = admin.queues().drop_dead(letters).await;
                all.dropped.add(dropped.map_err(|error| interrupted(&all, &error.to_string()))?);
                failpoint::reach(FailPoint::DeadDropped);
            }
            if page.next.is_none() {
                return Ok(all);
            }
            if admin.is_stopping() {
                return Err(interrupted(&all, "the daemon is stopping"));
            }
            from = page.next;
        }
    }
}

fn interrupted(so_far: &DropAnswer, why: &str) -> Refusal {
    let file = so_far.file.as_ref().map(|path| format!(", kept in {}", path.display()));
    Refusal::new(
        RefusalKind::NotNow,
        format!(
            "{why}, after {} letters were dropped{}; run the command again for the rest",
            so_far.dropped.letters,
            file.unwrap_or_default()
        ),
    )
}

async fn create(path: Option<PathBuf>, admin: &Admin) -> Result<Kept, Refusal> {
    let directory = admin.config().state_dir.join(DIRECTORY_NAME);
    let name = format!("{}.jsonl", time_in_file_name(admin.queues().clock().now()));
    let path = path.unwrap_or_else(|| directory.join(name));
    Kept::create(directory, path).await
}
