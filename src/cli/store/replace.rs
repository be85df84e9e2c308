//! `store restore|compact|migrate`: what puts another store in the place of the live one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{RestoreArgs, audited, blocking, existing_state_dir, name, print_json};
use crate::{
    app::maintenance::{self, Compacted, Migration},
    cli::{Exit, Failed, Place, print, state},
    record::UnixMillis,
    store::{Backup, Restored},
};

pub async fn restore(args: RestoreArgs, place: &Place) -> Result<Exit, Failed> {
    let state_dir = state::load_config(place)?.state_dir;
    if state_dir.exists() {
        state::check_owner(&state_dir)?;
    }
    let file = args.file.clone();
    let checked = tokio::task::spawn_blocking(move || Backup::check(&file)).await;
    let checked = checked.map_err(|error| Failed::of(Exit::Failed, &error))?;
    let backup = Arc::new(checked.map_err(|error| Failed::of(Exit::Failed, &error))?);
    let header = backup.header();
    let described = format!(
        "{} is whole: {} entries, of {}, format {}, written by patchferry {}",
        args.file.display(),
        backup.contents().entries,
        UnixMillis(header.created_at_unix_ms),
        header.format.0,
        header.version,
    );
    if !args.yes {
        return Err(Failed::new(
            Exit::Failed,
            format!(
                "nothing was changed. {described}. With --yes it takes the place of the store in \
                 {}, which is set aside; what was accepted since the backup is then only there, \
                 and every lane is read back from its hub before anything is sent",
                state_dir.display()
            ),
        ));
    }
    let (at, source) = (state_dir.clone(), Arc::clone(&backup));
    let restored = blocking(move || maintenance::restore(&at, &source)).await;
    let answer = |restored: &Restored| {
        json!({
            "backup": args.file,
            "header": header,
            "store": restored.store,
            "replaced": restored.replaced,
            "entries": restored.contents.entries,
        })
    };
    let arguments = json!({ "backup": args.file });
    let restored = audited(&state_dir, "store_restore", arguments, restored, answer).await?;
    if args.json {
        return print_json(&answer(&restored));
    }
    let replaced = match &restored.replaced {
        Some(path) => format!(
            "the store that was here is kept as {}; remove it when you are sure\n",
            path.display()
        ),
        None => String::new(),
    };
    print(&format!(
        "{described}\nit is the store now: {} in {}\n{replaced}every lane is read back from its hub \
         before anything is sent: start patchferry",
        name(&restored.store),
        state_dir.display(),
    ))?;
    Ok(Exit::Ok)
}

pub async fn compact(json: bool, place: &Place) -> Result<Exit, Failed> {
    let state_dir = existing_state_dir(place)?;
    let at = state_dir.clone();
    let compacted = blocking(move || maintenance::compact(&at)).await;
    let answer = |compacted: &Compacted| {
        json!({
            "entries": compacted.entries,
            "bytes_before": compacted.bytes_before,
            "bytes_after": compacted.bytes_after,
        })
    };
    let compacted = audited(&state_dir, "store_compact", json!({}), compacted, answer).await?;
    if json {
        return print_json(&answer(&compacted));
    }
    print(&format!(
        "{} entries: {} bytes before, {} after",
        compacted.entries, compacted.bytes_before, compacted.bytes_after
    ))?;
    Ok(Exit::Ok)
}

pub async fn migrate(dry_run: bool, json: bool, place: &Place) -> Result<Exit, Failed> {
    let state_dir = existing_state_dir(place)?;
    let at = state_dir.clone();
    let mut migration = blocking(move || maintenance::migrate(&at, dry_run)).await;
    if !dry_run {
        let answer = |migration: &Migration| migration_told(migration).0;
        migration = audited(&state_dir, "store_migrate", json!({}), migration, answer).await;
    }
    let (value, text) = migration_told(&migration?);
    if json {
        return print_json(&value);
    }
    print(&text)?;
    Ok(Exit::Ok)
}

fn migration_told(migration: &Migration) -> (Value, String) {
    match migration {
        Migration::Unneeded(format) => (
            json!({ "from": format, "to": format, "backup": null }),
            format!("the store has format {}, the one that this patchferry writes", format.0),
        ),
        Migration::Planned(plan) => (
            json!({ "from": plan.from, "to": plan.to, "entries": plan.entries, "dry_run": true }),
            format!(
                "format {} -> {}: {} entries, {} bytes would be copied, and a backup written \
                 first; there is room for both. Nothing was changed",
                plan.from.0, plan.to.0, plan.entries, plan.bytes
            ),
        ),
        Migration::Done(done) => (
            json!({ "from": done.from, "to": done.to, "backup": done.backup }),
            format!(
                "format {} -> {}: {} entries; the old store's backup is {}",
                done.from.0,
                done.to.0,
                done.backup.entries,
                done.backup.path.display()
            ),
        ),
    }
}
