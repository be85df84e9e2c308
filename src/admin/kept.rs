//! Files below the state directory that keep what leaves the store: JSON lines, 0600, each on disk
//! before what it tells of is removed.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::command::{Refusal, RefusalKind};
use crate::record::UnixMillis;

/// See the module.
pub struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    /// A file that isn't there yet. `directory`, which is made if it has to be, is 0700.
    pub async fn create(directory: PathBuf, path: PathBuf) -> Result<Self, Refusal> {
        let told = path.clone();
        blocking(&told, move || {
            if path.starts_with(&directory) && !directory.exists() {
                DirBuilder::new().mode(0o700).create(&directory)?;
                sync_directory_of(&directory)?;
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            sync_directory_of(&path)?;
            Ok(Self { path, file })
        })
        .await
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line for each of `items`, and gives them back; on disk when this returns.
    pub async fn write<T>(mut self, items: Vec<T>) -> Result<(Self, Vec<T>), Refusal>
    where
        T: Serialize + Send + 'static,
    {
        let told = self.path.clone();
        blocking(&told, move || {
            let mut lines = Vec::new();
            for item in &items {
                serde_json::to_writer(&mut lines, item)?;
                lines.push(b'\n');
            }
            self.file.write_all(&lines)?;
            self.file.sync_data()?;
            Ok((self, items))
        })
        .await
    }
}

/// `2026-11-24T02-30-00.123Z`: sorts by time, and is a file name everywhere.
pub fn time_in_file_name(at: UnixMillis) -> String {
    at.to_rfc3339().replace(':', "-")
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    ended.and_then(|result| result).map_err(|error| {
        Refusal::new(
            RefusalKind::Io,
            format!("{} can't be written: {error}; nothing more is dropped", path.display()),
        )
    })
}
