//! `reconcile`: one lane's hub compared with the ledger, and repaired if that is asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
    },
    record::Lane,
};

/// Differences that are told in full; all are counted.
pub const DIFFERENCES_TOLD_MAX: usize = 1_000;

/// Compares the hub of a lane with the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileLane {
    pub lane: Lane,
    pub repair: bool,
    /// What is withheld as gone, too much at once to be believed, is gone.
    pub accept_gone: bool,
}

/// What a comparison has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    pub lane: Lane,
    /// Findings of ours in the hub.
    pub hub_findings: u64,
    pub nodes_compared: u64,
    /// Something of them is on its way, or is so recent that the hub may not show it yet.
    pub nodes_left_alone: u64,
    pub missing: u64,
    pub orphaned: u64,
    pub drifted: u64,
    pub duplicate: u64,
    /// Differences that were repaired.
    pub repaired: u64,
    /// Findings that were put in the outbox for that.
    pub queued: u64,
    /// Findings that somebody has resolved and whose nodes are observed anew; those whose nodes a
    /// newer scan still finds non-compliant, so that they are closed and opened again.
    pub resolved_by_people: u64,
    pub reopening: u64,
    /// Nodes that were withheld as gone and may be resolved now.
    pub gone_accepted: u64,
    /// At most [`DIFFERENCES_TOLD_MAX`].
    pub differences: Vec<DifferenceTold>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceTold {
    /// `missing`, `orphaned`, `drifted` or `duplicate`.
    pub kind: String,
    pub node: String,
    pub finding_id: String,
    pub product_arn: String,
    pub what: String,
}

impl Reconciled {
    /// All differences.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.missing + self.orphaned + self.drifted + self.duplicate
    }
}

impl Command for ReconcileLane {
    const NAME: &'static str = "reconcile";
    // As long as a large hub takes to say what it holds, and a comparison before this one.
    const ANSWER_TIME_MAX: Duration = Duration::from_secs(70 * 60);

    type Answer = Reconciled;

    fn audited(&self) -> Option<Value> {
        (self.repair || self.accept_gone).then(|| json!(self))
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<Reconciled, Refusal> {
        if !admin.host().is_running() {
            return Err(Refusal::new(
                RefusalKind::NotNow,
                "no daemon runs: it reads the hubs with its own credentials and at its own pace; \
                 start it first",
            ));
        }
        admin.host().reconcile(self).await
    }
}
