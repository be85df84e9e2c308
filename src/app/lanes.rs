//! Which lanes are served, and the two tasks of each: ingest and deliver.

use std::sync::Arc;

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{StartError, settings};
use crate::{
    aws::{AssumeRole, Aws},
    config::{Config, LaneConfig, Role},
    metrics::Metrics,
    pipeline::{
        deliver::{LaneDelivery, LaneView},
        ingest::{LaneIngest, LaneReads, SweepStatus, event::Awaited},
        session::LaneSession,
    },
    queue::{QueueError, Queues},
    record::Lane,
};

/// STS allows 64 characters of `[\w+=,.@-]` for a session's name.
const SESSION_NAME_CHARS_MAX: usize = 64;

/// A lane that is served, and how to look at it.
pub struct ServedLane {
    pub lane: Lane,
    /// Has it swept at once.
    pub trigger: Arc<Notify>,
    pub sweeps: watch::Receiver<SweepStatus>,
    pub view: watch::Receiver<LaneView>,
    /// What reads the lane, and the nodes that a sweep is to see.
    pub(super) reads: Arc<LaneReads>,
    pub(super) awaited: Arc<Awaited>,
}

/// What all lanes share.
pub(super) struct Shared<'a> {
    pub config: &'a Config,
    pub aws: Arc<Aws>,
    pub queues: &'a Queues,
    pub metrics: &'a Arc<Metrics>,
}

/// The configured lanes, or the caller's own account and Region.
pub(super) async fn resolve(config: &Config, aws: &Aws) -> Result<Vec<LaneConfig>, StartError> {
    if let Some(lanes) = &config.lanes {
        return Ok(lanes.clone());
    }
    let region = aws.default_region().ok_or(StartError::NoRegion)?;
    let caller = aws.caller_identity().await.map_err(StartError::Identity)?;
    Ok(vec![LaneConfig { lane: Lane::new(caller.account, region), role: None }])
}

pub(super) async fn spawn(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    lanes: Vec<LaneConfig>,
    shared: &Shared<'_>,
    shutdown: &CancellationToken,
) -> Vec<ServedLane> {
    let mut served = Vec::with_capacity(lanes.len());
    for config in lanes {
        served.push(spawn_one(tasks, config, shared, shutdown).await);
    }
    served
}

async fn spawn_one(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    config: LaneConfig,
    shared: &Shared<'_>,
    shutdown: &CancellationToken,
) -> ServedLane {
    let LaneConfig { lane, role } = config;
    let role = role.map(assumed);
    let session = Arc::new(LaneSession::new(Arc::clone(&shared.aws), lane.clone(), role).await);
    let trigger = Arc::new(Notify::new());
    let (status, sweeps) = watch::channel(SweepStatus::default());
    let (view_sender, view) = watch::channel(LaneView::default());
    let reads = LaneReads::new(
        Arc::clone(&session),
        shared.queues.clone(),
        Arc::clone(shared.metrics),
        shared.config.ingest.ssm_requests_per_second,
    );
    let (reads, awaited) = (Arc::new(reads), Arc::new(Awaited::default()));
    let ingest = LaneIngest {
        reads: Arc::clone(&reads),
        settings: settings::ingest(shared.config, &lane.region),
        trigger: Arc::clone(&trigger),
        awaited: Arc::clone(&awaited),
        status,
    };
    let delivery = LaneDelivery {
        session,
        queues: shared.queues.clone(),
        metrics: Arc::clone(shared.metrics),
        settings: settings::deliver(shared.config),
        view: view_sender,
    };
    tasks.spawn(ingest.run(shutdown.clone()));
    tasks.spawn(delivery.run(shutdown.clone()));
    ServedLane { lane, trigger, sweeps, view, reads, awaited }
}

/// A configured role, as it is assumed.
pub(super) fn assumed(role: Role) -> AssumeRole {
    AssumeRole {
        role_arn: role.arn,
        external_id: role.external_id.map(|id| id.expose().to_string()),
        session_name: session_name(),
    }
}

/// Tells the reader of a `CloudTrail` log which machine it was.
fn session_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    format!("patchferry-{host}")
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(SESSION_NAME_CHARS_MAX)
        .collect()
}
