//! What happens in a drill.
//!
//! 1. First sweep: the whole fleet is read, every non-compliant node gets its finding.
//! 2. Change: fleets change all the time, and what is planned goes wrong: kills, an outage, poison,
//!    passing faults; besides, all hubs are slow and lose some answers all along.
//! 3. Quiet: all faults end, all lanes are swept twice more, everything settles.
//! 4. The child is stopped in order, its store is opened here, and everything is checked.

use std::{fs, io, path::Path, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    DrillError, Options, Sabotage, Summary,
    child::{Heard, Life, Site},
    plan::{Kill, Plan},
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
        story::{Phase, seconds},
        truth::Truth,
        world::{OUTAGE_REGION, World},
    },
    metrics::LaneState,
    queue::QueueError,
    record::{Clock, UnixMillis},
    simulator::{Fault, Scope, Service},
    store::SpaceLimits,
};

/// Kills are due at instants; whatever else happens in between can wait so long.
const TICK: Duration = Duration::from_millis(10);
const CHANGE_INTERVAL: Duration = Duration::from_millis(250);
/// The Region that is out changes so much more.
const OUTAGE_ROUNDS: usize = 3;
/// A lane backs off by at most a minute; whatever takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(300);
/// A start that takes longer hangs.
const READY_MAX: Duration = Duration::from_secs(60);
/// In-flight requests may take 10 s to end, the rest is quick.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Share of answers that are lost all along.
const LOST_REPLY_RATIO: f64 = 0.03;
/// Share of findings that fail inside their batch all along.
const PARTIAL_RATIO: f64 = 0.005;
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

/// What of the plan has happened.
#[derive(Default)]
struct Done {
    kills: usize,
    poison: usize,
    blips: usize,
    /// The lane of the blip that lasts.
    blip: Option<usize>,
    outage: Option<Vec<u64>>,
    outage_is_over: bool,
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

    async fn change(&mut self) -> Result<(), DrillError> {
        let start = Instant::now();
        self.phase = Phase { name: "change", until: Some(start + self.plan.quiet_from) };
        self.say(&format!(
            "from now on everything changes; {} kills, {} poisoned findings and an outage of {} \
             are planned, and all hubs lose some answers",
            self.plan.kills.len(),
            self.plan.poison.len(),
            seconds(self.options.outage),
        ));
        let imports = Scope::of(Service::SecurityHub).operation("BatchImportFindings");
        let control = self.world.control.clone();
        control.set_fault(imports.clone(), Some(Fault::LostReply { ratio: LOST_REPLY_RATIO }));
        let code = "InternalFailure".to_string();
        control.set_fault(imports, Some(Fault::Partial { ratio: PARTIAL_RATIO, code }));
        let mut done = Done::default();
        let mut ticks = ticks();
        while start.elapsed() < self.plan.quiet_from || done.kills < self.plan.kills.len() {
            self.tick(&mut ticks).await?;
            let now = start.elapsed();
            let out = done.outage.is_some() && !done.outage_is_over;
            self.change_fleets(if out { OUTAGE_ROUNDS } else { 1 });
            self.poison(now, &mut done);
            self.outage(now, &mut done);
            self.blips(now, &mut done);
            self.kills(now, &mut done).await?;
        }
        self.outage(Duration::MAX, &mut done);
        self.blips(Duration::MAX, &mut done);
        Ok(())
    }

    fn change_fleets(&mut self, outage_rounds: usize) {
        if self.changed_at.elapsed() >= CHANGE_INTERVAL {
            self.changed_at = Instant::now();
            self.world.change(outage_rounds);
        }
    }

    fn poison(&mut self, now: Duration, done: &mut Done) {
        while self.plan.poison.get(done.poison).is_some_and(|at| *at <= now) {
            let lane = done.poison % self.world.lanes.len();
            done.poison += 1;
            if let Some(node) = self.world.poison_one(lane) {
                self.say(&format!("the hub will call the finding of {node} invalid: a poison"));
            }
        }
    }

    fn outage(&mut self, now: Duration, done: &mut Done) {
        let accepted = |world: &World| -> Vec<u64> {
            world.lanes.iter().map(|lane| world.control.stats(&lane.sim).accepted).collect()
        };
        match &done.outage {
            None if now >= self.plan.outage.start && !self.options.outage.is_zero() => {
                done.outage = Some(accepted(&self.world));
                self.world.set_outage(true);
                self.phase.name = "outage";
                self.say(&format!("OUTAGE: Security Hub of {OUTAGE_REGION} answers 503"));
            }
            Some(before) if now >= self.plan.outage.end && !done.outage_is_over => {
                let after = accepted(&self.world);
                self.evidence.delivered_in_outage =
                    after.iter().zip(before).map(|(after, before)| after - before).collect();
                done.outage_is_over = true;
                self.world.set_outage(false);
                self.phase.name = "recovery";
                self.say(&format!("the hubs of {OUTAGE_REGION} are back"));
            }
            _ => {}
        }
    }

    fn blips(&mut self, now: Duration, done: &mut Done) {
        let Some(blip) = self.plan.blips.get(done.blips).cloned() else { return };
        match done.blip {
            Some(lane) if now >= blip.during.end => {
                done.blip = None;
                done.blips += 1;
                if !self.is_out(lane, done) {
                    self.world.set_hub_fault(lane, None);
                }
            }
            None if now >= blip.during.end => done.blips += 1,
            None if now >= blip.during.start => {
                let lanes = 0..self.world.lanes.len();
                let free: Vec<usize> = lanes.filter(|lane| !self.is_out(*lane, done)).collect();
                let lane = free[blip.draw % free.len()];
                done.blip = Some(lane);
                self.world.set_hub_fault(lane, Some(blip.fault.clone()));
                let name = self.world.lanes[lane].sim.to_string();
                let length = seconds(blip.length());
                self.say(&format!("for {length} the hub of {name} {}", blip.name));
            }
            _ => {}
        }
    }

    fn is_out(&self, lane: usize, done: &Done) -> bool {
        done.outage.is_some() && !done.outage_is_over && self.world.is_hit_by_outage(lane)
    }

    async fn kills(&mut self, now: Duration, done: &mut Done) -> Result<(), DrillError> {
        let Some(kill) = self.plan.kills.get(done.kills) else { return Ok(()) };
        let due = match *kill {
            Kill::At(at) => now >= at,
            Kill::AmidStart(after) => {
                self.life.as_ref().is_some_and(|life| life.started_at.elapsed() >= after)
            }
        };
        if due {
            done.kills += 1;
            self.kill(done.kills).await?;
        }
        Ok(())
    }

    async fn kill(&mut self, number: usize) -> Result<(), DrillError> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let imports = self.world.control.imports_in_flight();
        let lived = life.started_at.elapsed();
        let heard = life.kill().await.map_err(|error| self.child_error(error))?;
        let kills = &mut self.evidence.kills;
        kills.total += 1;
        kills.amid_start += u64::from(heard.ready_after.is_none());
        kills.with_requests_in_flight += u64::from(imports > 0);
        let moment = match heard.ready_after {
            None => "amid its start",
            Some(_) if imports > 0 => "with requests in flight",
            Some(_) => "between requests",
        };
        self.say(&format!(
            "KILL {number} of {}, {moment}, {} after its start",
            self.plan.kills.len(),
            seconds(lived)
        ));
        self.buried(&heard);
        self.after_kill = true;
        self.start()
    }

    /// Takes up what a life that has ended leaves as evidence.
    fn buried(&mut self, heard: &Heard) {
        let evidence = &mut self.evidence;
        evidence.rss_bytes_max = evidence.rss_bytes_max.max(heard.rss_bytes_max);
        evidence.errors.extend(heard.errors.iter().cloned());
        if !self.after_kill {
            return;
        }
        evidence.ready_after.extend(heard.ready_after);
        evidence.delivered_after.extend(heard.delivered_after);
        evidence.kills.found_work += u64::from(heard.queued_at_start > 0);
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
