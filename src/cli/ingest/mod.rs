//! `ingest`: hands lines in, chunk by chunk, each answered before the next is read on.
//!
//! Guarantees: a line that is told as accepted is on disk; every line before the one named in
//! `--from-line` has been answered, whatever ended the command.

mod input;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    input::Piece,
    report::{Form, Report},
};
use super::{
    Exit, Failed, Place,
    state::{self, Reach},
};
use crate::{
    admin::commands::ingest::{BeginIngest, EndIngest, IngestAnswer, IngestLines, RefusedLine},
    shutdown,
};

/// The stages take about this long for some hundred observations.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
/// How often a store that takes nothing is asked again.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);

pub const HELP: &str = "\
A line is one InstancePatchState as the AWS CLI prints it, plus Account and Region; it may also have
Patches (as describe-instance-patches lists them) and the fields of describe-instance-information:

  aws ssm describe-instance-patch-states --instance-ids i-02573cafcfEXAMPLE --output json |
    jq -c '.InstancePatchStates[] + {Account: \"111122223333\", Region: \"us-east-1\"}' |
    patchferry ingest -

Each line counts as a read of its own, newer than all before it.
Exit codes: 0 all lines are accepted · 65 some were refused · others: not all lines were answered.";

#[derive(Debug, Args)]
pub struct IngestArgs {
    /// A file of JSON lines, or - for standard input
    file: PathBuf,
    /// Tell of every accepted line too
    #[arg(short = 'v', long, conflicts_with = "json")]
    each: bool,
    /// Print a JSON object for every line
    #[arg(long)]
    json: bool,
    /// Begin with this line: go on where an earlier run ended
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    from_line: u64,
    /// Fail where patchferry takes nothing new (its store is full, or ingest is paused), rather
    /// than wait
    #[arg(long)]
    no_wait: bool,
}

/// How the input ended.
enum Ended {
    All,
    Interrupted,
}

pub async fn ingest(args: &IngestArgs, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    let input = input::open(&args.file).map_err(|error| {
        let file = args.file.display();
        Failed::new(Exit::Usage, format!("can't read {file}: {error}"))
    })?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())
        .map_err(|error| Failed::new(Exit::Failed, format!("can't listen for signals: {error}")))?;
    let form = match (args.json, args.each) {
        (true, _) => Form::Json,
        (false, true) => Form::Each,
        (false, false) => Form::Refusals,
    };
    let mut reach = Reach::new(config);
    let began = reach
        .ask(BeginIngest { file: args.file.display().to_string(), from_line: args.from_line })
        .await;
    let ended = match began {
        Ok(began) => {
            let session = Session {
                reach: &mut reach,
                report: Report::new(form, args.from_line),
                waits: !args.no_wait,
                running: began.running,
                stop,
            };
            session.run(input, args.from_line).await
        }
        Err(failed) => Err(failed),
    };
    reach.end(ended).await
}

/// One run of the command.
struct Session<'a> {
    reach: &'a mut Reach,
    report: Report,
    waits: bool,
    /// Whether it began with a daemon.
    running: bool,
    stop: CancellationToken,
}

impl Session<'_> {
    async fn run(
        mut self,
        input: Box<dyn std::io::Read + Send>,
        from_line: u64,
    ) -> Result<Exit, Failed> {
        let pieces = input::pieces(input, from_line).map_err(|error| {
            Failed::new(Exit::Failed, format!("the input can't be read: {error}"))
        })?;
        let ended = self.all(pieces).await.map_err(|failed| self.tell_how_to_go_on(&failed))?;
        let end = EndIngest { accepted: self.report.accepted, refused: self.report.refused };
        if let Err(failed) = self.reach.ask(end).await {
            eprintln!("the end isn't in the audit log, but what is told here holds: {failed}");
        }
        match ended {
            Ended::Interrupted => {
                Err(Failed::new(Exit::Failed, format!("interrupted: {}", self.report.so_far())))
            }
            Ended::All => {
                self.report.summary()?;
                Ok(if self.report.refused == 0 { Exit::Ok } else { Exit::InputRefused })
            }
        }
    }

    async fn all(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<Ended, Failed> {
        loop {
            let piece = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Ended::Interrupted),
                piece = pieces.recv() => piece,
            };
            match piece {
                None => return Ok(Ended::All),
                Some(Piece::Failed(error)) => {
                    let text = format!("the input can't be read on: {error}");
                    return Err(Failed::new(Exit::Failed, text));
                }
                Some(Piece::Unfit { line, refusal }) => {
                    let reason = refusal.to_string();
                    self.report.unfit(&RefusedLine { line, reason })?;
                }
                Some(Piece::Chunk { first_line, lines }) => {
                    if let Ended::Interrupted = self.chunk(first_line, lines).await? {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
        }
    }

    /// Hands a chunk in until it is taken. A signal is heard between the attempts: what is under
    /// way is answered first.
    async fn chunk(&mut self, first_line: u64, lines: Vec<String>) -> Result<Ended, Failed> {
        let mut told = false;
        loop {
            let request = IngestLines { running: self.running, first_line, lines: lines.clone() };
            let wait = match self.reach.ask(request).await? {
                IngestAnswer::Taken { refused } => {
                    if told {
                        eprintln!("patchferry takes lines again");
                    }
                    self.report.chunk(first_line, &lines, &refused)?;
                    return Ok(Ended::All);
                }
                IngestAnswer::Busy => BUSY_INTERVAL,
                IngestAnswer::Paused { why } if !self.waits => {
                    return Err(Failed::new(Exit::Failed, why));
                }
                IngestAnswer::Paused { why } => {
                    if !told {
                        eprintln!("line {first_line} waits: {why}");
                        told = true;
                    }
                    PAUSED_INTERVAL
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Ended::Interrupted),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What was under way when it failed may be on disk: handing it in again is harmless.
    fn tell_how_to_go_on(&self, failed: &Failed) -> Failed {
        let text = format!(
            "{failed}\n{}; a line that was taken without an answer may come twice: it is told once",
            self.report.so_far()
        );
        Failed::verbatim(failed.exit, text)
    }
}
