//! `store verify|salvage|backup|restore|compact|migrate`.
//!
//! All but `backup` want the daemon stopped: they open the store themselves, and whoever holds it
//! is named in the error.

mod replace;
mod salvage;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::{
    Exit, Failed, Place, print,
    state::{self, Reach},
};
use crate::{
    admin::{audit, commands::backup::BackUp},
    record::Clock,
    store::{DirectoryError, OpenError},
};

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Check every record, the indexes and the accounting; changes nothing, wants the daemon
    /// stopped
    Verify(VerifyArgs),
    /// Queue what is still readable in a store that was found corrupt; wants the daemon stopped
    Salvage(SalvageArgs),
    /// Write everything to one checksummed file; the daemon may run
    Backup {
        /// Must not be there yet [default: a new file below backups/ in the state directory]
        file: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
    /// Put a backup in the store's place, which is set aside; wants the daemon stopped
    Restore(RestoreArgs),
    /// Copy the store into a new one without what is free in it; wants the daemon stopped
    Compact {
        #[arg(long)]
        json: bool,
    },
    /// Bring the store to this patchferry's format, as `run` does by itself; wants the daemon
    /// stopped
    Migrate {
        /// Only tell what there is to do
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Check this backup rather than the store; the daemon may run
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct SalvageArgs {
    /// The directory that was set aside [default: the only quarantine-<n> in the state directory]
    quarantine: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    file: PathBuf,
    /// Do it, rather than only check the backup and tell
    #[arg(long)]
    yes: bool,
    #[arg(long)]
    json: bool,
}

pub async fn store(command: StoreCommand, place: &Place) -> Result<Exit, Failed> {
    match command {
        StoreCommand::Verify(args) => verify::verify(args, place).await,
        StoreCommand::Salvage(args) => salvage::salvage(args, place).await,
        StoreCommand::Backup { file, json } => backup(file, json, place).await,
        StoreCommand::Restore(args) => replace::restore(args, place).await,
        StoreCommand::Compact { json } => replace::compact(json, place).await,
        StoreCommand::Migrate { dry_run, json } => replace::migrate(dry_run, json, place).await,
    }
}

async fn backup(file: Option<PathBuf>, json: bool, place: &Place) -> Result<Exit, Failed> {
    let config = state::load_config(place)?;
    let path = file.map(std::path::absolute).transpose().map_err(|error| {
        Failed::new(Exit::Usage, format!("the file's name makes no sense: {error}"))
    })?;
    let mut reach = Reach::new(config);
    let written = reach.ask(BackUp { path }).await;
    let summary = reach.end(written).await?;
    if json {
        return print_json(&summary);
    }
    print(&format!(
        "{}: {} entries, {} bytes, format {}\ncheck it with `patchferry store verify --backup \
         FILE`, put it back with `patchferry store restore FILE`",
        summary.path.display(),
        summary.entries,
        summary.bytes,
        summary.header.format.0,
    ))?;
    Ok(Exit::Ok)
}

/// Runs what blocks, and makes its error one of a command.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(open_failed(&error)),
        Err(error) => {
            Err(Failed::new(Exit::Store, format!("looking at the store failed: {error}")))
        }
    }
}

fn open_failed(error: &OpenError) -> Failed {
    if let OpenError::Directory(DirectoryError::Locked { path, holder }) = error {
        return Failed::new(
            Exit::Store,
            format!(
                "the store in {} is in use by {holder}: stop it first. While it runs, \
                 `patchferry store backup` writes a backup, and `patchferry store verify \
                 --backup FILE` checks that",
                path.display()
            ),
        );
    }
    Failed::of(Exit::Store, error)
}

/// Notes in the audit log how a command that changes something has ended.
async fn audited<T>(
    state_dir: &Path,
    command: &'static str,
    arguments: Value,
    ended: Result<T, Failed>,
    answer: impl FnOnce(&T) -> Value,
) -> Result<T, Failed> {
    let noted = match &ended {
        Ok(done) => Ok(answer(done)),
        Err(failed) => Err(failed.to_string()),
    };
    let at = Clock::system().now();
    if let Err(error) = audit::note(state_dir, at, command, arguments, noted).await {
        eprintln!("warning: the audit log can't be written: {error}");
    }
    ended
}

fn print_json(value: &impl Serialize) -> Result<Exit, Failed> {
    let text = serde_json::to_string(value).map_err(|error| Failed::of(Exit::Failed, &error))?;
    print(&text)?;
    Ok(Exit::Ok)
}

/// The state directory of a store that is there and is the caller's.
fn existing_state_dir(place: &Place) -> Result<PathBuf, Failed> {
    let state_dir = state::load_config(place)?.state_dir;
    state::check_owner(&state_dir)?;
    Ok(state_dir)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |it| it.display().to_string())
}
