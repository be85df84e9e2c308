//! `lanes retire`: what waits in a lane that isn't served any more is written to a file and
//! dropped, then the lane is forgotten; before that, if asked, its findings are closed.
//!
//! Everything is in the file, on disk, before it is removed: a crash in between leaves it in both,
//! never in neither, and the command can be run again for the rest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
        kept::{Kept, time_in_file_name},
    },
    failpoint::{self, FailPoint},
    queue::Which,
    record::{Lane, Severity},
};

/// Below the state directory.
const DIRECTORY_NAME: &str = "retired";
/// 20,000 findings are closed in half a minute, if the hub takes them.
const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3_600);

/// See the module.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireLane {
    pub lane: Lane,
    /// Close its open findings in the hub first.
    pub archive: bool,
    /// The role to close them with; `None`: the one that the configuration has for the account.
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
}

/// What became of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetireAnswer {
    pub lane: Lane,
    /// Findings that the hub was told to archive, and has acknowledged.
    pub closed_findings: u64,
    /// Findings that stay open in the hub.
    pub open_findings: u64,
    /// Items that waited or couldn't go on.
    pub dropped_items: u64,
    /// `None`: nothing was dropped.
    pub file: Option<PathBuf>,
}

impl Command for RetireLane {
    const NAME: &'static str = "lanes_retire";
    const ANSWER_TIME_MAX: std::time::Duration = TIME_MAX;
    type Answer = RetireAnswer;

    fn audited(&self) -> Option<Value> {
        // Without the external id.
        let Self { lane, archive, role_arn, external_id: _ } = self;
        Some(json!({ "lane": lane, "archive": archive, "role_arn": role_arn }))
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<RetireAnswer, Refusal> {
        if !admin.queues().lanes().contains(&self.lane) {
            let text = format!(
                "there is nothing of lane {} in the store: it never was served here, or is retired \
                 already; `patchferry lanes` lists those that there are",
                self.lane
            );
            return Err(Refusal::new(RefusalKind::NotNow, text));
        }
        let _kept_out = admin.host().keep_out(&self.lane)?;
        let mut retirement = Retirement {
            admin,
            kept: None,
            answer: RetireAnswer {
                lane: self.lane.clone(),
                closed_findings: 0,
                open_findings: 0,
                dropped_items: 0,
                file: None,
            },
        };
        if self.archive {
            retirement.archive(&self).await?;
        }
        retirement.export(Which::All).await?;
        let state = admin.queues().lane(&self.lane);
        let open = Severity::ALL.map(|severity| state.open_findings(severity).max(0));
        retirement.answer.open_findings = open.iter().sum::<i64>().unsigned_abs();
        failpoint::reach(FailPoint::RetireExported);
        admin.queues().forget_lane(&self.lane).await?;
        failpoint::reach(FailPoint::RetireForgotten);
        Ok(retirement.answer)
    }
}

struct Retirement<'a> {
    admin: &'a Admin,
    kept: Option<Kept>,
    answer: RetireAnswer,
}

impl Retirement<'_> {
    /// Closes what is open, once the hub is in reach; until then nothing is changed.
    async fn archive(&mut self, asked: &RetireLane) -> Result<(), Refusal> {
        let role = asked.role_arn.clone().map(|arn| (arn, asked.external_id.clone()));
        let mut way = self.admin.host().open_way(&asked.lane, role).await?;
        let closed: Result<u64, Refusal> = async {
            self.export(Which::Upstream).await?;
            let closed = self.admin.queues().close_open(&asked.lane).await?;
            failpoint::reach(FailPoint::RetireClosing);
            way.drain().await?;
            Ok(closed)
        }
        .await;
        way.end().await;
        self.answer.closed_findings = closed?;
        Ok(())
    }

    async fn export(&mut self, which: Which) -> Result<(), Refusal> {
        let (queues, lane) = (self.admin.queues(), self.answer.lane.clone());
        loop {
            if self.admin.is_stopping() {
                let text = format!(
                    "the daemon is stopping, after {} items were dropped; run the command again for \
                     the rest",
                    self.answer.dropped_items
                );
                return Err(Refusal::new(RefusalKind::NotNow, text));
            }
            let mut page = queues.left_in_lane(&lane, which).await?;
            if page.is_empty() {
                return Ok(());
            }
            let kept = match self.kept.take() {
                Some(kept) => kept,
                None => self.create().await?,
            };
            self.answer.file = Some(kept.path().to_path_buf());
            let (kept, _) = kept.write(std::mem::take(&mut page.items)).await?;
            self.kept = Some(kept);
            failpoint::reach(FailPoint::RetireFileWritten);
            self.answer.dropped_items += queues.drop_left(&lane, page).await?;
        }
    }

    async fn create(&self) -> Result<Kept, Refusal> {
        let directory = self.admin.config().state_dir.join(DIRECTORY_NAME);
        let lane = &self.answer.lane;
        let at = time_in_file_name(self.admin.queues().clock().now());
        let name = format!("{}-{}-{at}.jsonl", lane.account, lane.region);
        let path = directory.join(name);
        Kept::create(directory, path).await
    }
}
