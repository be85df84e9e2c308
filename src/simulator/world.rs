//! The state behind the wire, shared by the server and its [`Control`](super::Control).
//!
//! Each lane has its own locks, held for the length of one operation and never across an await.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    bucket::TokenBucket,
    config::{Clock, Quotas, SimLane, SimOrganization, SimRole, SimulatorConfig},
    denials::Denials,
    faults::FaultTable,
    fleet::{Fleet, uuid},
    hub::Hub,
    queue::{Queue, SimQueue},
    queue_control::Mailing,
    stats::Stats,
    stopwatch::Stopwatch,
};

/// A poisoned lock is used as it is: every change under it is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One lane's state.
pub(super) struct LaneWorld {
    pub lane: SimLane,
    pub fleet: Mutex<Fleet>,
    pub hub: Mutex<Hub>,
    /// Products that findings may have beside the lane's default one.
    pub products: Mutex<BTreeSet<String>>,
    pub stats: Mutex<Stats>,
    pub buckets: Mutex<Buckets>,
    pub poison: Mutex<Poison>,
    pub imports_in_flight: AtomicU64,
    /// Of events on their way to the hub.
    pub stopwatch: Mutex<Stopwatch>,
}

/// A lane's quotas in use.
pub(super) struct Buckets {
    pub import: TokenBucket,
    pub get_findings: TokenBucket,
    pub hub_other: TokenBucket,
    pub ssm: TokenBucket,
}

impl Buckets {
    fn full(quotas: &Quotas, now: Instant) -> Self {
        Self {
            import: TokenBucket::full(quotas.import, now),
            get_findings: TokenBucket::full(quotas.get_findings, now),
            hub_other: TokenBucket::full(quotas.hub_other, now),
            ssm: TokenBucket::full(quotas.ssm, now),
        }
    }

    pub(super) fn set_quotas(&mut self, quotas: &Quotas, now: Instant) {
        self.import.set_quota(quotas.import, now);
        self.get_findings.set_quota(quotas.get_findings, now);
        self.hub_other.set_quota(quotas.hub_other, now);
        self.ssm.set_quota(quotas.ssm, now);
    }
}

/// Nodes whose findings the hub refuses.
#[derive(Debug, Default)]
pub(super) struct Poison {
    /// Each finding for these fails with `InvalidInput`.
    pub findings: BTreeSet<String>,
    /// Each call with a finding for one of these fails with `InvalidInputException`.
    pub calls: BTreeSet<String>,
}

pub(super) struct World {
    pub lanes: BTreeMap<SimLane, LaneWorld>,
    pub queues: BTreeMap<SimQueue, Mutex<Queue>>,
    pub mailing: Mutex<Mailing>,
    pub accounts: BTreeSet<String>,
    pub external_id: Option<String>,
    pub roles: BTreeMap<String, SimRole>,
    pub organization: Mutex<SimOrganization>,
    /// Requests to STS under way, and the most that there were.
    pub sts_requests: Mutex<(u64, u64)>,
    /// Lanes whose account hasn't opted in to their Region.
    pub regions_off: Mutex<BTreeSet<SimLane>>,
    /// How long a session lasts, whatever is asked for.
    pub session_seconds: Mutex<Option<i64>>,
    pub keep_json: bool,
    pub clock: Clock,
    pub faults: Mutex<FaultTable>,
    pub denials: Mutex<Denials>,
    /// Counts of calls that no lane can be told from.
    pub stray: Mutex<Stats>,
    pub aws_integration_enabled: Mutex<bool>,
    /// Sessions issued before this no longer count.
    pub sessions_valid_from_ms: AtomicI64,
    /// Moves whenever a request arrived or was handled, or the control handle changed something.
    pub changes: watch::Sender<u64>,
    pub stop: CancellationToken,
    rng: Mutex<Rng>,
}

impl World {
    pub(super) fn new(config: &SimulatorConfig) -> Self {
        let now_ms = (config.clock)();
        let now = Instant::now();
        let mut rng = Rng::with_seed(config.seed);
        let lanes: BTreeMap<SimLane, LaneWorld> = config
            .lanes
            .iter()
            .map(|(lane, fleet)| {
                let world = LaneWorld {
                    lane: lane.clone(),
                    fleet: Mutex::new(Fleet::generate(lane, fleet, rng.fork(), now_ms)),
                    hub: Mutex::default(),
                    products: Mutex::default(),
                    stats: Mutex::default(),
                    buckets: Mutex::new(Buckets::full(&config.quotas, now)),
                    poison: Mutex::default(),
                    imports_in_flight: AtomicU64::new(0),
                    stopwatch: Mutex::default(),
                };
                (lane.clone(), world)
            })
            .collect();
        let queues: BTreeMap<SimQueue, Mutex<Queue>> = config
            .queues
            .iter()
            .map(|queue| (queue.clone(), Mutex::new(Queue::new(rng.fork()))))
            .collect();
        let of_lanes = lanes.keys().map(|lane| lane.account().to_string());
        Self {
            accounts: of_lanes
                .chain(queues.keys().map(|queue| queue.account().to_string()))
                .chain(config.callers.iter().cloned())
                .collect(),
            lanes,
            queues,
            mailing: Mutex::default(),
            external_id: config.external_id.clone(),
            roles: config.roles.clone(),
            organization: Mutex::new(config.organization.clone()),
            sts_requests: Mutex::default(),
            regions_off: Mutex::default(),
            session_seconds: Mutex::default(),
            keep_json: config.keep_json,
            clock: config.clock.clone(),
            faults: Mutex::default(),
            denials: Mutex::default(),
            stray: Mutex::default(),
            aws_integration_enabled: Mutex::new(false),
            sessions_valid_from_ms: AtomicI64::new(i64::MIN),
            changes: watch::channel(0).0,
            stop: CancellationToken::new(),
            rng: Mutex::new(rng),
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    pub(super) fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn next_uuid(&self) -> String {
        uuid(&mut lock(&self.rng))
    }

    /// Whether something with a chance of `ratio` happens.
    pub(super) fn draw(&self, ratio: f64) -> bool {
        lock(&self.rng).f64() < ratio
    }

    pub(super) fn millis_between(&self, min: u64, max: u64) -> u64 {
        lock(&self.rng).u64(min..=max.max(min))
    }

    /// Counts an unknown call, and says so once per text.
    pub(super) fn note_unknown(&self, lane: Option<&LaneWorld>, what: &str) {
        let mut stats = lock(lane.map_or(&self.stray, |lane| &lane.stats));
        if !stats.unknown_operations.contains_key(what) {
            eprintln!("simulator: unknown operation: {what}");
        }
        Stats::count_text(&mut stats.unknown_operations, what);
    }
}

/// Counts a request to STS as under way for as long as it lives.
pub(super) struct AskingSts<'w>(&'w World);

impl<'w> AskingSts<'w> {
    pub(super) fn enter(world: &'w World) -> Self {
        let mut requests = lock(&world.sts_requests);
        requests.0 += 1;
        requests.1 = requests.1.max(requests.0);
        drop(requests);
        Self(world)
    }
}

impl Drop for AskingSts<'_> {
    fn drop(&mut self) {
        lock(&self.0.sts_requests).0 -= 1;
    }
}

/// Counts an import as in flight for as long as it lives.
pub(super) struct InFlight<'w>(&'w LaneWorld);

impl<'w> InFlight<'w> {
    pub(super) fn enter(lane: &'w LaneWorld) -> Self {
        let now = lane.imports_in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stats = lock(&lane.stats);
        stats.largest_inflight = stats.largest_inflight.max(now);
        Self(lane)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.imports_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
