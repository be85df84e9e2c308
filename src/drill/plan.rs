//! What goes wrong in a drill, and when: drawn from the seed before anything begins.
//!
//! Guarantees: the same options give the same plan; the outage is whole, and nothing is planned
//! for the quiet at the end.
//!
//! Deliberately doesn't know: the world, and whether anything happens as planned.

use std::{ops::Range, time::Duration};

use fastrand::Rng;

use super::Options;
use crate::simulator::Fault;

/// The outage begins after this share of the time that it leaves.
const OUTAGE_FROM_SHARE: f64 = 0.3;
/// Changes, kills and faults end this long before the end, as a share of the duration.
const QUIET_SHARE: f64 = 0.08;
/// One kill in so many lands amid the start that follows another kill.
const KILLS_PER_AMID_START: usize = 4;
const AMID_START_MAX: Duration = Duration::from_millis(400);
/// Passing faults: one in each of so many parts of the duration, for a good part of it.
const BLIPS: u32 = 16;
const BLIP_SHARE: f64 = 0.4;
/// A blip is at most this long: some of them answer nothing at all.
const BLIP_MAX: Duration = Duration::from_secs(20);

/// When a kill is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// So long after the changes began.
    At(Duration),
    /// So long after the start that followed the kill before.
    AmidStart(Duration),
}

/// A fault that passes, on one lane's hub.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blip {
    pub during: Range<Duration>,
    /// Of the lanes that are not out then, one.
    pub draw: usize,
    pub name: &'static str,
    pub fault: Fault,
}

impl Blip {
    pub fn length(&self) -> Duration {
        self.during.end.saturating_sub(self.during.start)
    }
}

/// All times count from the moment at which changes begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub outage: Range<Duration>,
    pub quiet_from: Duration,
    /// In the order in which they are due.
    pub kills: Vec<Kill>,
    pub poison: Vec<Duration>,
    pub blips: Vec<Blip>,
}

impl Plan {
    pub fn draw(options: &Options) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let quiet_from = options.duration.mul_f64(1.0 - QUIET_SHARE);
        let spare = quiet_from.saturating_sub(options.outage);
        let outage_from = spare.mul_f64(OUTAGE_FROM_SHARE);
        let outage = outage_from..(outage_from + options.outage).min(quiet_from);
        let mut poison = times(&mut rng, options.poison, quiet_from);
        poison.sort_unstable();
        Self {
            kills: kills(&mut rng, options.kills, quiet_from),
            poison,
            blips: blips(&mut rng, quiet_from),
            outage,
            quiet_from,
        }
    }
}

fn times(rng: &mut Rng, count: usize, until: Duration) -> Vec<Duration> {
    (0..count).map(|_| until.mul_f64(rng.f64())).collect()
}

fn kills(rng: &mut Rng, count: usize, until: Duration) -> Vec<Kill> {
    let amid_start = count / KILLS_PER_AMID_START;
    let mut at = times(rng, count - amid_start, until);
    at.sort_unstable();
    let mut kills: Vec<Kill> = at.into_iter().map(Kill::At).collect();
    for _ in 0..amid_start {
        let delay = AMID_START_MAX.mul_f64(rng.f64());
        // After a kill, never before the first.
        let place = rng.usize(1..=kills.len());
        kills.insert(place, Kill::AmidStart(delay));
    }
    kills
}

fn blips(rng: &mut Rng, until: Duration) -> Vec<Blip> {
    let part = until / BLIPS;
    let length = part.mul_f64(BLIP_SHARE).min(BLIP_MAX);
    (0..BLIPS)
        .map(|index| {
            let from = part * index + part.saturating_sub(length).mul_f64(rng.f64());
            let (name, fault) = kinds()[rng.usize(..kinds().len())].clone();
            Blip { during: from..from + length, draw: rng.usize(..), name, fault }
        })
        .collect()
}

fn kinds() -> [(&'static str, Fault); 9] {
    [
        ("throttles half of its requests", Fault::Throttle { ratio: 0.5 }),
        ("answers 503", Fault::Outage),
        ("refuses connections", Fault::Refuse),
        ("resets connections", Fault::Reset),
        ("takes everything and cuts its answers short", Fault::Truncated200),
        ("loses half of its answers", Fault::LostReply { ratio: 0.5 }),
        ("answers 200 with nothing in it", Fault::Empty200),
        ("answers with a web page", Fault::Html200),
        ("never answers", Fault::NeverAnswer),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kills: usize) -> Options {
        let (duration, outage) = (Duration::from_secs(100), Duration::from_secs(40));
        Options { kills, poison: 5, duration, outage, ..Options::new("patchferry".into()) }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        assert_eq!(Plan::draw(&options(20)), Plan::draw(&options(20)));
        let other = Options { seed: 2, ..options(20) };
        assert_ne!(Plan::draw(&options(20)), Plan::draw(&other));
    }

    #[test]
    fn everything_asked_for_is_planned_before_the_quiet() {
        for count in [0, 1, 4, 20, 300] {
            let plan = Plan::draw(&options(count));
            assert_eq!(plan.kills.len(), count);
            let at: Vec<Duration> = plan
                .kills
                .iter()
                .filter_map(|kill| match kill {
                    Kill::At(at) => Some(*at),
                    Kill::AmidStart(_) => None,
                })
                .collect();
            assert!(at.is_sorted() && at.iter().all(|at| *at < plan.quiet_from));
            assert!(!matches!(plan.kills.first(), Some(Kill::AmidStart(_))));
            assert_eq!(plan.outage.start + Duration::from_secs(40), plan.outage.end);
            assert!(plan.outage.end <= plan.quiet_from);
            assert!(plan.poison.is_sorted() && plan.poison.len() == 5);
            assert!(plan.blips.iter().all(|blip| blip.during.end <= plan.quiet_from));
        }
    }
}
