//! `store salvage`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{SalvageArgs, audited, existing_state_dir, open_failed, print_json};
use crate::{
    app::{
        StartError,
        maintenance::{self, SalvageError, Salvaged},
    },
    cli::{Exit, Failed, Place, print, state},
    store::{self, SpaceLimits},
};

pub async fn salvage(args: SalvageArgs, place: &Place) -> Result<Exit, Failed> {
    let state_dir = existing_state_dir(place)?;
    let config = state::load_config(place)?;
    let quarantine = match args.quarantine {
        Some(path) => existing(&state_dir, &path)?,
        None => the_only_one(&state_dir)?,
    };
    let limits = SpaceLimits {
        live_bytes_max: config.store.max_bytes,
        free_bytes_min: config.store.min_free_bytes,
    };
    let salvaged = maintenance::salvage(&state_dir, &quarantine, limits).await;
    let salvaged = salvaged.map_err(|error| match &error {
        SalvageError::Start(StartError::Open(error)) => open_failed(error),
        error => Failed::of(Exit::Store, error),
    });
    let answer = |salvaged: &Salvaged| {
        json!({
            "quarantine": quarantine,
            "format": salvaged.format,
            "tables": salvaged.report,
        })
    };
    let arguments = json!({ "quarantine": quarantine });
    let salvaged = audited(&state_dir, "store_salvage", arguments, salvaged, answer).await?;
    if args.json {
        return print_json(&answer(&salvaged));
    }
    print(&to_text(&quarantine, &salvaged))?;
    Ok(Exit::Ok)
}

/// A directory as it was given, or as it is called in the state directory.
fn existing(state_dir: &Path, path: &Path) -> Result<PathBuf, Failed> {
    let candidates = [path.to_path_buf(), state_dir.join(path)];
    let found = candidates.into_iter().find(|path| path.is_dir());
    found.ok_or_else(|| {
        Failed::new(Exit::Usage, format!("there is no directory {}", path.display()))
    })
}

fn the_only_one(state_dir: &Path) -> Result<PathBuf, Failed> {
    let mut found = store::quarantines(state_dir);
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Failed::new(
            Exit::Usage,
            format!("there is no quarantine-<n> in {}: nothing was set aside", state_dir.display()),
        )),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<String> = found.iter().map(|it| it.display().to_string()).collect();
            Err(Failed::new(
                Exit::Usage,
                format!("there are several, name one: {}", names.join(", ")),
            ))
        }
    }
}

fn to_text(quarantine: &Path, salvaged: &Salvaged) -> String {
    let mut text = format!(
        "{:<10} {:>8} {:>8} {:>10} {:>11} {:>11}\n",
        "TABLE", "FOUND", "QUEUED", "COALESCED", "SUPERSEDED", "UNREADABLE"
    );
    let mut incomplete = Vec::new();
    let mut queued = 0;
    for (table, count) in &salvaged.report {
        let _ = writeln!(
            text,
            "{table:<10} {:>8} {:>8} {:>10} {:>11} {:>11}",
            count.found, count.queued, count.coalesced, count.superseded, count.unreadable
        );
        queued += count.queued;
        if count.incomplete {
            incomplete.push(table.as_str());
        }
    }
    let _ = writeln!(
        text,
        "\n{queued} items of {} wait in the store now. Coalesced: the store knows a newer state of \
         the node; superseded: what was set aside has a newer one itself.",
        quarantine.display()
    );
    if !incomplete.is_empty() {
        let _ = writeln!(
            text,
            "A part can't be read, and how much was in it isn't known: {}.",
            incomplete.join(", ")
        );
    }
    text.push_str("What was set aside is as it was: keep it until you are sure, then remove it.");
    text
}
