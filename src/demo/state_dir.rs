//! Where the store of a demo or a drill lives: a directory of its own, gone afterwards unless it is to be kept.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::DemoError;

/// See the module. A directory that somebody named is never removed.
pub(crate) struct StateDir {
    path: PathBuf,
    is_removed: bool,
}

impl StateDir {
    /// `what` is part of a temporary directory's name.
    pub fn prepare(what: &str, named: Option<&Path>, keep: bool) -> Result<Self, DemoError> {
        let (path, is_removed) = match named {
            Some(path) => (path.to_path_buf(), false),
            None => (temporary_path(what), !keep),
        };
        let failed = |source| DemoError::StateDir { path: path.clone(), source };
        if !is_empty_or_absent(&path).map_err(failed)? {
            return Err(DemoError::StateDirInUse(path));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let path = fs::canonicalize(&path).map_err(failed)?;
        Ok(Self { path, is_removed })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.is_removed
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the temporary store is left behind");
        }
    }
}

fn temporary_path(what: &str) -> PathBuf {
    let name = format!("patchferry-{what}-{}-{:08x}", std::process::id(), fastrand::u32(..));
    std::env::temp_dir().join(name)
}

fn is_empty_or_absent(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_anything_in_it_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("CURRENT");
        fs::write(&file, "store-1").unwrap();
        let refused = StateDir::prepare("test", Some(directory.path()), false);
        assert!(matches!(refused, Err(DemoError::StateDirInUse(_))));
        assert!(file.exists());
    }

    #[test]
    fn a_temporary_directory_is_removed_and_a_named_one_stays() {
        let temporary = StateDir::prepare("test", None, false).unwrap();
        let path = temporary.path().to_path_buf();
        assert!(path.exists());
        drop(temporary);
        assert!(!path.exists());
        let directory = tempfile::tempdir().unwrap();
        drop(StateDir::prepare("test", Some(directory.path()), false).unwrap());
        assert!(directory.path().exists());
    }
}
