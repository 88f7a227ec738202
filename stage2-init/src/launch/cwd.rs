//! Entering a working directory; that of an app is made if it is missing.
//!
//! Resolved beneath the app's root, part by part where something has to be made; never a chown of
//! what was there (CVE-2024-45310 and its kin).

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::getcwd;
use pod_abi::path::PodPath;
use pod_sys::open_in_root;
use rustix::fs::{Mode, OFlags, mkdirat};
use rustix::io::Errno;
use rustix::process::fchdir;

use super::failure::{At, Failure, Phase};
use super::masks::open_root;

/// What becomes of parts of a working directory that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are made, owned by root, mode 0755, as docker does for an app.
    Made,
    /// They are refused: whoever starts a process in an app that runs mistyped them.
    Refused,
}

/// Enters `path`.
///
/// # Errors
///
/// [`Phase::WorkingDirectory`]; directories may have been made.
pub(super) fn enter(path: &PodPath, missing: Missing) -> Result<(), Failure> {
    let go = || -> io::Result<()> {
        fchdir(open(path, missing)?)?;
        // Fails if the directory is not beneath this process's root (CVE-2024-21626).
        getcwd()?;
        Ok(())
    };
    go().at(Phase::WorkingDirectory, &format!("`{path}`"))
}

fn open(path: &PodPath, missing: Missing) -> io::Result<OwnedFd> {
    let root = open_root()?;
    match beneath(&root, path.relative()) {
        Err(Errno::NOENT) if missing == Missing::Made => {}
        other => return Ok(other?),
    }
    let mut reached = String::new();
    let mut directory = beneath(&root, ".")?;
    for part in path.components() {
        reached.push_str(part);
        directory = match beneath(&root, &reached) {
            Err(Errno::NOENT) => {
                match mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
                    // Somebody who shares a volume with this app was faster.
                    Err(Errno::EXIST) => {}
                    other => other?,
                }
                beneath(&root, &reached)?
            }
            other => other?,
        };
        reached.push('/');
    }
    Ok(directory)
}

fn beneath(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_in_root(root, path, flags)
}
