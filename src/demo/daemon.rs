//! The product as the demo runs it: the daemon of `run`, configured for the simulated AWS.
//!
//! Guarantees: a restart is a real one: the store is closed and opened again, everything in memory
//! is gone. Real quotas of Security Hub, real store, real HTTP page.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use super::{
    DemoError,
    world::{ACCOUNTS, REGIONS, World},
};
use crate::{
    app::{App, Options, StartError},
    aws::Aws,
    config::{Config, LaneConfig, QueueConfig, Role},
    record::{Clock, Lane},
    simulator::{SECRET_ACCESS_KEY, SimLane, SimQueue, access_key_id},
};

/// Sweeps find what no event tells of. This part of the demo's time is between two of a lane.
const POLL_SHARE: f64 = 0.125;
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Nothing limits the simulated SSM.
const SSM_REQUESTS_PER_SECOND: f64 = 500.0;

/// A free port.
const ANY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// See the module.
pub(super) struct Daemon {
    config: Config,
    endpoint_url: String,
    /// `None` only between two lives, and after the last.
    app: Option<App>,
}

impl Daemon {
    pub async fn start(
        world: &World,
        state_dir: &Path,
        duration: Duration,
    ) -> Result<Self, DemoError> {
        let mut config = Config::defaults(state_dir.join("state"));
        let interval = duration.mul_f64(POLL_SHARE).clamp(POLL_INTERVAL_MIN, POLL_INTERVAL_MAX);
        config.ingest.poll_interval = interval;
        config.ingest.fed_poll_interval = interval;
        config.queues = world.queues().iter().map(queue_config).collect();
        config.ingest.ssm_requests_per_second = SSM_REQUESTS_PER_SECOND;
        config.http.listen = free_address(config.http.listen);
        config.lanes = Some(world.lanes.iter().map(|lane| lane_config(&lane.sim)).collect());
        let mut daemon = Self { config, endpoint_url: world.endpoint_url(), app: None };
        match daemon.start_app().await {
            Err(DemoError::Start(StartError::Listen { .. })) => {
                // Somebody was faster. The store of the first attempt may still be closing.
                daemon.config.http.listen = ANY_ADDRESS;
                daemon.config.state_dir = state_dir.join("state-2");
                daemon.start_app().await?;
            }
            other => other?,
        }
        Ok(daemon)
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().expect("only `restart` and `stop` take the app, and neither shares it")
    }

    pub fn app_mut(&mut self) -> &mut App {
        self.app.as_mut().expect("only `restart` and `stop` take the app, and neither shares it")
    }

    /// Between two sweeps of a lane.
    pub fn poll_interval(&self) -> Duration {
        self.config.ingest.poll_interval
    }

    pub fn http_url(&self) -> Option<String> {
        self.app().http_address().map(|address| format!("http://{address}/"))
    }

    pub async fn restart(&mut self) -> Result<(), DemoError> {
        self.stop().await?;
        self.start_app().await
    }

    pub async fn stop(&mut self) -> Result<(), DemoError> {
        match self.app.take() {
            Some(app) => app.shutdown().await.map_err(DemoError::Close),
            None => Ok(()),
        }
    }

    async fn start_app(&mut self) -> Result<(), DemoError> {
        let key_id = access_key_id(ACCOUNTS[0]);
        let aws = Aws::for_endpoint(&self.endpoint_url, REGIONS[0], &key_id, SECRET_ACCESS_KEY)
            .map_err(DemoError::Http)?;
        let options =
            Options { config: self.config.clone(), aws, clock: Clock::system(), listen: true };
        let app = App::start(options).await.map_err(DemoError::Start)?;
        // The second life listens where the first one did.
        self.config.http.listen = app.http_address().unwrap_or(self.config.http.listen);
        self.app = Some(app);
        Ok(())
    }
}

/// The simulator's lane in the product's terms.
pub(crate) fn lane(sim: &SimLane) -> Lane {
    sim.to_string().parse().expect("the demo's lanes are written down in this module's sibling")
}

fn lane_config(sim: &SimLane) -> LaneConfig {
    let arn = format!("arn:{}:iam::{}:role/patchferry", sim.partition(), sim.account());
    let role = (sim.account() != ACCOUNTS[0]).then_some(Role { arn, external_id: None });
    LaneConfig::new(lane(sim), role)
}

fn queue_config(queue: &SimQueue) -> QueueConfig {
    let written = "the demo's queues are written down in this module's sibling";
    QueueConfig {
        url: queue.url(),
        account: queue.account().parse().expect(written),
        region: queue.region().parse().expect(written),
        role: None,
    }
}

/// The usual address, or a free one if something listens there.
fn free_address(usual: SocketAddr) -> SocketAddr {
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => ANY_ADDRESS,
    }
}
