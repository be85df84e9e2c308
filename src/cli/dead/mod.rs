//! `dead list|show|export|redrive|drop`.

mod change;
mod export;
mod show;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{Exit, Failed, Place, state, state::Reach};
use crate::{
    queue::DeadFilter,
    record::{Clock, Lane, Reason, Stage, UnixMillis},
};

#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// A line for each
    List {
        #[command(flatten)]
        filter: NodeFilterArgs,
        #[arg(long)]
        json: bool,
    },
    /// Everything about those of one node: the raw facts, and earlier ones that were redriven
    Show {
        /// The node's id, as `dead list` prints it
        node: String,
        #[command(flatten)]
        filter: FilterArgs,
        #[arg(long)]
        json: bool,
    },
    /// Write them out whole, one JSON object a line
    Export {
        #[command(flatten)]
        filter: NodeFilterArgs,
        /// Write to this file (0600; must not be there yet) rather than to standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Have them go on: shows what it costs, and does it with --yes
    Redrive {
        #[command(flatten)]
        filter: NodeFilterArgs,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Only show what it would come to
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
    /// End them for good, with --yes; what is dropped is written to a file first
    Drop {
        #[command(flatten)]
        filter: NodeFilterArgs,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Where to write them first; must not be there yet. The daemon writes it, if one runs
        /// [default: below dropped/ in the state directory]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only this lane: ACCOUNT/REGION
    #[arg(long)]
    lane: Option<Lane>,
    /// Only this stage: ingest, validate, transform or deliver
    #[arg(long, value_parser = stage)]
    stage: Option<Stage>,
    /// Only this reason, as `dead list` prints it
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    /// Only those that died at least this long ago, such as 2h or 7d
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only those that died less than this ago
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct NodeFilterArgs {
    /// Only this node, by its id
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl FilterArgs {
    fn filter(&self, node: Option<String>) -> DeadFilter {
        let now = Clock::system().now();
        let ago = |age: Duration| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            UnixMillis(now.0.saturating_sub(age_ms))
        };
        DeadFilter {
            lane: self.lane.clone(),
            node,
            stage: self.stage,
            reason: self.reason,
            died_before: self.older_than.map(ago),
            died_since: self.newer_than.map(ago),
        }
    }
}

impl NodeFilterArgs {
    fn filter(&self) -> DeadFilter {
        self.filter.filter(self.node.clone())
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::ALL
        .into_iter()
        .find(|stage| stage.as_str() == text)
        .ok_or_else(|| format!("no such stage; there are {}", names(Stage::ALL.map(Stage::as_str))))
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
        format!("no such reason; there are {}", names(Reason::ALL.map(Reason::as_str)))
    })
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(", ")
}

pub async fn dead(command: &DeadCommand, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let ended = carry_out(command, &mut reach).await;
    reach.end(ended).await
}

async fn carry_out(command: &DeadCommand, reach: &mut Reach) -> Result<Exit, Failed> {
    match command {
        DeadCommand::List { filter, json } => show::list(reach, filter.filter(), *json).await,
        DeadCommand::Show { node, filter, json } => {
            show::show(reach, node, filter.filter(Some(node.clone())), *json).await
        }
        DeadCommand::Export { filter, output } => {
            export::export(reach, filter.filter(), output.as_deref()).await
        }
        DeadCommand::Redrive { filter, yes, dry_run, json } => {
            let how = change::How { confirmed: *yes, dry_run: *dry_run, json: *json };
            change::redrive(reach, filter.filter(), how).await
        }
        DeadCommand::Drop { filter, yes, output, json } => {
            let how = change::How { confirmed: *yes, dry_run: false, json: *json };
            change::drop(reach, filter.filter(), output.as_deref(), how).await
        }
    }
}
