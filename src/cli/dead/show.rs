//! Showing dead letters.

use std::fmt::Write as _;

use crate::{
    admin::commands::dead::{GetCompleteDead, GetDead},
    cli::{Exit, Failed, out::Out, print, state::Reach},
    queue::{CompleteLetter, DeadFilter, Episode},
    record::{DeadLetter, UnixMillis},
};

/// Characters of a message in a line of the list.
const MESSAGE_CHARS_MAX: usize = 100;

/// A line for each letter.
pub async fn list(reach: &mut Reach, filter: DeadFilter, json: bool) -> Result<Exit, Failed> {
    let mut out = Out::standard();
    let (mut from, mut letters) = (None, 0_u64);
    loop {
        let page = reach.ask(GetDead { filter: filter.clone(), from }).await?;
        let mut text = String::new();
        for letter in &page.letters {
            match (json, letters) {
                (true, 0) => text.push_str("[\n"),
                (true, _) => text.push_str(",\n"),
                (false, 0) => heading(&mut text),
                (false, _) => {}
            }
            if json {
                text.push_str(&to_json(letter)?);
            } else {
                line(letter, &mut text);
            }
            letters += 1;
        }
        if !out.write(&text)? {
            return Ok(Exit::Ok);
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    match (json, letters) {
        (true, 0) => out.write("[]\n")?,
        (true, _) => out.write("\n]\n")?,
        (false, 0) => out.write("there are no dead letters\n")?,
        (false, _) => true,
    };
    out.finish()?;
    Ok(Exit::Ok)
}

fn heading(text: &mut String) {
    let _ = writeln!(
        text,
        "{:<27} {:<20} {:<9} {:<17} {:>5}  {:<20}  MESSAGE",
        "LANE", "NODE", "STAGE", "REASON", "COUNT", "LAST"
    );
}

fn line(letter: &DeadLetter, text: &mut String) {
    let message: String = letter.message.as_str().chars().take(MESSAGE_CHARS_MAX).collect();
    let _ = writeln!(
        text,
        "{:<27} {:<20} {:<9} {:<17} {:>5}  {:<20}  {}",
        letter.lane.to_string(),
        letter.node.as_str(),
        letter.stage.as_str(),
        letter.reason.as_str(),
        letter.count,
        in_seconds(letter.last_at),
        one_line(&message),
    );
}

fn in_seconds(at: UnixMillis) -> String {
    let text = at.to_rfc3339();
    text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"))
}

/// What others wrote, without what would move the cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Everything about the letters of a node.
pub async fn show(
    reach: &mut Reach,
    node: &str,
    filter: DeadFilter,
    json: bool,
) -> Result<Exit, Failed> {
    let (mut from, mut letters) = (None, Vec::new());
    loop {
        let page = reach.ask(GetCompleteDead { filter: filter.clone(), from }).await?;
        letters.extend(page.letters);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    if json {
        print(&to_json(&letters)?)?;
        return Ok(Exit::Ok);
    }
    if letters.is_empty() {
        return Err(Failed::new(
            Exit::Failed,
            format!("there is no dead letter of {node}; `patchferry dead list` shows all"),
        ));
    }
    let mut text = String::new();
    for letter in &letters {
        one(letter, &mut text)?;
    }
    print(&text)?;
    Ok(Exit::Ok)
}

fn one(complete: &CompleteLetter, text: &mut String) -> Result<(), Failed> {
    let CompleteLetter { letter, patches, history } = complete;
    let facts = to_json(&letter.item)?;
    let _ = writeln!(
        text,
        "node:     {}\nlane:     {}\nstage:    {}\nreason:   {}\ncount:    {}\nfirst:    {}\nlast:     {}\nmessage:  {}\npatches:  {} stored",
        one_line(letter.node.as_str()),
        letter.lane,
        letter.stage,
        letter.reason,
        letter.count,
        letter.first_at,
        letter.last_at,
        one_line(letter.message.as_str()),
        patches.len(),
    );
    if !history.is_empty() {
        let _ = writeln!(text, "earlier letters of this node that were redriven:");
        for episode in history {
            earlier(episode, text);
        }
    }
    let _ = writeln!(text, "facts:\n{facts}\n");
    Ok(())
}

fn earlier(episode: &Episode, text: &mut String) {
    let _ = writeln!(
        text,
        "  died {} ({}/{}, {} of them), redriven {} by uid {}: {}",
        in_seconds(episode.died_at),
        episode.stage,
        episode.reason,
        episode.count,
        in_seconds(episode.redriven_at),
        episode.by_uid,
        one_line(episode.message.as_str()),
    );
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failed> {
    serde_json::to_string_pretty(value).map_err(|error| Failed::of(Exit::Failed, &error))
}
