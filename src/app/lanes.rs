//! Which lanes are served, and the two tasks of each: ingest and deliver.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{StartError, fleet::ServedLane, settings};
use crate::{
    aws::{AssumeRole, Aws},
    config::{Config, LaneConfig, Role},
    metrics::Metrics,
    pipeline::{
        deliver::{LaneDelivery, LaneView},
        ingest::{LaneIngest, LaneReads, SweepStatus},
        session::{Checks, LaneSession},
    },
    queue::{QueueError, Queues},
    record::Lane,
};

/// STS allows 64 characters of `[\w+=,.@-]` for a session's name.
const SESSION_NAME_CHARS_MAX: usize = 64;

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Shared {
    pub config: Arc<Config>,
    pub aws: Arc<Aws>,
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub checks: Checks,
}

/// For each lane beyond the first few, the time within which first sweeps are spread.
const START_SPREAD_PER_LANE: Duration = Duration::from_millis(20);
const LANES_AT_ONCE: u32 = 16;

/// The time within which the first sweeps of so many lanes begin.
pub(super) fn start_spread(lanes: usize) -> Duration {
    let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
    START_SPREAD_PER_LANE.saturating_mul(lanes.saturating_sub(LANES_AT_ONCE))
}

/// The configured lanes, or the caller's own account and Region, unless discovery finds others.
pub(super) async fn resolve(config: &Config, aws: &Aws) -> Result<Vec<LaneConfig>, StartError> {
    if let Some(lanes) = &config.lanes {
        return Ok(lanes.clone());
    }
    if config.discovery.is_some() {
        return Ok(Vec::new());
    }
    let region = aws.default_region().ok_or(StartError::NoRegion)?;
    let caller = aws.caller_identity().await.map_err(StartError::Identity)?;
    Ok(vec![LaneConfig::new(Lane::new(caller.account, region), None)])
}

/// Starts the two tasks of a lane.
pub(super) async fn spawn(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    config: LaneConfig,
    shared: &Shared,
    spread: Duration,
    shutdown: &CancellationToken,
) -> ServedLane {
    let LaneConfig { lane, role, hub_off } = config;
    let role = role.map(assume_role);
    let role_arn = role.as_ref().map(|role| role.role_arn.clone());
    let (aws, checks) = (Arc::clone(&shared.aws), shared.checks.clone());
    let session = Arc::new(LaneSession::new(aws, lane.clone(), role, checks).await);
    // Until its hub has been asked.
    session.set_dormant(hub_off);
    let trigger = Arc::new(Notify::new());
    let (status, sweeps) = watch::channel(SweepStatus::default());
    let (view_sender, view) = watch::channel(LaneView::default());
    let reads = LaneReads::new(
        Arc::clone(&session),
        shared.queues.clone(),
        Arc::clone(&shared.metrics),
        shared.config.ingest.ssm_requests_per_second,
    );
    let ingest = LaneIngest {
        reads: Arc::new(reads),
        settings: settings::ingest(&shared.config, spread),
        trigger: Arc::clone(&trigger),
        status,
    };
    let delivery = LaneDelivery {
        session,
        queues: shared.queues.clone(),
        metrics: Arc::clone(&shared.metrics),
        settings: settings::deliver(&shared.config, hub_off),
        view: view_sender,
    };
    tasks.spawn(ingest.run(shutdown.clone()));
    tasks.spawn(delivery.run(shutdown.clone()));
    ServedLane { lane, role_arn, trigger, sweeps, view }
}

/// A configured role as the SDK wants it.
pub(super) fn assume_role(role: Role) -> AssumeRole {
    AssumeRole {
        role_arn: role.arn,
        external_id: role.external_id.map(|id| id.expose().to_string()),
        session_name: session_name(),
    }
}

/// Tells the reader of a `CloudTrail` log which machine it was.
pub(super) fn session_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    format!("patchferry-{host}")
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(SESSION_NAME_CHARS_MAX)
        .collect()
}
