//! A whole daemon in this process against a simulator: start it, let it settle, compare.
//!
//! After every story a test calls [`Rig::assert_true`]: the accounting balances and agrees with a
//! recount, the hub holds exactly what the fleet says, and no rule of AWS was broken.

pub mod child;
pub mod clock;

use std::{path::PathBuf, sync::Arc, time::Duration};

use patchferry::{
    app::{App, Options},
    aws::Aws,
    config::{Config, LaneConfig, Role},
    metrics::LaneState,
    queue::Queues,
    record::{Clock, Lane, Receipt, UnixMillis},
    simulator::{
        Control, Fault, FleetConfig, HubFinding, Quotas, SECRET_ACCESS_KEY, Scope, Service,
        SimLane, Simulator, SimulatorConfig, access_key_id,
    },
};

use self::clock::MovableClock;

pub const ACCOUNT: &str = "111122223333";
pub const REGION: &str = "us-east-1";

/// A test that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A simulator, a state directory and a configuration.
pub struct Rig {
    pub simulator: Simulator,
    pub control: Control,
    pub config: Config,
    pub clock: Clock,
    _state: tempfile::TempDir,
}

impl Rig {
    /// One lane in the caller's own account.
    pub async fn one_lane(seed: u64, nodes: usize) -> Self {
        Self::new(SimulatorConfig::new(seed).lane(ACCOUNT, REGION, FleetConfig::of(nodes))).await
    }

    /// Lanes as the simulator is configured; those in other accounts than [`ACCOUNT`] by a role.
    pub async fn new(mut simulator: SimulatorConfig) -> Self {
        simulator.callers.push(ACCOUNT.into());
        simulator.quotas.ssm = None;
        let lanes = simulator.lanes.iter().map(|(lane, _)| lane_config(lane)).collect();
        let simulator = Simulator::start(simulator).await.expect("the simulator starts");
        let state = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::defaults(state.path().join("state"));
        config.lanes = Some(lanes);
        config.ingest.poll_interval = Duration::from_secs(3600);
        config.ingest.ssm_requests_per_second = 1_000.0;
        config.deliver.probe_interval = Duration::from_millis(200);
        config.store.min_free_bytes = 0;
        config.http.listen = ([127, 0, 0, 1], 0).into();
        let control = simulator.control();
        Self { simulator, control, config, clock: Clock::system(), _state: state }
    }

    /// As [`Rig::new`], with a clock that the test moves for both sides.
    pub async fn with_clock(mut simulator: SimulatorConfig, clock: &MovableClock) -> Self {
        let theirs = clock.clone();
        simulator.clock = Arc::new(move || theirs.now_ms());
        let mut rig = Self::new(simulator).await;
        let ours = clock.clone();
        rig.clock = Clock::custom(move || UnixMillis(ours.now_ms()));
        rig
    }

    /// A hub without quotas, and a limiter that doesn't hold back.
    pub fn without_quota(mut self) -> Self {
        for lane in self.control.lanes() {
            self.control.set_quotas(&lane, &Quotas::UNLIMITED);
        }
        self.config.deliver.requests_per_second = 10_000.0;
        self
    }

    pub fn state_dir(&self) -> PathBuf {
        self.config.state_dir.clone()
    }

    pub fn aws(&self) -> Aws {
        let url = self.simulator.endpoint_url();
        Aws::for_endpoint(&url, REGION, &access_key_id(ACCOUNT), SECRET_ACCESS_KEY)
            .expect("an HTTP client")
    }

    pub async fn start(&self) -> App {
        self.try_start().await.expect("the daemon starts")
    }

    pub async fn try_start(&self) -> Result<App, patchferry::app::StartError> {
        App::start(Options {
            config: self.config.clone(),
            aws: self.aws(),
            clock: self.clock.clone(),
            listen: false,
        })
        .await
    }

    /// Sweeps all lanes once more and waits until nothing is on its way any more.
    pub async fn sweep_and_settle(&self, app: &App) {
        self.sweep(app).await;
        self.settle(app).await;
    }

    /// Waits until every lane has completed one more sweep. The first begins by itself: what the
    /// fleet is to be for it has to be so before the start.
    pub async fn sweep(&self, app: &App) {
        let before: Vec<u64> = app.lanes().iter().map(|it| it.sweeps.borrow().complete).collect();
        for (lane, before) in app.lanes().iter().zip(&before) {
            if *before > 0 {
                lane.trigger.notify_one();
            }
        }
        for (lane, before) in app.lanes().iter().zip(before) {
            let mut sweeps = lane.sweeps.clone();
            within(sweeps.wait_for(|status| status.complete > before), "a complete sweep")
                .await
                .expect("the lane's task lives");
        }
    }

    /// Starts while nothing can be imported, and waits until the whole fleet's findings wait in
    /// the outbox. [`Control::clear_faults`] lets them go.
    pub async fn start_with_backlog(&self) -> App {
        self.control.set_fault(imports(), Some(Fault::AccessDenied));
        let app = self.start().await;
        self.sweep(&app).await;
        self.wait_for(&app, "a backlog", |queues, _| {
            let queued = queues.accounting().queued;
            queued.outbox > 0 && queued.outbox == queued.total()
        })
        .await;
        app
    }

    /// Lays `fault` on imports in place of what [`Rig::start_with_backlog`] laid there, with no
    /// moment between in which a batch could pass.
    pub fn exchange_fault(&self, fault: Fault) {
        for lane in self.control.lanes() {
            self.control.set_fault(imports().lane(&lane), Some(fault.clone()));
        }
        self.control.set_fault(imports(), None);
    }

    /// Ends the daemon and starts it again on the same state.
    pub async fn restart(&self, app: App) -> App {
        app.shutdown().await.expect("a store that closes");
        self.start().await
    }

    /// The lane, where there is only one.
    pub fn only_lane(&self) -> SimLane {
        let lanes = self.control.lanes();
        assert_eq!(lanes.len(), 1, "{lanes:?}");
        lanes[0].clone()
    }

    /// Waits until a lane is in `state`.
    pub async fn wait_for_state(&self, app: &App, sim: &SimLane, state: LaneState) {
        let mut view = app.lane(&lane(sim)).expect("a lane that is served").view.clone();
        let reached = view.wait_for(|view| view.state == state && view.since.0 != 0);
        within(reached, &format!("{sim} to be {state:?}")).await.expect("the lane's task lives");
    }

    /// The last receipts of all nodes of a lane that have one.
    pub async fn receipts(&self, app: &App, sim: &SimLane) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for node in self.control.fleet(sim) {
            let ledger = app.queues().ledger(&lane(sim), &node.id).await;
            let (_, acked) = ledger.expect("a readable store");
            receipts.extend(acked.map(|acked| acked.receipt));
        }
        receipts
    }

    /// Waits until every queue is empty.
    pub async fn settle(&self, app: &App) {
        self.wait_for(app, "everything to be settled", |queues, _| {
            queues.accounting().queued.total() == 0
        })
        .await;
    }

    /// Waits until `holds`, looking again whenever the hub or the queues have moved.
    pub async fn wait_for(
        &self,
        app: &App,
        what: &str,
        mut holds: impl FnMut(&Queues, &Control) -> bool,
    ) {
        let mut changed = self.control.changed();
        let waited = async {
            while !holds(app.queues(), &self.control) {
                // The last commit follows the hub's last reply, which is the last event we see.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed.changed()).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waited).await.is_ok();
        assert!(
            in_time,
            "waited {PATIENCE:?} for {what}\naccounting: {:?}\nstatus:\n{}\nhub: {:?}",
            app.queues().accounting(),
            app.status().await.to_text(),
            self.control.stats_total(),
        );
    }

    /// Accounting, hub and rules: all must be right once everything has settled, nothing dead.
    pub async fn assert_true(&self, app: &App) {
        self.assert_true_with_dead(app, 0).await;
    }

    /// As [`Rig::assert_true`], but so many items are dead on purpose.
    pub async fn assert_true_with_dead(&self, app: &App, dead: i64) {
        self.assert_accounted(app).await;
        assert_eq!(app.queues().accounting().dead, dead, "{:?}", app.queues().dead_counts());
        let differences = self.control.differences_total();
        assert!(differences.is_empty(), "the hub and the fleet differ:\n{differences:#?}");
        self.assert_rules_kept();
    }

    /// The identity holds, and the counters agree with what is stored.
    pub async fn assert_accounted(&self, app: &App) {
        let recount = app.queues().recount().await.expect("a readable store");
        assert_eq!(recount.accounting.imbalance(), 0, "{recount:?}");
        assert!(recount.agrees(), "{recount:?}");
    }

    /// Nothing that no correct client does.
    pub fn assert_rules_kept(&self) {
        let violations = self.control.stats_total().violations();
        assert!(violations.is_empty(), "AWS's rules were broken: {violations:#?}");
    }
}

/// All `BatchImportFindings` calls; reading findings back goes on.
pub fn imports() -> Scope {
    Scope::of(Service::SecurityHub).operation("BatchImportFindings")
}

/// What `/metrics` shows of `series`, written as it is there.
pub fn metric(app: &App, series: &str) -> u64 {
    let text = app.metrics().render();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no series {series}"));
    value.trim().parse().unwrap_or_else(|_| panic!("{series} is {value}"))
}

/// `BatchImportFindings` requests that ended so.
pub fn hub_requests(app: &App, outcome: &str) -> u64 {
    metric(app, &format!("patchferry_hub_requests_total{{outcome=\"{outcome}\"}}"))
}

/// A lane's finding for a node, if the hub holds one.
pub fn finding_of(control: &Control, lane: &SimLane, node: &str) -> Option<HubFinding> {
    control.hub(lane).into_iter().find(|finding| finding.resource_id.ends_with(node))
}

/// The simulator's lane in the product's terms.
pub fn lane(lane: &SimLane) -> Lane {
    lane.to_string().parse().expect("the simulator's lanes are valid")
}

fn lane_config(sim: &SimLane) -> LaneConfig {
    let arn = format!("arn:{}:iam::{}:role/patchferry", sim.partition(), sim.account());
    let role = (sim.account() != ACCOUNT).then_some(Role { arn, external_id: None });
    LaneConfig::new(lane(sim), role)
}

/// `future`, or a panic that says what was waited for.
pub async fn within<T>(future: impl Future<Output = T>, what: &str) -> T {
    let in_time = tokio::time::timeout(PATIENCE, future).await;
    in_time.unwrap_or_else(|_elapsed| panic!("waited {PATIENCE:?} for {what}"))
}
