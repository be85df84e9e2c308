//! `check`.

use std::time::Duration;

use clap::Args;

use super::{Exit, Failed, Place, print, state};
use crate::{
    app::check::{self, Options, Report},
    aws::Aws,
    record::Lane,
};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only this lane: ACCOUNT/REGION; may be given several times
    #[arg(long)]
    lane: Vec<Lane>,
    /// When to be done, whatever hangs
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Every line, of lanes with which all is well, too
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    #[arg(long)]
    json: bool,
}

pub async fn check(args: &CheckArgs, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    let aws = Aws::load().await.map_err(|error| Failed::of(Exit::Usage, &error))?;
    let options = Options { lanes: args.lane.clone(), time_max: args.timeout };
    let report = Box::pin(check::check(&config, aws, &options)).await;
    print(&if args.json { report.to_json() } else { report.to_text(args.verbose) })?;
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    if !report.is_aws_reached {
        Exit::Unavailable
    } else if report.failures > 0 {
        Exit::Failed
    } else {
        Exit::Ok
    }
}
