//! What a store tells by itself, whether a daemon runs or not.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    discovery,
    ingest::{StoppedIngest, Taking},
    observe::still_served,
    reconcile,
    retire::{self, Ground},
};
use crate::{
    admin::{
        command::{Refusal, RefusalKind},
        commands::reconcile::{ReconcileLane, Reconciled},
        handler::{Admin, GivenRole, Host, Opening},
        status::{
            BySeverity, DeadLetterCount, LaneStatus, NodeCounts, PauseStatus, QueueStatus, Status,
            StoreStatus,
        },
    },
    aws::Aws,
    config::Config,
    metrics::{Accounting, BuildInfo, LaneState, Metrics},
    queue::{self, PauseWhat, QueueError, Queued, Queues},
    record::{Lane, Severity, Shard, UnixMillis},
};

/// A store that no daemon works on.
struct Still {
    queues: Queues,
    config: Config,
    ingest: StoppedIngest,
}

impl Host for Still {
    fn is_running(&self) -> bool {
        false
    }

    fn status(&self) -> Pin<Box<dyn Future<Output = Result<Status, QueueError>> + Send + '_>> {
        Box::pin(async {
            let mut status = status(&self.queues, self.queues.clock().now()).await?;
            status.shard = shard_of(self.config.shard.shard);
            Ok(status)
        })
    }

    fn served(&self) -> Vec<Lane> {
        let configured = self.config.lanes.iter().flatten().map(|lane| lane.lane.clone());
        configured.chain(discovery::known_lanes(&self.config)).collect()
    }

    fn keep_out(&self, lane: &Lane) -> Result<Box<dyn Send>, Refusal> {
        if self.config.lanes.is_none() && self.config.discovery.is_none() {
            let text = "no [[lanes]] are configured, so which one is served depends on the \
                        daemon's identity: start it, then retire others";
            return Err(Refusal::new(RefusalKind::NotNow, text));
        }
        if self.served().contains(lane) {
            return Err(still_served(lane));
        }
        // The store is locked, so nobody takes the lane into service.
        Ok(Box::new(()))
    }

    fn open_way(&self, lane: &Lane, role: Option<GivenRole>) -> Opening<'_> {
        let lane = lane.clone();
        Box::pin(async move {
            let aws = Aws::load().await.map_err(|error| {
                Refusal::new(RefusalKind::NotNow, format!("AWS can't be reached: {error}"))
            })?;
            // Nobody looks at them: this process ends with its command.
            let metrics =
                Metrics::new(BuildInfo { version: env!("CARGO_PKG_VERSION"), revision: "unknown" });
            let ground = Ground {
                config: &self.config,
                aws: Arc::new(aws),
                queues: &self.queues,
                metrics: &metrics,
            };
            retire::open(ground, &lane, role).await
        })
    }

    fn ingest(&self, first_line: u64, lines: Vec<String>) -> Taking<'_> {
        Box::pin(async move { self.ingest.take(first_line, &lines).await })
    }

    fn reconcile(
        &self,
        asked: ReconcileLane,
    ) -> Pin<Box<dyn Future<Output = Result<Reconciled, Refusal>> + Send + '_>> {
        Box::pin(reconcile::reconcile(None, asked))
    }
}

/// Carries out the operator's commands on a store that no daemon works on.
pub fn admin(queues: Queues, config: Config) -> Admin {
    let ingest = StoppedIngest::new(queues.clone(), config.clone());
    let host = Arc::new(Still { queues: queues.clone(), config: config.clone(), ingest });
    Admin::new(queues, config, host, CancellationToken::new())
}

/// Which machine this is, where there are several.
pub(super) fn shard_of(shard: Shard) -> Option<String> {
    shard.is_divided().then(|| shard.to_string())
}

/// The store's counters, as the metrics want them.
pub fn accounting(now: &queue::Accounting) -> Accounting {
    Accounting {
        accepted: now.accepted.unsigned_abs(),
        delivered: now.delivered.unsigned_abs(),
        coalesced: now.coalesced.unsigned_abs(),
        unchanged: now.unchanged.unsigned_abs(),
        dead: now.dead.unsigned_abs(),
        dropped: now.dropped.unsigned_abs(),
        queued: now.queued.total().unsigned_abs(),
    }
}

/// Items and ages of all queues, of which `queued` tells how much is in them.
pub async fn queues(queues: &Queues, queued: Queued) -> Result<Vec<QueueStatus>, QueueError> {
    let ages = queues.ages().await?;
    let mut oldest = None;
    for lane in queues.lanes() {
        oldest = oldest.max(lane_age(queues, &lane).await?);
    }
    let age = |since: Option<UnixMillis>| since.map(|since| age_seconds(queues, since));
    Ok([
        ("observed", queued.observed, age(ages.observed)),
        ("assessed", queued.assessed, age(ages.assessed)),
        ("outbox", queued.outbox, oldest.filter(|_| queued.outbox > 0)),
        ("delayed", queued.delayed, oldest.filter(|_| queued.delayed > 0)),
        ("parked", queued.parked, None),
    ]
    .into_iter()
    .map(|(queue, items, oldest_age_seconds)| QueueStatus {
        queue: queue.into(),
        items: items.unsigned_abs(),
        oldest_age_seconds,
    })
    .collect())
}

/// Age of what has waited longest in a lane.
pub async fn lane_age(queues: &Queues, lane: &Lane) -> Result<Option<u64>, QueueError> {
    let state = queues.lane(lane);
    if state.outbox_findings() + state.delayed_findings() <= 0 {
        return Ok(None);
    }
    Ok(queues.oldest_in_lane(lane).await?.map(|since| age_seconds(queues, since)))
}

fn age_seconds(queues: &Queues, since: UnixMillis) -> u64 {
    queues.clock().now().since(since).as_secs()
}

/// The status as far as the store tells it; lane states are what a daemon knows.
pub async fn status(queues: &Queues, started_at: UnixMillis) -> Result<Status, QueueError> {
    let mut lanes = Vec::new();
    let mut stubborn = 0;
    for lane in queues.lanes() {
        stubborn += queues.lane(&lane).stubborn_findings();
        lanes.push(lane_status(queues, lane).await?);
    }
    let mut dead_letters: Vec<DeadLetterCount> = queues
        .dead_counts()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|((stage, reason), count)| DeadLetterCount {
            stage,
            reason,
            count: count.unsigned_abs(),
        })
        .collect();
    dead_letters.sort_by_key(|dead| (dead.stage, dead.reason));
    let space = queues.store().space();
    let mut ingest_paused: Vec<String> =
        space.pause.iter().map(|pause| pause.as_str().to_string()).collect();
    if queues.pauses().whole(PauseWhat::Ingest).is_some() {
        ingest_paused.push("operator".into());
    }
    let now = queues.accounting();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at_unix_ms: started_at,
        at_unix_ms: queues.clock().now(),
        dry_run: false,
        shard: None,
        lanes,
        queues: self::queues(queues, now.queued).await?,
        accounting: accounting(&now),
        latency: None,
        dead_letters,
        stubborn_findings: stubborn,
        ingest_paused,
        pauses: PauseStatus::all(queues),
        discovery: None,
        event_queues: Vec::new(),
        store: StoreStatus {
            live_bytes: space.live_bytes,
            max_bytes: space.live_bytes_max,
            file_bytes: space.file_bytes,
            free_bytes: space.free_bytes,
            quarantines: queues.store().quarantines().len() as u64,
            rolled_back: queues.store().alarms().rolled_back.is_some(),
            file_grows: space.bloated,
        },
    })
}

async fn lane_status(queues: &Queues, lane: Lane) -> Result<LaneStatus, QueueError> {
    let state = queues.lane(&lane);
    let mut open_findings = BySeverity::default();
    for severity in Severity::ALL {
        *open_findings.get_mut(severity) = state.open_findings(severity).unsigned_abs();
    }
    Ok(LaneStatus {
        oldest_age_seconds: lane_age(queues, &lane).await?,
        state: LaneState::Stopped,
        since_unix_ms: queues.clock().now(),
        note: None,
        outbox_findings: (state.outbox_findings() + state.delayed_findings()).unsigned_abs(),
        open_findings,
        nodes: NodeCounts::default(),
        last_complete_sweep_unix_ms: None,
        poll_interval_seconds: 0,
        gone_withheld_nodes: 0,
        last_reconcile_unix_ms: None,
        reconcile_unrepaired: 0,
        reconcile_failure: None,
        ingest_paused: state.ingest_paused().is_some(),
        role_arn: None,
        lane,
    })
}
