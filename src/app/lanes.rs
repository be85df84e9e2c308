//! Which lanes are served, and the tasks of each: ingest, deliver and reconcile, and one that hears of
//! events where any can come.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{StartError, fleet::ServedLane, settings};
use crate::{
    aws::{AssumeRole, Aws},
    config::{Config, LaneConfig, Role},
    metrics::Metrics,
    pipeline::{
        deliver::{LaneDelivery, LaneView, Preview},
        ingest::{
            GoneGate, GoneWatch, LaneIngest, LaneReads, SweepStatus,
            event::{Awaited, Hint, LANE_HINTS_MAX, LaneEvents},
        },
        reconcile::{self, LaneReconcile, ReconcileStatus},
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
    /// In a dry run.
    pub preview: Option<Preview>,
}

/// For each lane beyond the first few, the time within which first sweeps are spread.
const START_SPREAD_PER_LANE: Duration = Duration::from_millis(20);
const LANES_AT_ONCE: u32 = 16;

/// The time within which the first sweeps of so many lanes begin.
pub(super) fn start_spread(lanes: usize) -> Duration {
    let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
    START_SPREAD_PER_LANE.saturating_mul(lanes.saturating_sub(LANES_AT_ONCE))
}

/// This machine's of the configured lanes, or of the caller's own account and Region unless
/// discovery finds others.
pub(super) async fn resolve(config: &Config, aws: &Aws) -> Result<Vec<LaneConfig>, StartError> {
    let mut lanes = resolve_all(config, aws).await?;
    let all = lanes.len();
    lanes.retain(|served| config.shard.shard.owns(&served.lane));
    let shard = config.shard.shard;
    if shard.is_divided() {
        let own = lanes.len();
        tracing::info!(%shard, own, all, "lanes are divided among machines");
    }
    Ok(lanes)
}

async fn resolve_all(config: &Config, aws: &Aws) -> Result<Vec<LaneConfig>, StartError> {
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

/// Starts the tasks of a lane.
pub(super) async fn spawn(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    config: LaneConfig,
    shared: &Shared,
    spread: Duration,
    shutdown: &CancellationToken,
) -> ServedLane {
    let LaneConfig { lane, role, hub_off } = config;
    let role = role.as_ref().map(assume_role);
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
    )
    .with_associations(shared.config.ingest.associations);
    let (reads, awaited) = (Arc::new(reads), Arc::new(Awaited::default()));
    let gone = Arc::new(GoneGate::default());
    let ingest = LaneIngest {
        reads: Arc::clone(&reads),
        settings: settings::ingest(&shared.config, &lane.region, spread),
        gone: GoneWatch::new(settings::gone(&shared.config), Arc::clone(&gone)),
        trigger: Arc::clone(&trigger),
        awaited: Arc::clone(&awaited),
        status,
    };
    let (handle, requests) = reconcile::requests();
    let (reconciled_sender, reconciled) = watch::channel(ReconcileStatus::default());
    let reconcile = LaneReconcile {
        session: Arc::clone(&session),
        queues: shared.queues.clone(),
        metrics: Arc::clone(&shared.metrics),
        settings: settings::reconcile(&shared.config),
        requests,
        sweep: Arc::clone(&trigger),
        status: reconciled_sender,
    };
    let delivery = LaneDelivery {
        session,
        queues: shared.queues.clone(),
        metrics: Arc::clone(&shared.metrics),
        settings: settings::deliver(&shared.config, hub_off),
        view: view_sender,
        preview: shared.preview.clone(),
    };
    tasks.spawn(ingest.run(shutdown.clone()));
    tasks.spawn(delivery.run(shutdown.clone()));
    if shared.preview.is_none() {
        tasks.spawn(reconcile.run(shutdown.clone()));
    }
    let clock = shared.queues.clock().clone();
    let hear = |hints| LaneEvents {
        reads,
        patch_details: shared.config.ingest.patch_details,
        sweeps: sweeps.clone(),
        trigger: Arc::clone(&trigger),
        awaited,
        hints,
    };
    let hints = spawn_events(tasks, &shared.config, hear, shutdown);
    ServedLane {
        lane,
        role_arn,
        trigger,
        sweeps,
        view,
        reconcile: handle,
        reconciled,
        gone,
        clock,
        hints,
    }
}

/// Starts nothing where no queue is configured. It ends with the lane, as the last sender goes.
fn spawn_events(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    config: &Config,
    hear: impl FnOnce(mpsc::Receiver<Hint>) -> LaneEvents,
    shutdown: &CancellationToken,
) -> Option<mpsc::Sender<Hint>> {
    if config.queues.is_empty() {
        return None;
    }
    let (sender, hints) = mpsc::channel(LANE_HINTS_MAX);
    tasks.spawn(hear(hints).run(shutdown.clone()));
    Some(sender)
}

/// How a role of the configuration is assumed.
pub(super) fn assume_role(role: &Role) -> AssumeRole {
    AssumeRole {
        role_arn: role.arn.clone(),
        external_id: role.external_id.as_ref().map(|id| id.expose().to_string()),
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
