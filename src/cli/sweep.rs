//! `sweep --once`.

use std::{fmt::Write as _, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failed, Place, log, print, state};
use crate::{
    app::{
        App, Failure, Options, StartError,
        round::{Ended, LaneRound, Round},
    },
    aws::Aws,
    config::Config,
    record::{Clock, Lane},
    shutdown,
};

pub const HELP: &str = "\
Works on the store of the state directory as `patchferry run` does, without listening anywhere: what is
delivered and what waits is known to the next run, and to a daemon that is started afterwards. It
refuses while another process holds the store.

Exit codes: 0 every lane was swept and everything was acknowledged · 2 a lane wasn't swept, the
organization's accounts can't be listed, something waits (on disk, for the next run) or became a dead
letter · others as for `patchferry run`.";

#[derive(Debug, Args)]
pub struct SweepArgs {
    /// One sweep of each lane, then the end
    #[arg(long, required = true)]
    once: bool,
    /// Only this lane, ACCOUNT/REGION; may be given several times
    #[arg(long, value_name = "LANE")]
    lane: Vec<Lane>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for what heals by itself
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30m",
        value_parser = humantime::parse_duration
    )]
    timeout: Duration,
}

pub async fn sweep(args: &SweepArgs, place: &Place) -> Result<Exit, Failed> {
    let config = only(state::load_config(place)?, &args.lane)?;
    log::init(&config.log)?;
    let round = Box::pin(once(config, &args.lane, args.timeout)).await?;
    print(&if args.json { json(&round) } else { text(&round) })?;
    Ok(if round.is_complete() { Exit::Ok } else { Exit::Incomplete })
}

/// Starts the product, has it do one round, and ends it.
async fn once(config: Config, lanes: &[Lane], timeout: Duration) -> Result<Round, Failed> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    let aws = Aws::load().await.map_err(|error| Failed::of(Exit::Usage, &error))?;
    let options = Options { config, aws, clock: Clock::system(), listen: false };
    let started = tokio::select! {
        started = App::start_for_round(options) => started,
        () = stop.cancelled() => {
            return Err(Failed::new(Exit::Incomplete, "interrupted before anything was done"));
        }
    };
    let mut app = started.map_err(|error| start_failed(&error))?;
    let done = match lanes.iter().find(|lane| app.lane(lane).is_none()) {
        None => app.round(timeout, &stop).await.map_err(|failure| failed(&failure)),
        Some(lane) => Err(unserved(lane, app.lanes().iter().map(|served| &served.lane))),
    };
    let closed = app.shutdown().await;
    let done = done?;
    closed.map_err(|error| Failed::of(Exit::StartAgain, &error))?;
    Ok(done)
}

/// The configuration with nothing but `lanes`, if there are any.
pub fn only(mut config: Config, lanes: &[Lane]) -> Result<Config, Failed> {
    if let Some(configured) = &mut config.lanes
        && !lanes.is_empty()
    {
        let missing = lanes.iter().find(|lane| !configured.iter().any(|it| it.lane == **lane));
        if let Some(lane) = missing {
            return Err(unserved(lane, configured.iter().map(|it| &it.lane)));
        }
        configured.retain(|configured| lanes.contains(&configured.lane));
    }
    Ok(config)
}

fn unserved<'a>(lane: &Lane, served: impl Iterator<Item = &'a Lane>) -> Failed {
    /// Lanes that are named.
    const NAMED_MAX: usize = 10;
    let mut names: Vec<String> = served.map(Lane::to_string).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let served = names.join(", ");
    Failed::new(Exit::Usage, format!("lane {lane} is not served here (served: {served})"))
}

fn start_failed(error: &StartError) -> Failed {
    let failed = state::start_failed(error);
    if matches!(error, StartError::Open(open) if open.is_locked()) {
        let advice = "a daemon sweeps by itself; `patchferry status` asks it what it has done";
        return Failed::verbatim(failed.exit, format!("{failed}; {advice}"));
    }
    failed
}

fn failed(failure: &Failure) -> Failed {
    let exit = match failure {
        Failure::Store(_) => Exit::StartAgain,
        Failure::Stage(_) => Exit::Failed,
    };
    Failed::of(exit, failure)
}

fn json(round: &Round) -> String {
    let mut json = serde_json::to_value(round).expect("numbers and texts are JSON");
    json["complete"] = round.is_complete().into();
    json.to_string()
}

fn text(round: &Round) -> String {
    let mut text = format!(
        "{:<28} {:>7} {:>9} {:>10} {:>10} {:>8}  {}\n",
        "LANE", "NODES", "ACCEPTED", "UNCHANGED", "DELIVERED", "WAITING", "STATE"
    );
    for lane in &round.lanes {
        write_lane(&mut text, lane);
    }
    let Round { delivered, coalesced, unchanged, dead, queued, .. } = round;
    let _ = writeln!(
        text,
        "{delivered} delivered, {coalesced} coalesced, {unchanged} with nothing to tell, {dead} dead, \
         {queued} waiting"
    );
    let _ = writeln!(text, "{}", verdict(round));
    text
}

fn write_lane(text: &mut String, lane: &LaneRound) {
    let LaneRound { lane: name, swept, nodes, accepted, unchanged, delivered, waiting, .. } = lane;
    let of_sweep = |count: &usize| if *swept { count.to_string() } else { "-".into() };
    let (nodes, accepted, unchanged) = (of_sweep(nodes), of_sweep(accepted), of_sweep(unchanged));
    let state = if *swept { lane.state } else { "not swept" };
    let _ = writeln!(
        text,
        "{name:<28} {nodes:>7} {accepted:>9} {unchanged:>10} {delivered:>10} {waiting:>8}  {state}",
        name = name.to_string()
    );
    if let Some(note) = &lane.note {
        let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(text, "      {note}");
    }
}

fn verdict(round: &Round) -> String {
    if round.is_complete() {
        return "complete: every lane was swept, everything was acknowledged".into();
    }
    let unswept = round.lanes.iter().filter(|lane| !lane.swept && !lane.is_complete()).count();
    let mut left = Vec::new();
    if unswept > 0 {
        left.push(format!("{unswept} lanes were not swept"));
    }
    if let Some(why) = &round.organization_failure {
        left.push(format!(
            "the organization's accounts can't be listed, so that those of the last list were swept: {why}"
        ));
    }
    if round.queued > 0 {
        left.push(format!("{} items wait in the store for the next run", round.queued));
    }
    if round.dead > 0 {
        left.push(format!("{} became dead letters (`patchferry dead list`)", round.dead));
    }
    let why = match round.ended {
        Ended::Settled => "incomplete",
        Ended::TimedOut => "incomplete, the time is up",
        Ended::Interrupted => "interrupted",
    };
    if left.is_empty() { why.into() } else { format!("{why}: {}", left.join("; ")) }
}
