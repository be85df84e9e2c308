//! `store verify`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{VerifyArgs, blocking, existing_state_dir, name, print_json};
use crate::{
    app::maintenance::{self, Examined},
    cli::{Exit, Failed, Place, print},
    queue::Verified,
    store::RolledBack,
};

pub async fn verify(args: VerifyArgs, place: &Place) -> Result<Exit, Failed> {
    let examined = if let Some(path) = args.backup {
        let checked = tokio::task::spawn_blocking(move || maintenance::verify_backup(&path));
        let checked = checked.await.map_err(|error| Failed::of(Exit::Failed, &error))?;
        checked.map_err(|error| Failed::of(Exit::Failed, &error))?
    } else {
        let state_dir = existing_state_dir(place)?;
        blocking(move || maintenance::verify(&state_dir)).await?
    };
    let is_sound = is_sound(&examined);
    if args.json {
        print_json(&to_json(&examined, is_sound))?;
    } else {
        print(&to_text(&examined, is_sound))?;
    }
    Ok(if is_sound { Exit::Ok } else { Exit::Failed })
}

fn is_sound(examined: &Examined) -> bool {
    match examined {
        Examined::Nothing | Examined::Corrupt { .. } | Examined::Old { .. } => false,
        Examined::Store { verified, blobs, rolled_back, .. } => {
            verified.problems_total == 0 && blobs.is_empty() && rolled_back.is_none()
        }
        Examined::Backup { verified, .. } => verified.problems_total == 0,
    }
}

fn to_json(examined: &Examined, is_sound: bool) -> Value {
    let mut value = match examined {
        Examined::Nothing => json!({ "error": "there is no store" }),
        Examined::Corrupt { path, detail } => json!({ "path": path, "error": detail }),
        Examined::Old { path, format } => {
            json!({ "path": path, "format": format, "error": "older format" })
        }
        Examined::Store { path, verified, blobs, rolled_back } => json!({
            "path": path,
            "verified": verified,
            "blobs": blobs,
            "rolled_back": rolled_back.map(|it| json!({
                "commit": it.commit, "marked_commit": it.marked_commit,
            })),
        }),
        Examined::Backup { path, header, verified } => {
            json!({ "path": path, "header": header, "verified": verified })
        }
    };
    value["sound"] = is_sound.into();
    value
}

fn to_text(examined: &Examined, is_sound: bool) -> String {
    match examined {
        Examined::Nothing => "there is no store here: `patchferry run` makes one".into(),
        Examined::Corrupt { path, detail } => format!(
            "{} is corrupt: {detail}\n`patchferry run` will set it aside and begin with an empty \
             store; then `patchferry store salvage` queues what is still readable in it. A backup \
             loses less: `patchferry store restore FILE`",
            path.display()
        ),
        Examined::Old { path, format } => format!(
            "{} has format {}, an older one, which this patchferry doesn't look into: a store is \
             migrated by `patchferry store migrate`, a backup by `patchferry store restore FILE`",
            path.display(),
            format.0
        ),
        Examined::Store { path, verified, blobs, rolled_back } => {
            let mut text = contents(&name(path), verified);
            if let Some(RolledBack { commit, marked_commit }) = rolled_back {
                let _ = writeln!(
                    text,
                    "- it is older than it was known to be: its last commit is {commit}, {marked_commit} \
                     were on disk. Files were cut or replaced by an older copy; look at the disk. \
                     The next start reads everything back"
                );
            }
            for blob in blobs {
                let _ = writeln!(
                    text,
                    "- {} is a file that the engine never syncs, a defect: report it",
                    blob.display()
                );
            }
            end(text, is_sound)
        }
        Examined::Backup { path, verified, .. } => {
            end(contents(&path.display().to_string(), verified), is_sound)
        }
    }
}

fn contents(what: &str, verified: &Verified) -> String {
    let mut text = format!("{what}: {} entries, {} bytes\n\n", verified.entries, verified.bytes);
    let _ = writeln!(text, "{:<14} {:>10} {:>13} {:>8}", "TABLE", "ENTRIES", "BYTES", "DAMAGED");
    for (table, contents) in &verified.tables {
        let _ = writeln!(
            text,
            "{table:<14} {:>10} {:>13} {:>8}",
            contents.entries, contents.bytes, contents.damaged
        );
    }
    let it = &verified.accounting;
    let _ = writeln!(
        text,
        "\naccounting: {} accepted = {} delivered + {} coalesced + {} unchanged + {} dead + {} \
         dropped + {} queued{}\n",
        it.accepted,
        it.delivered,
        it.coalesced,
        it.unchanged,
        it.dead,
        it.dropped,
        it.queued.total(),
        if it.imbalance() == 0 { String::new() } else { format!(" (off by {})", it.imbalance()) },
    );
    for problem in &verified.problems {
        let _ = writeln!(text, "- {} ({}): {}", problem.what, problem.place, problem.advice);
    }
    let untold = verified.problems_total - verified.problems.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "- and {untold} more");
    }
    text
}

fn end(mut text: String, is_sound: bool) -> String {
    text.push_str(if is_sound {
        "everything is as it should be: all checksums, all indexes, all counts"
    } else {
        "NOT as it should be: see above"
    });
    text
}
