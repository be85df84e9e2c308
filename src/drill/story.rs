//! What happens in a drill.
//!
//! 1. First sweep: the whole fleet is read, every non-compliant node gets its finding.
//! 2. Change: fleets change all the time, and what is planned goes wrong: kills, an outage, poison,
//!    passing faults; besides, all hubs are slow and lose some answers all along.
//! 3. Quiet: all faults end, all lanes are swept twice more, everything settles.
//! 4. The child is stopped in order, its store is opened here, and everything is checked.

mod trouble;

use std::{fs, io, path::Path, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    DrillError, Options, Sabotage, Summary,
    child::{Life, Site},
    plan::Plan,
    summary::{self, Evidence},
    tail,
};
use crate::{
    admin::status::Status,
    app,
    demo::{
        daemon,
        meters::{LaneMoment, Moment},
        screen::{Introduction, Screen},
        story::Phase,
        truth::Truth,
        world::World,
    },
    metrics::LaneState,
    queue::QueueError,
    record::{Clock, UnixMillis},
    store::SpaceLimits,
};

/// Kills are due at instants; whatever else happens in between can wait so long.
const TICK: Duration = Duration::from_millis(10);
/// A lane backs off by at most a minute; whatever takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(300);
/// A start that takes longer hangs.
const READY_MAX: Duration = Duration::from_secs(60);
/// In-flight requests may take 10 s to end, the rest is quick.
const STOP_MAX: Duration = Duration::from_secs(30);
const SWEEPS_WHEN_QUIET: usize = 2;
const LOG_LINES_SHOWN: usize = 20;

/// See the module.
pub(super) struct Story {
    options: Options,
    plan: Plan,
    sabotage: Sabotage,
    shutdown: CancellationToken,
    world: World,
    site: Site,
    /// `None` only between two lives, and after the last.
    life: Option<Life>,
    screen: Screen,
    began: Instant,
    phase: Phase,
    changed_at: Instant,
    /// The present life follows a kill.
    after_kill: bool,
    evidence: Evidence,
}

impl Story {
    pub async fn begin(
        options: &Options,
        directory: &Path,
        sabotage: Sabotage,
        shutdown: CancellationToken,
    ) -> Result<Self, DrillError> {
        let world =
            World::start(options.seed, options.nodes).await.map_err(DrillError::Simulator)?;
        let failed = |source| DrillError::Directory { path: directory.into(), source };
        let site = Site::prepare(&options.binary, directory, &world).map_err(failed)?;
        let screen = Screen::open(&world, options.duration);
        let introduction = Introduction {
            what: "drill: the real binary, really killed, against a simulated AWS in this process.",
            seed: options.seed,
            http_url: None,
            state_dir: directory,
        };
        screen.introduce(&world, &introduction);
        let began = Instant::now();
        let mut story = Self {
            plan: Plan::draw(options),
            options: options.clone(),
            sabotage,
            shutdown,
            evidence: Evidence::new(world.lanes.len()),
            world,
            site,
            life: None,
            screen,
            began,
            phase: Phase { name: "first sweep", until: None },
            changed_at: began,
            after_kill: false,
        };
        story.start()?;
        Ok(story)
    }

    /// Tells it all, and what it came to.
    pub async fn tell(&mut self) -> Result<Summary, DrillError> {
        self.first_sweep().await?;
        self.change().await?;
        self.quiet().await?;
        self.stop().await?;
        if self.sabotage == Sabotage::ForgetFinding {
            self.world.forget_finding();
        }
        self.judge().await
    }

    /// Whatever has happened before: no child is left, at once, lest a second signal leaves one.
    pub async fn end(&mut self) {
        self.screen.close();
        if let Some(life) = self.life.take() {
            let _ = life.kill().await;
        }
    }

    async fn first_sweep(&mut self) -> Result<(), DrillError> {
        self.say("first sweep: every node is read, every non-compliant one gets its finding");
        self.settle(1).await?;
        let findings = self.world.control.stats_total().accepted;
        self.say(&format!(
            "first sweep done: {} nodes read, {findings} findings delivered",
            self.options.nodes
        ));
        Ok(())
    }

    fn start(&mut self) -> Result<(), DrillError> {
        let life = self.site.start(&self.world).map_err(|error| self.child_error(error))?;
        self.life = Some(life);
        Ok(())
    }

    async fn quiet(&mut self) -> Result<(), DrillError> {
        self.phase = Phase { name: "quiet", until: None };
        self.world.control.clear_faults();
        self.world.worsen_poisoned();
        self.say("no more faults, no more changes: two more sweeps, then everything settles");
        let began = Instant::now();
        self.evidence.is_settled = self.settle(SWEEPS_WHEN_QUIET).await?;
        self.evidence.settled_after = began.elapsed();
        Ok(())
    }

    /// Waits until so many more sweeps of every lane have ended and nothing is queued; `false` if
    /// that takes too long.
    async fn settle(&mut self, sweeps: usize) -> Result<bool, DrillError> {
        let began = Instant::now();
        let mut seen: Vec<Option<UnixMillis>> = Vec::new();
        let mut complete = vec![0; self.world.lanes.len()];
        let mut ticks = ticks();
        while began.elapsed() < PATIENCE {
            self.tick(&mut ticks).await?;
            let Some(status) = self.status() else { continue };
            let last: Vec<_> =
                (status.lanes.iter()).map(|lane| lane.last_complete_sweep_unix_ms).collect();
            for (complete, (seen, last)) in complete.iter_mut().zip(seen.iter().zip(&last)) {
                *complete += usize::from(seen != last);
            }
            seen = last;
            if complete.iter().all(|it| *it >= sweeps) && queued(&status) == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn stop(&mut self) -> Result<(), DrillError> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let began = Instant::now();
        let (status, heard) =
            life.terminate(STOP_MAX).await.map_err(|error| self.child_error(error))?;
        self.evidence.stopped_after = began.elapsed();
        self.evidence.stopped_with = status.and_then(|status| status.code());
        self.buried(&heard);
        self.say("the daemon is stopped in order; its store is opened and everything compared");
        Ok(())
    }

    async fn judge(&mut self) -> Result<Summary, DrillError> {
        let state_dir = self.site.state_dir();
        let left = leftovers(&state_dir)
            .map_err(|source| DrillError::Directory { path: state_dir.clone(), source })?;
        self.evidence.leftovers = left;
        let limits = SpaceLimits { live_bytes_max: u64::MAX, free_bytes_min: 0 };
        let open = tokio::task::spawn_blocking(move || {
            app::open_queues(&state_dir, limits, Clock::system())
        });
        let queues = match open.await {
            Ok(opened) => opened.map_err(DrillError::Open)?,
            Err(_) => return Err(DrillError::Read(QueueError::Store(poisoned()))),
        };
        let truth = Truth::gather(&queues, &self.world).await.map_err(DrillError::Read)?;
        queues.close().await.map_err(DrillError::Close)?;
        Ok(summary::judge(&self.options, &self.world, &truth, &self.evidence, self.began.elapsed()))
    }

    /// One tick: is the child well, what does it say, what is to be shown?
    async fn tick(&mut self, ticks: &mut tokio::time::Interval) -> Result<(), DrillError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(DrillError::Interrupted),
            _ = ticks.tick() => {}
        }
        if let Some(life) = &mut self.life {
            let log = || tail(&self.site.log_path(), LOG_LINES_SHOWN);
            match life.ended() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(DrillError::Ended { status, log: log() }),
                Err(error) => return Err(self.child_error(error)),
            }
            let late = life.started_at.elapsed() > READY_MAX;
            if late && life.heard().ready_after.is_none() {
                return Err(DrillError::NotReady { limit: READY_MAX, log: log() });
            }
        }
        let moment = self.moment();
        for (peak, lane) in self.evidence.waiting_max.iter_mut().zip(&moment.lanes) {
            *peak = (*peak).max(lane.waiting);
        }
        self.screen.draw(self.began.elapsed(), self.phase, &moment);
        Ok(())
    }

    fn status(&self) -> Option<Status> {
        self.life.as_ref().and_then(|life| life.heard().status)
    }

    /// The child's last answer, and the hubs' own counts.
    fn moment(&self) -> Moment {
        let status = self.status();
        let at = status.as_ref().map_or(UnixMillis(0), |status| status.at_unix_ms);
        let lanes = self.world.lanes.iter().map(|world_lane| {
            let lane = daemon::lane(&world_lane.sim);
            let said =
                status.as_ref().and_then(|it| it.lanes.iter().find(|said| said.lane == lane));
            let age = said.and_then(|said| said.oldest_age_seconds);
            LaneMoment {
                state: said.map_or(LaneState::Stopped, |said| said.state),
                waiting: said.map_or(0, |said| said.outbox_findings),
                delivered: self.world.control.stats(&world_lane.sim).accepted,
                oldest_since: age
                    .map(|age| UnixMillis(at.0.saturating_sub_unsigned(age.saturating_mul(1_000)))),
                sweeps: 0,
            }
        });
        Moment { at, lanes: lanes.collect(), queued: status.as_ref().map_or(0, queued) }
    }

    fn child_error(&self, source: io::Error) -> DrillError {
        DrillError::Child { path: self.options.binary.clone(), source }
    }

    fn say(&self, text: &str) {
        self.screen.say(self.began.elapsed(), text);
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn poisoned() -> crate::store::StoreError {
    crate::store::StoreError::Poisoned
}

fn queued(status: &Status) -> u64 {
    status.queues.iter().map(|queue| queue.items).sum()
}

/// What no kill may leave behind: stores that were set aside, and blobs.
fn leftovers(state_dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state_dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("quarantine") {
            found.push(name.clone());
        }
        let blobs = path.join("blobs");
        if blobs.is_dir() && fs::read_dir(&blobs)?.next().is_some() {
            found.push(format!("{name}/blobs isn't empty"));
        }
    }
    Ok(found)
}
