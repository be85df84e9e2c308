//! Where the state is kept, if neither flag, variable nor file says so.
//!
//! Deliberately doesn't know: whether the directory exists or can be written.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::{LoadOptions, error::Origin};

/// Follows systemd's and XDG's conventions. `None` if the environment offers nothing.
pub(super) fn fallback(options: &LoadOptions) -> Option<(PathBuf, Origin)> {
    let absolute = |name: &str| {
        let value = options.environment.get(name)?;
        // systemd gives several directories parted by colons: the first is the state's.
        let first = value.as_bytes().split(|byte| *byte == b':').next()?;
        let path = PathBuf::from(OsStr::from_bytes(first));
        path.is_absolute().then_some((path, Origin::Variable(name.to_string())))
    };
    let below = |(path, origin): (PathBuf, Origin), rest: &str| (path.join(rest), origin);
    absolute("STATE_DIRECTORY")
        .or_else(|| absolute("XDG_STATE_HOME").map(|found| below(found, "patchferry")))
        .or_else(|| options.is_root.then(|| ("/var/lib/patchferry".into(), Origin::Default)))
        .or_else(|| absolute("HOME").map(|found| below(found, ".local/state/patchferry")))
}
