//! The only wiring: from a configuration to running stages, and back to a closed store.
//!
//! - [`settings`]: what of the configuration each stage is told.
//! - [`lanes`]: which lanes are served, and their tasks; [`fleet`]: those that are.
//! - [`discovery`]: lanes of the organization's accounts.
//! - [`events`]: which queues events come from.
//! - [`housekeeping`]: forgetting what nobody needs any more.
//! - [`ingest`]: lines that somebody hands in.
//! - [`reconcile`]: comparing a hub with the ledger when an operator asks for it.
//! - [`observe`]: gauges and status, from what the stages leave behind.
//! - [`round`]: one sweep of each lane and its delivery, then no more.
//! - [`dry_run`]: the same on a store of its own, without sending anything.
//! - [`retire`]: a way to the hub of a lane that isn't served any more.
//! - [`tenure`]: whether lanes have to be read back, and a sign of life for the next start.
//! - [`watchdog`]: ends a process whose commits hang.
//! - [`check`]: what must be so before a start, tried out.
//! - [`offline`]: the same store, looked at while no daemon runs.
//! - [`policy`]: what identities need to be granted for a configuration.
//! - [`maintenance`]: what is done to a store itself, while no daemon runs.

pub mod check;
mod discovery;
pub mod dry_run;
mod events;
mod fleet;
mod housekeeping;
pub mod ingest;
mod lanes;
pub mod maintenance;
mod observe;
pub mod offline;
pub mod policy;
mod reconcile;
mod retire;
pub mod round;
mod settings;
mod tenure;
mod watchdog;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{discovery::Discovery, fleet::Fleet, observe::Observer};
pub use self::{events::ServedQueue, fleet::ServedLane};
use crate::{
    admin::{
        handler::Admin,
        http::{HttpState, StatusSource as _, serve},
        socket,
        status::Status,
    },
    aws::{Aws, AwsError},
    config::Config,
    failpoint::{self, FailPoint},
    metrics::{BuildInfo, Metrics},
    migrations,
    pipeline::{deliver::Preview, session::Checks, transform::Transform, validate::Validate},
    queue::{QueueError, Queues, Retention},
    record::{Clock, Lane, UnixMillis},
    store::{self, OpenError, OpenOptions, SpaceLimits, Store, StoreError},
};

/// Everything in flight must have ended this long after shutdown began.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// What a daemon is started with.
pub struct Options {
    pub config: Config,
    pub aws: Aws,
    pub clock: Clock,
    /// Whether to listen on the admin socket and on TCP.
    pub listen: bool,
}

/// What an app is started for.
enum Purpose {
    Daemon,
    /// One round, which begins each lane's sweep itself. With `preview`, findings end there instead
    /// of in their hubs.
    Round {
        preview: Option<Preview>,
    },
}

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(
        "no lanes are configured, so patchferry serves the caller's own account and Region; but whose account that is can't be found out"
    )]
    Identity(#[source] AwsError),
    #[error(
        "the organization's accounts can't be listed, and no list of an earlier time is kept: {0}"
    )]
    Organization(String),
    #[error(
        "no Region is set: set AWS_REGION, or a profile with a Region, or [[lanes]] in the configuration"
    )]
    NoRegion,
    #[error(
        "can't listen on {address}: choose another with http.listen, or stop what listens there"
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("can't listen on the admin socket {path}")]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A running daemon.
pub struct App {
    observer: Arc<Observer>,
    fleet: Arc<Fleet>,
    tasks: JoinSet<Result<(), QueueError>>,
    services: JoinSet<()>,
    shutdown: CancellationToken,
    http_address: Option<SocketAddr>,
    fatal: watch::Receiver<Option<StoreError>>,
}

/// Opens and migrates a store, and opens its queues. Blocks while it reads.
pub fn open_queues(
    state_dir: &Path,
    limits: SpaceLimits,
    clock: Clock,
) -> Result<Queues, StartError> {
    let opened = store::open(&OpenOptions { state_dir: state_dir.to_path_buf() })?;
    let (current, _) = migrations::migrate(opened)?;
    let store = Store::start(current, limits)?;
    Ok(Queues::open(store, clock)?)
}

impl App {
    /// Opens the store, finds out the lanes, and starts all stages.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Box::pin(Self::start_as(options, Purpose::Daemon)).await
    }

    /// Whatever fails once the store is open closes it again.
    async fn start_as(options: Options, purpose: Purpose) -> Result<Self, StartError> {
        let (config, clock) = (&options.config, options.clock.clone());
        let (state_dir, limits) = (config.state_dir.clone(), settings::space(config));
        let queues = tokio::task::spawn_blocking(move || open_queues(&state_dir, limits, clock))
            .await
            .map_err(|_| QueueError::Store(StoreError::Poisoned))??;
        let started = Box::pin(Self::start_on(queues.clone(), options, purpose)).await;
        if started.is_err()
            && let Err(error) = queues.close().await
        {
            tracing::warn!(%error, "the store could not be closed");
        }
        started
    }

    async fn start_on(
        queues: Queues,
        options: Options,
        purpose: Purpose,
    ) -> Result<Self, StartError> {
        let Options { config, aws, clock, listen } = options;
        let started_at = clock.now();
        let metrics = Metrics::new(BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("PATCHFERRY_REVISION").unwrap_or("unknown"),
        });
        let commits = Arc::clone(&metrics);
        queues.store().observe_commits(move |seconds| commits.store_commit_seconds.record(seconds));

        watchdog::watch(&queues.store().pulse());

        let shutdown = CancellationToken::new();
        let is_round = matches!(purpose, Purpose::Round { .. });
        let lane_configs = lanes::resolve(&config, &aws).await?;
        let organization = discovery::at_start(&config, &aws, started_at, is_round).await?;
        let found = organization.known.as_ref().map(|known| discovery::lanes_of(&config, known));
        let served = [lane_configs.clone(), found.unwrap_or_default()].concat();
        let owner = tenure::take_up(&queues, &served, config.shard).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(tenure::run(queues.clone(), owner, shutdown.clone()));
        spawn_middle(&mut tasks, &queues, &metrics, &config, &shutdown);
        let retention = Retention { receipts_kept: config.store.receipts_kept };
        tasks.spawn(housekeeping::run(queues.clone(), retention, shutdown.clone()));
        let config = Arc::new(config);
        let (spread, preview) = match purpose {
            Purpose::Daemon => (lanes::start_spread(served.len()), None),
            Purpose::Round { preview } => (round::NEVER, preview),
        };
        let shared = lanes::Shared {
            config: Arc::clone(&config),
            aws: Arc::new(aws),
            queues: queues.clone(),
            metrics: Arc::clone(&metrics),
            checks: Checks::default(),
            preview,
        };
        let fleet = Arc::new(Fleet::default());
        for lane in lane_configs {
            fleet.insert(lanes::spawn(&mut tasks, lane, &shared, spread, &shutdown).await);
        }
        let discovery = Discovery::new(shared.clone(), Arc::clone(&fleet), is_round);
        let discovery = match discovery {
            Some((discovery, status)) => {
                let begun = discovery.begin(organization, &shutdown).await;
                tasks.spawn(begun.run(shutdown.clone()));
                Some(status)
            }
            None => None,
        };
        let event_queues = events::spawn(&mut tasks, &fleet, &shared, &shutdown);
        let observer =
            Observer::new(shared, Arc::clone(&fleet), event_queues, discovery, started_at);
        let observer = Arc::new(observer);
        observer.refresh().await;

        let mut app = Self {
            fatal: queues.store().fatal(),
            observer,
            fleet,
            tasks,
            services: JoinSet::new(),
            shutdown,
            http_address: None,
        };
        app.spawn_services();
        if listen {
            app.listen(&config).await?;
        }
        Ok(app)
    }

    fn spawn_services(&mut self) {
        let (observer, shutdown) = (Arc::clone(&self.observer), self.shutdown.clone());
        self.services.spawn(async move { observer.run(shutdown).await });
    }

    async fn listen(&mut self, config: &Config) -> Result<(), StartError> {
        let address = config.http.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        self.http_address = listener.local_addr().ok();
        let state = HttpState {
            metrics: Arc::clone(&self.observer.metrics),
            source: Arc::clone(&self.observer) as Arc<_>,
            allowed_hosts: config.http.allowed_hosts.clone(),
        };
        let shutdown = self.shutdown.clone();
        self.services.spawn(async move {
            if let Err(error) = serve(listener, state, shutdown).await {
                tracing::error!(%error, "the HTTP server has ended");
            }
        });
        let path = socket::path(&config.state_dir);
        let socket = socket::bind(&path)
            .map_err(|source| StartError::Socket { path: path.clone(), source })?;
        let host = Arc::clone(&self.observer) as Arc<_>;
        let shutdown = self.shutdown.clone();
        let admin = Admin::new(self.queues().clone(), config.clone(), host, shutdown.clone());
        self.services.spawn(socket::serve(socket, Arc::new(admin), shutdown));
        Ok(())
    }

    /// The lanes that are served now, by name.
    pub fn lanes(&self) -> Vec<Arc<ServedLane>> {
        self.fleet.all()
    }

    pub fn lane(&self, lane: &Lane) -> Option<Arc<ServedLane>> {
        self.fleet.get(lane)
    }

    /// Queues that events come from.
    pub fn event_queues(&self) -> &[ServedQueue] {
        &self.observer.event_queues
    }

    pub fn queues(&self) -> &Queues {
        &self.observer.queues
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.observer.metrics
    }

    /// Where the HTTP server listens, if it does.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    pub async fn status(&self) -> Status {
        self.observer.status().await
    }

    /// Brings all gauges up to date now, rather than within seconds.
    pub async fn refresh_metrics(&self) {
        self.observer.refresh().await;
    }

    /// Has every lane swept at once.
    pub fn sweep_now(&self) {
        for lane in self.lanes() {
            lane.trigger.notify_one();
        }
    }

    /// Waits until the daemon can't go on: the store has failed, or a stage has ended by itself.
    pub async fn failed(&mut self) -> Failure {
        let mut fatal = self.fatal.clone();
        tokio::select! {
            error = async {
                match fatal.wait_for(Option::is_some).await {
                    Ok(error) => error.clone().unwrap_or(StoreError::Poisoned),
                    Err(_) => StoreError::Poisoned,
                }
            } => Failure::Store(error),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(QueueError::Store(error)))) => Failure::Store(error),
                Some(Ok(Err(error @ QueueError::Decode(_)))) => Failure::Stage(error.to_string()),
                Some(Err(panicked)) => Failure::Stage(panicked.to_string()),
                Some(Ok(Ok(()))) | None => Failure::Stage("a stage ended by itself".into()),
            },
        }
    }

    /// Stops claiming, lets what is in flight end, and closes the store.
    pub async fn shutdown(mut self) -> Result<(), StoreError> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(SHUTDOWN_MAX, async {
            while self.tasks.join_next().await.is_some() {}
            while self.services.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            tracing::warn!("some requests did not end in time: what they carried is sent again");
            self.tasks.shutdown().await;
            self.services.shutdown().await;
        }
        failpoint::reach(FailPoint::ShutdownDrained);
        let queues = self.observer.queues.clone();
        drop(self);
        queues.close().await
    }

    /// Since when it runs.
    pub fn started_at(&self) -> UnixMillis {
        self.observer.started_at
    }
}

/// Why a daemon can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the store has failed")]
    Store(#[source] StoreError),
    #[error("a stage has failed, a defect: {0}")]
    Stage(String),
}

fn spawn_middle(
    tasks: &mut JoinSet<Result<(), QueueError>>,
    queues: &Queues,
    metrics: &Arc<Metrics>,
    config: &Config,
    shutdown: &CancellationToken,
) {
    let validate = Validate {
        queues: queues.clone(),
        metrics: Arc::clone(metrics),
        unspecified: settings::unspecified_severity(config),
    };
    tasks.spawn(validate.run(shutdown.clone()));
    let transform = Transform {
        queues: queues.clone(),
        metrics: Arc::clone(metrics),
        policy: Arc::new(settings::policy(config)),
    };
    tasks.spawn(transform.run(shutdown.clone()));
}
