//! `dead list|show`.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::{Exit, Failed, Place, print, state};
use crate::{
    admin::socket::{DeadLetterFilter, Request, Response},
    record::{DeadLetter, Lane, Reason, Stage},
};

/// Letters that one command shows at most.
const LETTERS_MAX: usize = 10_000;

#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// A line for each
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[arg(long)]
        json: bool,
    },
    /// Everything about those of one node, the raw facts included
    Show {
        /// The node's id, as `dead list` prints it
        node: String,
        #[command(flatten)]
        filter: FilterArgs,
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
    let (filter, node, json) = match command {
        DeadCommand::List { filter, json } => (filter, None, *json),
        DeadCommand::Show { node, filter, json } => (filter, Some(node.clone()), *json),
    };
    let asked = DeadLetterFilter {
        lane: filter.lane.clone(),
        node: node.clone(),
        stage: filter.stage,
        reason: filter.reason,
    };
    let letters = look(place, asked).await?;
    if json {
        print(&to_json(&letters)?)?;
        return Ok(Exit::Ok);
    }
    match node {
        None => print(&list(&letters))?,
        Some(node) if letters.is_empty() => {
            return Err(Failed::new(
                Exit::Failed,
                format!("there is no dead letter of {node}; `patchferry dead list` shows all"),
            ));
        }
        Some(_) => print(&show(&letters)?)?,
    }
    Ok(Exit::Ok)
}

async fn look(place: &Place, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, Failed> {
    let config = state::load_config(place)?;
    let request = Request::DeadLetters { filter: filter.clone(), limit: LETTERS_MAX };
    if let Some(response) = state::ask(&config, &request).await? {
        let Response::DeadLetters(letters) = response else {
            return Err(Failed::new(Exit::Failed, "the daemon gave another answer than asked for"));
        };
        return Ok(letters);
    }
    let queues = state::open(&config).await?;
    let letters = queues.dead_letters(filter.into(), LETTERS_MAX).await;
    let closed = queues.close().await;
    let letters = letters.map_err(|error| Failed::of(Exit::Store, &error))?;
    closed.map_err(|error| Failed::of(Exit::StartAgain, &error))?;
    Ok(letters)
}

fn to_json(letters: &[DeadLetter]) -> Result<String, Failed> {
    serde_json::to_string_pretty(letters).map_err(|error| Failed::of(Exit::Failed, &error))
}

fn list(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "there are no dead letters".into();
    }
    let mut text = format!(
        "{:<27} {:<20} {:<9} {:<17} {:>5}  {:<20}  MESSAGE\n",
        "LANE", "NODE", "STAGE", "REASON", "COUNT", "LAST"
    );
    for letter in letters {
        let message: String = letter.message.as_str().chars().take(100).collect();
        let last = letter.last_at.to_rfc3339();
        let _ = writeln!(
            text,
            "{:<27} {:<20} {:<9} {:<17} {:>5}  {:<20}  {}",
            letter.lane.to_string(),
            letter.node.as_str(),
            letter.stage.as_str(),
            letter.reason.as_str(),
            letter.count,
            last.get(..19).map_or(last.clone(), |seconds| format!("{seconds}Z")),
            message.replace('\n', " "),
        );
    }
    text
}

fn show(letters: &[DeadLetter]) -> Result<String, Failed> {
    let mut text = String::new();
    for letter in letters {
        let facts = serde_json::to_string_pretty(&letter.item)
            .map_err(|error| Failed::of(Exit::Failed, &error))?;
        let _ = writeln!(
            text,
            "node:     {}\nlane:     {}\nstage:    {}\nreason:   {}\ncount:    {}\nfirst:    {}\nlast:     {}\nmessage:  {}\nfacts:\n{facts}\n",
            letter.node,
            letter.lane,
            letter.stage,
            letter.reason,
            letter.count,
            letter.first_at,
            letter.last_at,
            letter.message,
        );
    }
    Ok(text)
}
