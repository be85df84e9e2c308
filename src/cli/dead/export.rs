//! `dead export`: the letters whole, one JSON object a line, as they can be read again.

use std::path::Path;

use crate::{
    admin::commands::dead::GetCompleteDead,
    cli::{Exit, Failed, out::Out, state::Reach},
    queue::DeadFilter,
};

pub async fn export(
    reach: &mut Reach,
    filter: DeadFilter,
    output: Option<&Path>,
) -> Result<Exit, Failed> {
    let mut out = match output {
        Some(path) => Out::new_file(path)?,
        None => Out::standard(),
    };
    let (mut from, mut letters) = (None, 0_usize);
    loop {
        let page = reach.ask(GetCompleteDead { filter: filter.clone(), from }).await?;
        let mut text = String::new();
        for letter in &page.letters {
            let line = serde_json::to_string(letter);
            text.push_str(&line.map_err(|error| Failed::of(Exit::Failed, &error))?);
            text.push('\n');
        }
        letters += page.letters.len();
        if !out.write(&text)? {
            return Ok(Exit::Ok);
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    out.finish()?;
    if let Some(path) = output {
        eprintln!("{letters} dead letters are in {}", path.display());
    }
    Ok(Exit::Ok)
}
