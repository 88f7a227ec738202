//! Files of a pod that are there whole or not at all: written under a name nobody reads, synced,
//! renamed.
//!
//! A reader sees the old one or the new, after a power cut, too.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, fsync, openat, renameat};
use serde::Serialize;

use crate::error::{During, Failure};

/// Replaces file `path` beneath `pod`, which is called `temporary` until it is whole.
///
/// # Errors
///
/// What could not be done; the old file is still there, whole.
pub(crate) fn write(
    pod: BorrowedFd<'_>,
    temporary: &str,
    path: &str,
    document: &impl Serialize,
) -> Result<(), Failure> {
    let writing = || format!("cannot write `{path}`");
    let text = serde_json::to_vec(document).map_err(io::Error::other).during(writing)?;
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(pod, temporary, flags, Mode::from_raw_mode(0o600)).during(writing)?;
    let mut file = File::from(file);
    file.write_all(&text).during(writing)?;
    fsync(&file).during(writing)?;
    renameat(pod, temporary, pod, path).during(writing)
}
