//! Lanes of the organization's accounts: taken into service as accounts appear, given up as they
//! vanish.
//!
//! Guarantees: what is configured under `[[lanes]]` stays as it is there; the last list that was
//! read is kept in the state directory (0600) and serves while the organization can't be read, at
//! the start too; a list without any account changes nothing. A lane given up is orphaned: what
//! waits there is kept, and nothing is resolved.
//!
//! Deliberately doesn't know: what the lanes do.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    fleet::Fleet,
    lanes::{self, Shared},
};
use crate::{
    admin::status::DiscoveryStatus,
    aws::{Aws, AwsError},
    config::{Config, DiscoveryConfig, LANES_MAX, LaneConfig, Role},
    pipeline::backoff::LaneBackoff,
    queue::QueueError,
    record::{AccountId, Lane, UnixMillis},
};

/// Below the state directory.
const FILE_NAME: &str = "discovery.json";

/// The organization's accounts as they were last read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    at_unix_ms: UnixMillis,
    accounts: BTreeSet<AccountId>,
}

/// See the module.
pub(super) struct Discovery {
    shared: Shared,
    config: DiscoveryConfig,
    fleet: Arc<Fleet>,
    path: PathBuf,
    status: watch::Sender<DiscoveryStatus>,
    /// Of the last list.
    accounts: BTreeSet<AccountId>,
    running: HashMap<Lane, CancellationToken>,
    /// Lanes that were given up and whose tasks haven't ended.
    ending: HashSet<Lane>,
    tasks: JoinSet<(Lane, Result<(), QueueError>)>,
}

/// The lanes that were served when the organization was last read; for when no daemon runs.
pub(super) fn known_lanes(config: &Config) -> Vec<Lane> {
    let Some(discovery) = &config.discovery else { return Vec::new() };
    let known = read(&config.state_dir.join(FILE_NAME)).unwrap_or_default();
    lanes_of(discovery, &known.accounts).into_iter().map(|config| config.lane).collect()
}

impl Discovery {
    pub fn new(
        shared: Shared,
        config: DiscoveryConfig,
        fleet: Arc<Fleet>,
    ) -> (Self, watch::Receiver<DiscoveryStatus>) {
        let (status, shown) = watch::channel(DiscoveryStatus::default());
        let path = shared.config.state_dir.join(FILE_NAME);
        let discovery = Self {
            shared,
            config,
            fleet,
            path,
            status,
            accounts: BTreeSet::new(),
            running: HashMap::new(),
            ending: HashSet::new(),
            tasks: JoinSet::new(),
        };
        (discovery, shown)
    }

    /// Takes the lanes of the last list into service. Calls nothing.
    pub async fn begin(&mut self, shutdown: &CancellationToken) {
        match read(&self.path) {
            Ok(known) => {
                self.note(&known);
                self.accounts = known.accounts;
                self.serve(shutdown).await;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last list of accounts can't be read: the organization is asked anew");
            }
        }
    }

    /// Looks after the lanes until shutdown or until the store has failed.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut backoff = LaneBackoff::default();
        let mut due = Instant::now();
        loop {
            let listed = list(Arc::clone(&self.shared.aws), self.config.clone(), due);
            let listed = tokio::select! {
                () = shutdown.cancelled() => break,
                // What is being listed is listed anew: a lane seldom ends.
                Some(ended) = self.tasks.join_next() => {
                    self.ended(ended)?;
                    self.serve(&shutdown).await;
                    continue;
                }
                listed = listed => listed,
            };
            due = Instant::now()
                + match listed {
                    Ok(accounts) if accounts.is_empty() => {
                        self.failed("the organization lists no active account");
                        backoff.next_delay()
                    }
                    Ok(accounts) => {
                        backoff.reset();
                        self.take(accounts.into_iter().collect(), &shutdown).await;
                        self.config.interval
                    }
                    Err(error) => {
                        self.failed(&error.to_string());
                        backoff.next_delay()
                    }
                };
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((_, Err(error))) = ended {
                return Err(error);
            }
        }
        Ok(())
    }

    fn ended(
        &mut self,
        ended: Result<(Lane, Result<(), QueueError>), JoinError>,
    ) -> Result<(), QueueError> {
        match ended {
            Ok((lane, result)) => {
                self.ending.remove(&lane);
                result
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn take(&mut self, accounts: BTreeSet<AccountId>, shutdown: &CancellationToken) {
        let known = Known { at_unix_ms: self.shared.queues.clock().now(), accounts };
        let (path, kept) = (self.path.clone(), known.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &kept)).await;
        if let Err(error) = written.map_err(io::Error::other).and_then(|written| written) {
            tracing::warn!(path = %self.path.display(), %error, "the list of accounts can't be kept");
        }
        let failure = self.status.borrow().failure.clone();
        if let Some(after) = failure {
            tracing::info!(after, "the organization can be read again");
        }
        self.note(&known);
        self.accounts = known.accounts;
        self.serve(shutdown).await;
    }

    /// Serves the lanes of the accounts that are known, and no others.
    async fn serve(&mut self, shutdown: &CancellationToken) {
        let wanted = lanes_of(&self.config, &self.accounts);
        let gone: Vec<Lane> = {
            let names: BTreeSet<&Lane> = wanted.iter().map(|config| &config.lane).collect();
            self.running.keys().filter(|lane| !names.contains(lane)).cloned().collect()
        };
        for lane in gone {
            if let Some(stop) = self.running.remove(&lane) {
                stop.cancel();
            }
            self.fleet.remove(&lane);
            self.ending.insert(lane.clone());
            tracing::warn!(%lane, "its account is no longer an active one of the organization: the lane is orphaned, what waits there is kept");
        }
        let is_free = |lane: &Lane| self.fleet.is_free(lane) && !self.ending.contains(lane);
        let new: Vec<LaneConfig> =
            wanted.into_iter().filter(|config| is_free(&config.lane)).collect();
        let room = LANES_MAX.saturating_sub(self.fleet.count());
        if new.len() > room {
            tracing::warn!(
                lanes = new.len() - room,
                most = LANES_MAX,
                "lanes of the organization are left out: divide them among daemons"
            );
        }
        let spread = lanes::start_spread(new.len().min(room));
        for config in new.into_iter().take(room) {
            self.spawn(config, spread, shutdown).await;
        }
    }

    async fn spawn(&mut self, config: LaneConfig, spread: Duration, shutdown: &CancellationToken) {
        let stop = shutdown.child_token();
        let mut own = JoinSet::new();
        let served = lanes::spawn(&mut own, config, &self.shared, spread, &stop).await;
        let lane = served.lane.clone();
        self.fleet.insert(served);
        self.running.insert(lane.clone(), stop);
        self.tasks.spawn(async move {
            while let Some(ended) = own.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return (lane, Err(error)),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            (lane, Ok(()))
        });
    }

    fn note(&self, known: &Known) {
        self.status.send_replace(DiscoveryStatus {
            accounts: known.accounts.len() as u64,
            last_read_unix_ms: Some(known.at_unix_ms),
            failure: None,
        });
    }

    fn failed(&self, why: &str) {
        let news = self.status.borrow().failure.is_none();
        self.status.send_modify(|status| status.failure = Some(why.to_string()));
        if news {
            let last_read = self.status.borrow().last_read_unix_ms;
            tracing::warn!(
                why,
                last_read = last_read.map(UnixMillis::to_rfc3339),
                "the organization's accounts can't be listed: those of the last list are served, it \
                 is tried again"
            );
        }
    }
}

async fn list(
    aws: Arc<Aws>,
    config: DiscoveryConfig,
    due: Instant,
) -> Result<Vec<AccountId>, AwsError> {
    tokio::time::sleep_until(due).await;
    let role = config.list_role.clone().map(lanes::assume_role);
    let organization = aws.organization(config.partition(), role.as_ref()).await;
    organization.active_accounts().await
}

fn lanes_of(config: &DiscoveryConfig, accounts: &BTreeSet<AccountId>) -> Vec<LaneConfig> {
    let is_meant = |account: &&AccountId| {
        (config.include.is_empty() || config.include.contains(account))
            && !config.exclude.contains(account)
    };
    let mut lanes = Vec::new();
    for account in accounts.iter().filter(is_meant) {
        for region in &config.regions {
            let lane = Lane::new(*account, region.clone());
            let arn = config.role.arn_for(&lane).expect("a name gives a role in every account");
            let role = Role { arn, external_id: config.external_id.clone() };
            lanes.push(LaneConfig::new(lane, Some(role)));
        }
    }
    lanes
}

fn read(path: &Path) -> io::Result<Known> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// Whole or not at all.
fn write(path: &Path, known: &Known) -> io::Result<()> {
    use std::io::Write as _;
    let new = path.with_extension("json.new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(known).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}
