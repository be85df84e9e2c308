//! `pause` and `resume`.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{Exit, Failed, Place, print, state, state::Reach};
use crate::{
    admin::commands::pause::{PauseAnswer, PauseLanes, ResumeLanes},
    queue::PauseWhat,
    record::{Lane, Text},
};

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// What to pause
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Only this lane: ACCOUNT/REGION
    #[arg(long)]
    lane: Option<Lane>,
    /// Why, for whoever looks (at most 256 characters)
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// What to resume
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Only this lane: ACCOUNT/REGION; without it, the pause of all lanes together
    #[arg(long)]
    lane: Option<Lane>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Nothing is sent; findings wait
    Delivery,
    /// No sweep begins; SSM keeps what there is
    Ingest,
    /// Both
    All,
}

impl What {
    fn parts(self) -> Vec<PauseWhat> {
        match self {
            Self::Delivery => vec![PauseWhat::Delivery],
            Self::Ingest => vec![PauseWhat::Ingest],
            Self::All => PauseWhat::ALL.to_vec(),
        }
    }
}

pub async fn pause(args: &PauseArgs, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let command = PauseLanes {
        what: args.what.parts(),
        lane: args.lane.clone(),
        reason: Text::truncated(&args.reason),
    };
    let answered = reach.ask(command).await;
    let answer = reach.end(answered).await?;
    tell(&answer, args.json, "paused", "was paused already")
}

pub async fn resume(args: &ResumeArgs, place: &Place) -> Result<Exit, Failed> {
    let mut reach = Reach::new(state::load_config(place)?);
    let command = ResumeLanes { what: args.what.parts(), lane: args.lane.clone() };
    let answered = reach.ask(command).await;
    let answer = reach.end(answered).await?;
    let nothing = match &args.lane {
        Some(lane) => format!("no pause of {lane} alone was in force"),
        None => "no pause of all lanes was in force".into(),
    };
    tell(&answer, args.json, "resumed", &nothing)
}

fn tell(answer: &PauseAnswer, json: bool, done: &str, nothing: &str) -> Result<Exit, Failed> {
    if json {
        let text = serde_json::to_string_pretty(answer);
        print(&text.map_err(|error| Failed::of(Exit::Failed, &error))?)?;
        return Ok(Exit::Ok);
    }
    let changed: Vec<&str> = answer.changed.iter().map(|what| what.as_str()).collect();
    let mut text = if changed.is_empty() {
        format!("nothing was changed: {nothing}\n")
    } else {
        format!("{done}: {}\n", changed.join(" and "))
    };
    for pause in &answer.pauses {
        let _ = writeln!(text, "in force: {}", pause.to_sentence());
    }
    print(&text)?;
    Ok(Exit::Ok)
}
