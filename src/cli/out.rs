//! Where a command writes what may be long: standard output, or a new private file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{Exit, Failed};

/// See the module.
pub enum Out {
    Standard,
    File { path: PathBuf, file: File },
}

impl Out {
    pub fn standard() -> Self {
        Self::Standard
    }

    /// A file that isn't there yet; 0600.
    pub fn new_file(path: &Path) -> Result<Self, Failed> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| unwritable(path, &error))?;
        Ok(Self::File { path: path.to_path_buf(), file })
    }

    /// Writes; `false` if the reader has gone away (`| head`), which is no error.
    pub fn write(&mut self, text: &str) -> Result<bool, Failed> {
        match self {
            Self::Standard => match io::stdout().lock().write_all(text.as_bytes()) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(unwritable(Path::new("standard output"), &error)),
            },
            Self::File { path, file } => {
                file.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error))?;
                Ok(true)
            }
        }
    }

    /// All of it is where it belongs; a file's bytes are on disk.
    pub fn finish(self) -> Result<(), Failed> {
        match self {
            Self::Standard => match io::stdout().lock().flush() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(unwritable(Path::new("standard output"), &error))
                }
                _ => Ok(()),
            },
            Self::File { path, file } => file.sync_all().map_err(|error| unwritable(&path, &error)),
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failed {
    Failed::new(Exit::Failed, format!("can't write {}: {error}", path.display()))
}
