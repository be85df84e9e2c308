//! `dead redrive` and `dead drop`: told first, done with `--yes`.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    admin::commands::dead::{DropAnswer, DropDead, PreviewRedrive, RedriveCost, RedriveDead},
    cli::{Exit, Failed, print, state::Reach},
    queue::{DeadFilter, Redriven},
};

/// How a change was asked for.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub confirmed: bool,
    pub dry_run: bool,
    pub json: bool,
}

impl How {
    fn print<T: serde::Serialize>(self, value: &T, text: &str) -> Result<(), Failed> {
        if !self.json {
            return print(text);
        }
        let json = serde_json::to_string_pretty(value);
        print(&json.map_err(|error| Failed::of(Exit::Failed, &error))?)
    }
}

pub async fn redrive(reach: &mut Reach, filter: DeadFilter, how: How) -> Result<Exit, Failed> {
    if how.confirmed {
        let redriven = reach.ask(RedriveDead { filter }).await?;
        how.print(&redriven, &redriven_text(&redriven))?;
        return Ok(Exit::Ok);
    }
    let cost = reach.ask(PreviewRedrive { filter }).await?;
    how.print(&cost, &cost_text(&cost))?;
    if how.dry_run || cost.preview.letters == 0 {
        return Ok(Exit::Ok);
    }
    Err(unconfirmed())
}

fn cost_text(cost: &RedriveCost) -> String {
    let preview = &cost.preview;
    let mut text = format!(
        "{} dead letters can be redriven: {} observations, {} assessments, {} findings\n",
        preview.letters, preview.observations, preview.assessments, preview.findings
    );
    for (lane, letters) in &preview.lanes {
        let _ = writeln!(text, "  {lane:<27} {letters:>7}");
    }
    if preview.letters > 0 {
        let time = humantime::format_duration(Duration::from_secs(cost.hub_seconds.max(1)));
        let _ = writeln!(
            text,
            "at most {} requests to Security Hub, {time} at the quota of the busiest lane; at most {} requests to SSM by the next sweep",
            cost.hub_requests_max, cost.ssm_requests_max
        );
    }
    if preview.undecodable_letters > 0 {
        let _ = writeln!(
            text,
            "{} more can't be redriven, since their bytes don't decode: `patchferry dead export` and `dead drop` them with --reason undecodable",
            preview.undecodable_letters
        );
    }
    text
}

fn redriven_text(redriven: &Redriven) -> String {
    let queued = redriven.observed_items + redriven.assessed_items + redriven.outbox_items;
    let mut text = format!(
        "{} dead letters were redriven: {queued} items are queued again, {} were coalesced with newer states\n",
        redriven.letters, redriven.coalesced_items
    );
    if redriven.undecodable_letters > 0 {
        let _ = writeln!(
            text,
            "{} stay, since their bytes don't decode: they can only be exported and dropped",
            redriven.undecodable_letters
        );
    }
    text
}

pub async fn drop(
    reach: &mut Reach,
    filter: DeadFilter,
    output: Option<&Path>,
    how: How,
) -> Result<Exit, Failed> {
    if !how.confirmed {
        let preview = reach.ask(PreviewRedrive { filter }).await?.preview;
        let letters = preview.letters + preview.undecodable_letters;
        how.print(
            &serde_json::json!({ "letters": letters }),
            &format!("{letters} dead letters would be dropped for good"),
        )?;
        return if letters == 0 { Ok(Exit::Ok) } else { Err(unconfirmed()) };
    }
    let keep_in = output.map(std::path::absolute).transpose().map_err(|error| {
        Failed::new(Exit::Usage, format!("--output names no file that can be made: {error}"))
    })?;
    let answer = reach.ask(DropDead { filter, keep_in }).await?;
    how.print(&answer, &dropped_text(&answer))?;
    Ok(Exit::Ok)
}

fn dropped_text(answer: &DropAnswer) -> String {
    let Some(file) = &answer.file else { return "there was nothing to drop\n".into() };
    let mut text = format!(
        "{} dead letters ({} items) were dropped; what they held is in {}\n",
        answer.dropped.letters,
        answer.dropped.items,
        file.display()
    );
    if answer.dropped.changed_letters > 0 {
        let _ = writeln!(
            text,
            "{} were left, since another item died there meanwhile",
            answer.dropped.changed_letters
        );
    }
    text
}

fn unconfirmed() -> Failed {
    Failed::new(Exit::Failed, "nothing was changed: add --yes to do it")
}
