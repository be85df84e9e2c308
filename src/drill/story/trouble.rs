//! The second part of a drill: fleets change, and what is planned goes wrong at its time.

use std::time::Duration;

use tokio::time::Instant;

use super::{Story, ticks};
use crate::{
    demo::{
        story::{Phase, seconds},
        world::{OUTAGE_REGION, World},
    },
    drill::{DrillError, child::Heard, plan::Kill},
    simulator::{Fault, Scope, Service},
};

const CHANGE_INTERVAL: Duration = Duration::from_millis(250);
/// The Region that is out changes so much more.
const OUTAGE_ROUNDS: usize = 3;
/// Share of answers that are lost all along.
const LOST_REPLY_RATIO: f64 = 0.03;
/// Share of findings that fail inside their batch all along.
const PARTIAL_RATIO: f64 = 0.005;

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
    /// What is planned goes wrong while everything changes.
    pub(super) async fn change(&mut self) -> Result<(), DrillError> {
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
    pub(super) fn buried(&mut self, heard: &Heard) {
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
}
