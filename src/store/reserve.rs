//! Room that is given back to the file system when it is full, so that a store can be reopened.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("reserve")
}

/// Sets the reserve aside if there is ample room for it; without it only a full disk is harder
/// to leave.
pub fn keep(state_dir: &Path, free_bytes: u64) {
    let path = path(state_dir);
    let there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == RESERVE_BYTES);
    if there || free_bytes < RESERVE_BYTES * 4 {
        return;
    }
    let reserve = || -> io::Result<()> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?;
        Ok(())
    };
    if let Err(error) = reserve() {
        tracing::debug!(%error, "the disk reserve could not be set aside");
        let _ = fs::remove_file(&path);
    }
}

/// Gives the reserve back; whether there was one.
pub fn release(state_dir: &Path) -> bool {
    fs::remove_file(path(state_dir)).is_ok()
}
