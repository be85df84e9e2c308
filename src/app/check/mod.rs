//! Preflight: everything that must be so for the configuration to work, tried out by calls that
//! change nothing.
//!
//! Guarantees: it may run beside a daemon: the store is never opened, only looked at, and of the
//! lanes' quotas it takes a few requests; nothing is written to a hub, a queue or a node (how an
//! import is tried without one: [`crate::aws::preflight`]); it ends in the time that it is given,
//! whatever hangs; nothing that it tells is secret.
//!
//! Deliberately doesn't know: what a daemon that runs has met so far (that is `status`).
//!
//! - [`machine`]: configuration, state directory, disk, address, credentials, clock.
//! - [`lane`]: a lane's identity, and each action that its statements list.
//! - [`queue`]: a queue of events.
//! - [`organization`]: the organization's accounts.
//! - [`verdict`]: from what AWS answered to a line with advice.
//! - [`predict`]: how many requests a day the lane will make.
//! - [`report`]: what comes out, and as text.

mod lane;
mod machine;
mod organization;
mod predict;
mod queue;
mod report;
mod verdict;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout_at},
};

pub use report::{Item, LaneReport, Outcome, Report};

use super::{lanes, policy};
use crate::{
    aws::{Aws, AwsError, ClockOffset, Fault, connect::CallerIdentity, permissions::Need},
    config::{Config, LaneConfig},
    record::{Lane, Region},
};
use predict::Settings;

/// Lanes under way at a time: what a small machine and STS bear.
const LANES_AT_ONCE: usize = 16;

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these; empty: all that are served.
    pub lanes: Vec<Lane>,
    /// The end, whatever hangs.
    pub time_max: Duration,
}

/// What the check of every lane is told.
struct Shared {
    aws: Aws,
    needs: BTreeSet<Need>,
    product_arn: Option<String>,
    settings: Settings,
    /// Where events come from, and how often lanes are swept there.
    fed: (BTreeSet<Region>, Duration),
    permits: Semaphore,
}

impl Shared {
    fn settings_in(&self, region: &Region) -> Settings {
        let mut settings = self.settings.clone();
        let (regions, poll_interval) = &self.fed;
        if regions.contains(region) {
            settings.poll_interval_seconds = poll_interval.as_secs_f64().max(1.0);
        }
        settings
    }
}

/// Checks everything.
pub async fn check(config: &Config, aws: Aws, options: &Options) -> Report {
    let deadline = Instant::now() + options.time_max;
    let mut machine = machine::of_this_machine(config).await;
    let late = (Err(machine::no_answer_in_time()), None);
    let organization = organization::check(&aws, config, deadline).await;
    let (listing, found) = organization.unzip();
    let found = found.unwrap_or_default();
    let first = config.lanes.iter().flatten().chain(&found).next();
    let (identity, clock) =
        timeout_at(deadline, Box::pin(ask_identity(first, &aws))).await.unwrap_or(late);
    let mut is_aws_reached = !identity.as_ref().is_err_and(is_out_of_reach);
    machine.push(machine::credentials(&identity));
    machine.extend(clock.map(machine::clock));
    machine.extend(listing);
    let served = served(config, found, &aws, identity.ok().as_ref());
    let chosen = |lane: &LaneConfig| options.lanes.is_empty() || options.lanes.contains(&lane.lane);
    let shared = Arc::new(Shared {
        aws,
        needs: policy::needs(config),
        product_arn: config.finding.product_arn.as_ref().map(ToString::to_string),
        settings: Settings::of(config),
        fed: (
            config.queues.iter().map(|queue| queue.region.clone()).collect(),
            config.ingest.fed_poll_interval,
        ),
        permits: Semaphore::new(LANES_AT_ONCE),
    });
    let strangers = options.lanes.iter().filter(|lane| served.iter().all(|it| it.lane != **lane));
    let strangers: Vec<LaneReport> = strangers.cloned().map(LaneReport::not_served).collect();
    machine.extend(check_queues(&shared, config, deadline).await);
    let mut lanes =
        check_lanes(&shared, served.into_iter().filter(chosen).collect(), deadline).await;
    lanes.extend(strangers);
    is_aws_reached |= lanes.iter().any(|lane| lane.is_aws_reached);
    Report::new(config.file.clone(), machine, lanes, is_aws_reached)
}

/// Whose the daemon's own credentials are, asked in a Region that is served.
async fn ask_identity(
    first: Option<&LaneConfig>,
    aws: &Aws,
) -> (Result<CallerIdentity, AwsError>, Option<ClockOffset>) {
    match first {
        Some(first) => aws.lane(&first.lane, None).await.identity().await,
        None => aws.identity().await,
    }
}

/// The lanes that are configured and those that were found, or the caller's own account and Region,
/// if that is known.
fn served(
    config: &Config,
    found: Vec<LaneConfig>,
    aws: &Aws,
    caller: Option<&CallerIdentity>,
) -> Vec<LaneConfig> {
    if config.lanes.is_some() || config.discovery.is_some() {
        return config.lanes.iter().flatten().cloned().chain(found).collect();
    }
    let own = caller.zip(aws.default_region());
    own.map(|(caller, region)| LaneConfig::new(Lane::new(caller.account, region), None))
        .into_iter()
        .collect()
}

async fn check_queues(shared: &Shared, config: &Config, deadline: Instant) -> Vec<Item> {
    let mut items = Vec::new();
    for queue in &config.queues {
        let checked = timeout_at(deadline, Box::pin(queue::check(&shared.aws, queue))).await;
        items.extend(checked.unwrap_or_else(|_elapsed| {
            let advice = "give more time with --timeout";
            vec![Item::fail(
                &queue::name(queue),
                "not checked to its end in the time given",
                advice,
            )]
        }));
    }
    items
}

async fn check_lanes(
    shared: &Arc<Shared>,
    lanes: Vec<LaneConfig>,
    deadline: Instant,
) -> Vec<LaneReport> {
    let mut running = JoinSet::new();
    for config in lanes {
        let shared = Arc::clone(shared);
        running.spawn(async move {
            let lane = config.lane.clone();
            let checked = timeout_at(deadline, async {
                // It is never closed; a lane without a permit would only be checked earlier.
                let _permit = shared.permits.acquire().await;
                Box::pin(lane::check(&shared, &config)).await
            });
            checked.await.unwrap_or_else(|_elapsed| LaneReport::not_checked(lane))
        });
    }
    let mut reports: Vec<LaneReport> = running.join_all().await;
    reports.sort_by(|a, b| a.lane.cmp(&b.lane));
    reports
}

/// Whether AWS has given no answer at all.
fn is_out_of_reach(error: &AwsError) -> bool {
    matches!(error.fault, Fault::Unavailable { .. })
}

/// STS session of a lane's role, if it has one.
fn role_of(config: &LaneConfig) -> Option<crate::aws::AssumeRole> {
    config.role.as_ref().map(lanes::assume_role)
}
