//! `dead redrive`: what it would cost, and doing it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin::{
        command::{Caller, Command, Refusal, RefusalKind},
        handler::Admin,
    },
    queue::{DeadFilter, RedrivePreview, Redriven},
};

/// Findings that one `BatchImportFindings` takes (Security Hub model).
const FINDINGS_PER_REQUEST: u64 = 100;
/// Nodes that one `DescribeInstancePatchStates` takes (SSM model).
const NODES_PER_REQUEST: u64 = 50;
/// 200,000 letters take some two minutes.
const TIME_MAX: Duration = Duration::from_secs(1_800);

/// What redriving would come to; changes nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewRedrive {
    pub filter: DeadFilter,
}

/// What redriving costs at most: some of it may turn out to be known already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedriveCost {
    #[serde(flatten)]
    pub preview: RedrivePreview,
    /// `BatchImportFindings` calls, at most.
    pub hub_requests_max: u64,
    /// Calls with which the next sweep looks at the nodes anew, at most, but for more than one
    /// page of patches.
    pub ssm_requests_max: u64,
    /// Until the busiest lane has sent all of it, at its quota.
    pub hub_seconds: u64,
}

impl RedriveCost {
    fn new(preview: RedrivePreview, hub_requests_per_second: f64) -> Self {
        let requests = |findings: &u64| findings.div_ceil(FINDINGS_PER_REQUEST);
        let busiest = preview.lanes.values().map(requests).max().unwrap_or(0);
        let looked_at = preview.observations + preview.assessments;
        #[allow(clippy::cast_precision_loss)] // a forecast
        let seconds = (busiest as f64 / hub_requests_per_second).ceil();
        Self {
            hub_requests_max: preview.lanes.values().map(requests).sum(),
            ssm_requests_max: looked_at.div_ceil(NODES_PER_REQUEST) + looked_at,
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
            hub_seconds: seconds as u64,
            preview,
        }
    }
}

impl Command for PreviewRedrive {
    const NAME: &'static str = "dead_redrive_preview";
    const ANSWER_TIME_MAX: Duration = TIME_MAX;
    type Answer = RedriveCost;

    fn audited(&self) -> Option<Value> {
        None
    }

    async fn run(self, admin: &Admin, _: Caller) -> Result<RedriveCost, Refusal> {
        let mut preview = RedrivePreview::default();
        let mut from = None;
        loop {
            from = admin.queues().preview_redrive(self.filter.clone(), from, &mut preview).await?;
            if from.is_none() {
                break;
            }
        }
        Ok(RedriveCost::new(preview, admin.config().deliver.requests_per_second))
    }
}

/// Has the letters go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedriveDead {
    pub filter: DeadFilter,
}

impl Command for RedriveDead {
    const NAME: &'static str = "dead_redrive";
    const ANSWER_TIME_MAX: Duration = TIME_MAX;
    type Answer = Redriven;

    fn audited(&self) -> Option<Value> {
        Some(json!(self))
    }

    async fn run(self, admin: &Admin, caller: Caller) -> Result<Redriven, Refusal> {
        let mut all = Redriven::default();
        let mut from = None;
        loop {
            let page = admin.queues().redrive(self.filter.clone(), from, caller.uid).await;
            let (redriven, next) = page.map_err(|error| interrupted(&all, &error.to_string()))?;
            all.add(redriven);
            if next.is_none() {
                return Ok(all);
            }
            if admin.is_stopping() {
                return Err(interrupted(&all, "the daemon is stopping"));
            }
            from = next;
        }
    }
}

fn interrupted(so_far: &Redriven, why: &str) -> Refusal {
    Refusal::new(
        RefusalKind::NotNow,
        format!(
            "{why}, after {} letters were redriven; those stand, run the command again for the rest",
            so_far.letters
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_in_whole_requests_of_each_lane_and_the_time_that_of_the_busiest() {
        let lanes = [("111122223333/us-east-1", 101), ("111122223333/us-east-2", 1_950)];
        let preview = RedrivePreview {
            letters: 2_051,
            observations: 51,
            findings: 2_000,
            lanes: lanes.map(|(lane, letters)| (lane.parse().unwrap(), letters)).into(),
            ..RedrivePreview::default()
        };
        let cost = RedriveCost::new(preview, 10.0);
        assert_eq!((cost.hub_requests_max, cost.hub_seconds), (22, 2));
        assert_eq!(cost.ssm_requests_max, 53);
    }
}
