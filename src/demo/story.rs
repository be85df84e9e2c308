//! What happens in a demo, and when.
//!
//! 1. The first sweep: the whole fleet is read, every non-compliant node gets its finding.
//! 2. Change: nodes heal, relapse, change, stop and vanish all the time from here on, and most
//!    changes make an event. One finding is poisoned; one lane's quota is used up by others for a
//!    while.
//! 3. Outage: the hubs of one Region answer 503 while its fleet changes more than ever; in the
//!    middle of it the product is restarted.
//! 4. Recovery: what waited is delivered; then change again.
//! 5. Quiet: changes stop, all lanes are swept once more, everything settles, and is checked.
//!
//! Phases are shares of the duration; the first and the last two end when they are done.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    DemoError, Options, Sabotage, Summary, checks,
    daemon::Daemon,
    meters::{Meters, Moment},
    screen::{Introduction, Screen},
    summary::{Drain, Latencies},
    world::{OUTAGE_REGION, World},
};
use crate::{metrics::LatencySummary, record::UnixMillis};

/// How often everything is looked at and drawn.
const TICK: Duration = Duration::from_millis(100);
/// So often in a row nothing may be under way at the end.
const CALM_LOOKS: u32 = 3;
/// Nodes change in rounds.
const CHANGE_INTERVAL: Duration = Duration::from_millis(250);
/// The Region that is out changes so much more.
const OUTAGE_ROUNDS: usize = 3;
/// A lane backs off by at most a minute; whatever takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(300);

const CHANGE_SHARE: f64 = 0.22;
const POISON_SHARE: f64 = 0.04;
const THROTTLED_FROM_SHARE: f64 = 0.08;
const THROTTLED_UNTIL_SHARE: f64 = 0.18;
const OUTAGE_SHARE: f64 = 0.33;
/// Of the outage.
const RESTART_SHARE: f64 = 0.6;
const QUIET_FROM_SHARE: f64 = 0.85;
const CHANGE_AGAIN_SHARE: f64 = 0.05;

/// What was measured on the way and is judged at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub first_sweep: Duration,
    pub latencies: Latencies,
    pub outage: Duration,
    pub restart: Duration,
    /// Versions that each hub took in during the outage.
    pub delivered_in_outage: Vec<u64>,
    /// Findings that waited in each lane when the process was stopped, and right after its start.
    pub waiting_over_restart: (u64, u64),
    /// One per lane of the Region that was out.
    pub drains: Vec<Drain>,
    pub is_settled: bool,
    /// Between two sweeps of a lane.
    pub poll_interval: Duration,
}

/// See the module.
pub(super) struct Story {
    duration: Duration,
    keep: bool,
    json: bool,
    sabotage: Sabotage,
    shutdown: CancellationToken,
    world: World,
    daemon: Daemon,
    meters: Meters,
    screen: Screen,
    began: Instant,
    phase: Phase,
    /// Rounds of changes in the Region of the outage; 0: nothing changes anywhere.
    rounds: usize,
    changed_at: Instant,
    evidence: Evidence,
}

/// What is shown as happening now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub name: &'static str,
    /// When it is planned to end; `None`: when it is done.
    pub until: Option<Instant>,
}

impl Story {
    pub async fn begin(
        options: &Options,
        state_dir: &Path,
        sabotage: Sabotage,
        shutdown: CancellationToken,
    ) -> Result<Self, DemoError> {
        let world =
            World::start(options.seed, options.nodes).await.map_err(DemoError::Simulator)?;
        let screen = Screen::open(&world, options.duration);
        let daemon = Box::pin(Daemon::start(&world, state_dir, options.duration)).await?;
        let introduction = Introduction {
            what: "demo: the real product against a simulated AWS in this same process.",
            seed: options.seed,
            http_url: daemon.http_url(),
            state_dir,
        };
        screen.introduce(&world, &introduction);
        let began = Instant::now();
        Ok(Self {
            duration: options.duration,
            keep: options.keep,
            json: options.json,
            sabotage,
            shutdown,
            meters: Meters::new(&world),
            world,
            daemon,
            screen,
            began,
            phase: Phase { name: "first sweep", until: None },
            rounds: 0,
            changed_at: began,
            evidence: Evidence::default(),
        })
    }

    /// Tells it all, and what it came to.
    pub async fn tell(&mut self) -> Result<Summary, DemoError> {
        self.first_sweep().await?;
        self.change().await?;
        Box::pin(self.outage()).await?;
        self.recovery().await?;
        self.quiet().await?;
        let summary = self.judge().await?;
        if self.keep {
            self.stay(&summary).await?;
        }
        Ok(summary)
    }

    /// Stops the product in order, whatever has happened before.
    pub async fn end(&mut self) -> Result<(), DemoError> {
        self.screen.close();
        self.daemon.stop().await
    }

    async fn first_sweep(&mut self) -> Result<(), DemoError> {
        self.say("first sweep: every node is read, every non-compliant one gets its finding");
        self.until(PATIENCE, |moment| {
            moment.queued == 0 && moment.lanes.iter().all(|lane| lane.sweeps >= 1)
        })
        .await?;
        self.evidence.first_sweep = self.began.elapsed();
        let findings = self.world.control.stats_total().accepted;
        let nodes: usize = self.world.lanes.iter().map(|lane| lane.nodes).sum();
        self.say(&format!(
            "first sweep done: {nodes} nodes read, {findings} findings delivered in {}",
            seconds(self.evidence.first_sweep)
        ));
        Ok(())
    }

    async fn change(&mut self) -> Result<(), DemoError> {
        let start = Instant::now();
        let until = start + self.share(CHANGE_SHARE);
        self.enter("change", Some(until));
        self.rounds = 1;
        self.world.tell_and_lose();
        self.say(&format!(
            "from now on nodes heal, relapse, stop and vanish all the time; events tell of most of \
             it, a sweep every {} of the rest",
            seconds(self.daemon.poll_interval())
        ));
        self.pass(start + self.share(POISON_SHARE)).await?;
        let name = self.world.poison_one(0).unwrap_or_else(|| "none".into());
        self.say(&format!("the hub will call the finding of {name} invalid: a poison"));
        self.pass(start + self.share(THROTTLED_FROM_SHARE)).await?;
        let lane = &self.world.lanes[self.world.throttled_lane()].sim;
        let text = format!("others use up the quota of {lane}: half of its requests get a 429");
        self.world.set_throttled(true);
        self.say(&text);
        self.pass(start + self.share(THROTTLED_UNTIL_SHARE)).await?;
        self.world.set_throttled(false);
        self.say("the quota is free again");
        self.pass(until).await
    }

    async fn outage(&mut self) -> Result<(), DemoError> {
        let start = Instant::now();
        let until = start + self.share(OUTAGE_SHARE);
        self.enter("outage", Some(until));
        self.evidence.latencies.before_outage = self.latency();
        let before = self.look().await?;
        self.world.set_outage(true);
        self.rounds = OUTAGE_ROUNDS;
        self.say(&format!(
            "OUTAGE: Security Hub of {OUTAGE_REGION} answers 503; its nodes go on changing"
        ));
        self.pass(start + self.share(OUTAGE_SHARE).mul_f64(RESTART_SHARE)).await?;
        self.restart().await?;
        self.pass(until).await?;
        let after = self.look().await?;
        self.evidence.outage = start.elapsed();
        self.evidence.delivered_in_outage = after
            .lanes
            .iter()
            .zip(&before.lanes)
            .map(|(after, before)| after.delivered - before.delivered)
            .collect();
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), DemoError> {
        let began = Instant::now();
        let moment = self.look().await?;
        let before = self.waiting_out(&moment);
        self.say(&format!("patchferry is stopped and started again, {before} findings waiting"));
        Box::pin(self.daemon.restart()).await?;
        self.meters.restarted();
        let moment = self.look().await?;
        let after = self.waiting_out(&moment);
        self.evidence.restart = began.elapsed();
        self.evidence.waiting_over_restart = (before, after);
        let took = seconds(self.evidence.restart);
        self.say(&format!("it is back after {took}: {after} findings still wait"));
        Ok(())
    }

    async fn recovery(&mut self) -> Result<(), DemoError> {
        self.enter("recovery", None);
        self.world.set_outage(false);
        self.rounds = 1;
        let (start, recovered) = (Instant::now(), self.look().await?);
        let mut drains = self.begin_drains(&recovered);
        self.say(&format!(
            "the hubs of {OUTAGE_REGION} are back; {} findings wait for the next probe",
            self.waiting_out(&recovered)
        ));
        let control = self.world.control.clone();
        let sims: Vec<_> = self.world.lanes.iter().map(|lane| lane.sim.clone()).collect();
        self.until(PATIENCE, |moment| {
            for (index, drain) in &mut drains {
                let lane = &moment.lanes[*index];
                drain.look(
                    start.elapsed(),
                    is_drained(lane.oldest_since, recovered.at),
                    lane.delivered - recovered.lanes[*index].delivered,
                    control.stats(&sims[*index]).import_requests_since_mark,
                );
            }
            drains.iter().all(|(_, drain)| drain.drained_after.is_some())
        })
        .await?;
        self.evidence.drains = drains.into_iter().map(|(_, drain)| drain).collect();
        for drain in self.evidence.drains.clone() {
            self.say(&drain.to_string());
        }
        let quiet_from = self.began + self.share(QUIET_FROM_SHARE);
        let until = quiet_from.max(Instant::now() + self.share(CHANGE_AGAIN_SHARE));
        self.enter("change", Some(until));
        self.pass(until).await
    }

    /// Requests are counted from here on.
    fn begin_drains(&self, recovered: &Moment) -> Vec<(usize, Drain)> {
        self.world.control.mark();
        (0..self.world.lanes.len())
            .filter(|index| self.world.is_hit_by_outage(*index))
            .map(|index| {
                let lane = self.world.lanes[index].sim.to_string();
                (index, Drain::begin(lane, recovered.lanes[index].waiting))
            })
            .collect()
    }

    async fn quiet(&mut self) -> Result<(), DemoError> {
        self.enter("quiet", None);
        self.rounds = 0;
        self.say("no more changes: a last sweep of every lane, then everything settles");
        // The first sweep to end may have passed a node before its last change.
        for _ in 0..2 {
            let wanted: Vec<u64> =
                self.look().await?.lanes.iter().map(|lane| lane.sweeps + 1).collect();
            self.daemon.app().sweep_now();
            self.until(PATIENCE, |moment| {
                moment.lanes.iter().zip(&wanted).all(|(lane, it)| lane.sweeps >= *it)
            })
            .await?;
        }
        // Events of nodes that SSM can't tell of any more come again for a while, and tell nothing.
        let mut calm_looks = 0;
        self.evidence.is_settled = self
            .until(PATIENCE, |moment| {
                calm_looks = if moment.queued == 0 { calm_looks + 1 } else { 0 };
                calm_looks >= CALM_LOOKS
            })
            .await?;
        Ok(())
    }

    async fn judge(&mut self) -> Result<Summary, DemoError> {
        if self.sabotage == Sabotage::ForgetFinding {
            self.world.forget_finding();
        }
        self.evidence.latencies.since_restart = self.latency();
        self.evidence.poll_interval = self.daemon.poll_interval();
        let app = self.daemon.app();
        let run = self.began.elapsed();
        checks::judge(app, &self.world, &self.meters, &self.evidence, run)
            .await
            .map_err(DemoError::Read)
    }

    async fn stay(&mut self, summary: &Summary) -> Result<(), DemoError> {
        let text = if self.json { summary.to_json() } else { summary.to_text() };
        self.screen.print(&text);
        self.enter("running on", None);
        self.rounds = 1;
        let url = self.daemon.http_url().unwrap_or_default();
        self.say(&format!("it runs on, and so do the changes; page and metrics: {url}"));
        self.say("Ctrl-C ends it");
        match self.until(Duration::MAX, |_| false).await {
            Err(DemoError::Interrupted) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Goes on until `end`.
    async fn pass(&mut self, end: Instant) -> Result<(), DemoError> {
        let left = end.saturating_duration_since(Instant::now());
        self.until(left, |_| false).await.map(drop)
    }

    /// Goes on until something is reached; `false` if it wasn't within `limit`.
    async fn until(
        &mut self,
        limit: Duration,
        mut is_reached: impl FnMut(&Moment) -> bool,
    ) -> Result<bool, DemoError> {
        let start = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while start.elapsed() < limit {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(DemoError::Interrupted),
                failure = self.daemon.app_mut().failed() => return Err(DemoError::Failed(failure)),
                _ = ticks.tick() => {}
            }
            if self.rounds > 0 && self.changed_at.elapsed() >= CHANGE_INTERVAL {
                self.changed_at = Instant::now();
                self.world.change(self.rounds);
            }
            let moment = self.look().await?;
            self.screen.draw(self.began.elapsed(), self.phase, &moment);
            if is_reached(&moment) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn look(&mut self) -> Result<Moment, DemoError> {
        self.meters.look(self.daemon.app(), &self.world).await.map_err(DemoError::Read)
    }

    fn waiting_out(&self, moment: &Moment) -> u64 {
        let lanes = moment.lanes.iter().enumerate();
        lanes.filter(|(i, _)| self.world.is_hit_by_outage(*i)).map(|(_, lane)| lane.waiting).sum()
    }

    fn latency(&self) -> Option<LatencySummary> {
        self.daemon.app().metrics().latency_summary()
    }

    fn share(&self, share: f64) -> Duration {
        self.duration.mul_f64(share)
    }

    fn enter(&mut self, name: &'static str, until: Option<Instant>) {
        self.phase = Phase { name, until };
    }

    fn say(&self, text: &str) {
        self.screen.say(self.began.elapsed(), text);
    }
}

/// Nothing that waited when the hub came back waits any more.
fn is_drained(oldest_since: Option<UnixMillis>, recovered_at: UnixMillis) -> bool {
    oldest_since.is_none_or(|since| since > recovered_at)
}

/// As in `0.4 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}
