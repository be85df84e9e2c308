//! What a kill has left in the state directory: finished or removed at the next opening.
//!
//! Guarantees: nothing that `CURRENT` names is touched, and no store that was once complete is
//! removed unless `CURRENT` says so; what nothing explains is left alone and told of. A kill in here
//! leaves no more than there was.

use std::{fs, path::Path};

use super::{
    directory::{
        DirectoryError, PARTIAL, SCRAP, StateDirectory, UNFINISHED, io_error,
        remove_directory_if_there, remove_file_if_there, sync_directory,
    },
    pointer::Pointer,
};

impl StateDirectory {
    /// Finishes or removes what a kill has left unfinished. Never touches what `live` names.
    pub fn tidy(&self, live: Option<&Pointer>) -> Result<(), DirectoryError> {
        self.remove_scrap()?;
        if let Some(pointer) = live {
            self.settle_previous(pointer)?;
            self.mark_complete(pointer.number)?;
        }
        for name in self.names()? {
            let path = self.path().join(&name);
            let number = name.strip_prefix("store-").and_then(|number| number.parse::<u64>().ok());
            let is_live = number.is_some() && number == live.map(|live| live.number);
            if let Some(number) = number.filter(|_| !is_live) {
                self.tidy_store(number, live.is_some())?;
            } else if name == format!("salvage.{PARTIAL}") {
                remove_directory_if_there(&path).map_err(io_error("remove", &path))?;
            } else if name == "CURRENT.new" {
                remove_file_if_there(&path).map_err(io_error("remove", &path))?;
            }
        }
        self.remove_partial_backups()
    }

    /// Does what is to be done with a store that isn't live.
    fn tidy_store(&self, number: u64, is_another_live: bool) -> Result<(), DirectoryError> {
        let path = self.store_path(number);
        if path.join(UNFINISHED).exists() {
            tracing::info!(path = %path.display(), "removing a store that was never completed");
            return self.remove_store(number);
        }
        if is_another_live {
            tracing::warn!(
                path = %path.display(),
                "this store is not the one that CURRENT names, and nothing says why it is \
                 there: it is left alone"
            );
        }
        Ok(())
    }

    fn remove_scrap(&self) -> Result<(), DirectoryError> {
        for name in self.names()?.iter().filter(|name| name.starts_with(SCRAP)) {
            let path = self.path().join(name);
            remove_directory_if_there(&path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    fn remove_partial_backups(&self) -> Result<(), DirectoryError> {
        let Ok(entries) = fs::read_dir(self.backups_path()) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == PARTIAL) {
                remove_file_if_there(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes what a kill in the middle of a snapshot leaves behind; sled can't open with it.
    pub fn remove_leftovers(&self, store: &Path) -> Result<(), DirectoryError> {
        remove_engine_leftovers(store)?;
        self.sync().map_err(io_error("fsync", self.path()))
    }
}

/// See [`StateDirectory::remove_leftovers`].
pub(super) fn remove_engine_leftovers(store: &Path) -> Result<(), DirectoryError> {
    let entries = fs::read_dir(store).map_err(io_error("list", store))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let path = entry.path();
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    sync_directory(store).map_err(io_error("fsync", store))
}
