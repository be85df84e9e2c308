//! Lanes of the organization's accounts: taken into service as accounts appear, given up as they
//! vanish.
//!
//! Guarantees: what is configured under `[[lanes]]` stays as it is there; the last list that was
//! read is kept in the state directory (0600) and serves while the organization can't be read, at
//! the start too; a list without any account changes nothing. A lane given up is orphaned: what
//! waits there is kept, nothing is resolved, and its hub is read back before anything is sent if it
//! is ever served again.
//!
//! A daemon starts with the last list and asks from then on. A round asks once, before it starts.
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
    StartError,
    fleet::{Fleet, Retiring},
    lanes::{self, Shared},
    round,
};
use crate::{
    admin::status::DiscoveryStatus,
    aws::{Aws, AwsError},
    config::{Config, DiscoveryConfig, LANES_MAX, LaneConfig},
    pipeline::backoff::LaneBackoff,
    queue::QueueError,
    record::{AccountId, Lane, UnixMillis},
};

/// Below the state directory.
const FILE_NAME: &str = "discovery.json";
/// Why a list is of no use.
const NO_ACCOUNT: &str = "the organization lists no active account";

/// The organization's accounts as they were last read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    at_unix_ms: UnixMillis,
    pub accounts: BTreeSet<AccountId>,
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
    /// Lanes that were given up and whose tasks haven't ended: kept out of service until then.
    ending: HashMap<Lane, Option<Retiring>>,
    is_round: bool,
    tasks: JoinSet<(Lane, Result<(), QueueError>)>,
}

/// The lanes that were served when the organization was last read; for when no daemon runs.
pub(super) fn known_lanes(config: &Config) -> Vec<Lane> {
    let Some(known) = last_list(config) else { return Vec::new() };
    lanes_of(config, &known).into_iter().map(|config| config.lane).collect()
}

/// What a start knows of the organization.
#[derive(Default)]
pub(super) struct AtStart {
    pub known: Option<Known>,
    /// Why a round could not list the accounts: what is known is older than the round.
    failure: Option<String>,
}

/// What a start knows of the organization: of a daemon the last list, of a round what AWS says, or
/// the last list if that can't be had.
pub(super) async fn at_start(
    config: &Config,
    aws: &Aws,
    now: UnixMillis,
    is_round: bool,
) -> Result<AtStart, StartError> {
    let Some(discovery) = &config.discovery else { return Ok(AtStart::default()) };
    let last = last_list(config);
    if !is_round {
        return Ok(AtStart { known: last, failure: None });
    }
    let why = match list(aws, discovery).await {
        Ok(accounts) if accounts.is_empty() => NO_ACCOUNT.to_string(),
        Ok(accounts) => {
            let known = Known { at_unix_ms: now, accounts: accounts.into_iter().collect() };
            keep(config.state_dir.join(FILE_NAME), known.clone()).await;
            return Ok(AtStart { known: Some(known), failure: None });
        }
        Err(error) => error.to_string(),
    };
    match last {
        Some(last) => Ok(AtStart { known: Some(last), failure: Some(why) }),
        None => Err(StartError::Organization(why)),
    }
}

/// The last list that was read, if there is one and it can be read.
pub(super) fn last_list(config: &Config) -> Option<Known> {
    config.discovery.as_ref()?;
    let path = config.state_dir.join(FILE_NAME);
    match read(&path) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the last list of accounts can't be read: the organization is asked anew");
            None
        }
    }
}

impl Discovery {
    /// `None` if it isn't configured.
    pub fn new(
        shared: Shared,
        fleet: Arc<Fleet>,
        is_round: bool,
    ) -> Option<(Self, watch::Receiver<DiscoveryStatus>)> {
        let config = shared.config.discovery.clone()?;
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
            ending: HashMap::new(),
            is_round,
            tasks: JoinSet::new(),
        };
        Some((discovery, shown))
    }

    /// Takes the lanes that the start knows into service. Calls nothing.
    pub async fn begin(mut self, at_start: AtStart, shutdown: &CancellationToken) -> Self {
        if let Some(known) = at_start.known {
            self.note(&known);
            self.accounts = known.accounts;
            self.serve(shutdown).await;
        }
        if let Some(why) = at_start.failure {
            self.failed(&why);
        }
        self
    }

    /// Looks after the lanes until shutdown or until the store has failed.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), QueueError> {
        let mut backoff = LaneBackoff::default();
        let mut due = Instant::now() + if self.is_round { round::NEVER } else { Duration::ZERO };
        loop {
            let listed = list_at(due, Arc::clone(&self.shared.aws), self.config.clone());
            let listed = tokio::select! {
                () = shutdown.cancelled() => break,
                // What is being listed is listed anew: a lane seldom ends.
                Some(ended) = self.tasks.join_next() => {
                    self.ended(ended).await?;
                    self.serve(&shutdown).await;
                    continue;
                }
                listed = listed => listed,
            };
            due = Instant::now()
                + match listed {
                    Ok(accounts) if accounts.is_empty() => {
                        self.failed(NO_ACCOUNT);
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

    async fn ended(
        &mut self,
        ended: Result<(Lane, Result<(), QueueError>), JoinError>,
    ) -> Result<(), QueueError> {
        match ended {
            Ok((lane, result)) => {
                result?;
                if self.ending.contains_key(&lane) {
                    // It may be another machine's before it is this one's again.
                    self.shared.queues.begin_read_back(&lane).await?;
                    self.ending.remove(&lane);
                }
                Ok(())
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn take(&mut self, accounts: BTreeSet<AccountId>, shutdown: &CancellationToken) {
        let known = Known { at_unix_ms: self.shared.queues.clock().now(), accounts };
        keep(self.path.clone(), known.clone()).await;
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
        let wanted = own_lanes(&self.shared.config, &self.accounts);
        let gone: Vec<Lane> = {
            let names: BTreeSet<&Lane> = wanted.iter().map(|config| &config.lane).collect();
            self.running.keys().filter(|lane| !names.contains(lane)).cloned().collect()
        };
        for lane in gone {
            if let Some(stop) = self.running.remove(&lane) {
                stop.cancel();
            }
            self.ending.insert(lane.clone(), self.fleet.give_up(&lane));
            tracing::warn!(%lane, "its account is no longer an active one of the organization: the lane is orphaned, what waits there is kept");
        }
        let is_free = |lane: &Lane| self.fleet.is_free(lane) && !self.ending.contains_key(lane);
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
        let spread =
            if self.is_round { round::NEVER } else { lanes::start_spread(new.len().min(room)) };
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
            let next = if self.is_round { "the next run tries again" } else { "it is tried again" };
            tracing::warn!(
                why,
                last_read = last_read.map(UnixMillis::to_rfc3339),
                "the organization's accounts can't be listed: those of the last list are served, {next}"
            );
        }
    }
}

/// The accounts that are active now.
pub(super) async fn list(
    aws: &Aws,
    discovery: &DiscoveryConfig,
) -> Result<Vec<AccountId>, AwsError> {
    let role = discovery.list_role.as_ref().map(lanes::assume_role);
    aws.organization(discovery.partition(), role.as_ref()).await.active_accounts().await
}

async fn list_at(
    due: Instant,
    aws: Arc<Aws>,
    discovery: DiscoveryConfig,
) -> Result<Vec<AccountId>, AwsError> {
    tokio::time::sleep_until(due).await;
    list(&aws, &discovery).await
}

/// The lanes that a start takes into service: as many as there is room for beside those that are
/// configured.
pub(super) fn lanes_of(config: &Config, known: &Known) -> Vec<LaneConfig> {
    let mut lanes = own_lanes(config, &known.accounts);
    let configured = config.lanes.iter().flatten();
    let own = configured.filter(|served| config.shard.shard.owns(&served.lane)).count();
    lanes.truncate(LANES_MAX.saturating_sub(own));
    lanes
}

/// This machine's lanes of these accounts, without those that are configured.
fn own_lanes(config: &Config, accounts: &BTreeSet<AccountId>) -> Vec<LaneConfig> {
    let mut lanes = all_lanes(config, accounts);
    lanes.retain(|found| config.shard.shard.owns(&found.lane));
    lanes
}

/// Every machine's lanes of these accounts, without those that are configured.
pub(super) fn all_lanes(config: &Config, accounts: &BTreeSet<AccountId>) -> Vec<LaneConfig> {
    let Some(discovery) = &config.discovery else { return Vec::new() };
    let configured: HashSet<&Lane> = config.lanes.iter().flatten().map(|it| &it.lane).collect();
    let mut lanes = Vec::new();
    for account in accounts.iter().filter(|account| discovery.is_meant(**account)) {
        for region in &discovery.regions {
            let lane = Lane::new(*account, region.clone());
            if configured.contains(&lane) {
                continue;
            }
            let role = discovery.role_in(&lane).expect("a name gives a role in every account");
            lanes.push(LaneConfig::new(lane, Some(role)));
        }
    }
    lanes
}

async fn keep(path: PathBuf, known: Known) {
    let shown = path.clone();
    let written = tokio::task::spawn_blocking(move || write(&path, &known)).await;
    if let Err(error) = written.map_err(io::Error::other).and_then(|written| written) {
        tracing::warn!(path = %shown.display(), %error, "the list of accounts can't be kept");
    }
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
