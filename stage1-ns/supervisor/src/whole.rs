//! Files of a pod that are there whole or not at all: written under a name nobody reads, synced,
//! renamed.
//!
//! A reader sees the old one or the new, after a power cut, too.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use serde::Serialize;

use crate::error::{During, Failure};

/// A file that is written and synced, and that nobody reads yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Prepared<'p> {
    pod: BorrowedFd<'p>,
    temporary: String,
    path: String,
}

impl<'p> Prepared<'p> {
    /// Writes what is to be file `path` beneath `pod` under the name `temporary`.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub(crate) fn write(
        pod: BorrowedFd<'p>,
        temporary: String,
        path: String,
        document: &impl Serialize,
    ) -> Result<Self, Failure> {
        let prepared = Self { pod, temporary, path };
        let writing = || format!("cannot write `{}`", prepared.path);
        let text = serde_json::to_vec(document).map_err(io::Error::other).during(writing)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(openat(pod, &prepared.temporary, flags, mode).during(writing)?);
        file.write_all(&text).during(writing)?;
        fsync(&file).during(writing)?;
        Ok(prepared)
    }

    /// Makes it count.
    ///
    /// # Errors
    ///
    /// What could not be done; the old file is still there, whole.
    pub(crate) fn commit(self) -> Result<(), Failure> {
        let Self { pod, temporary, path } = &self;
        renameat(pod, temporary, pod, path).during(|| format!("cannot write `{path}`"))
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // It has its name by now, or is written over next time.
        let _ = unlinkat(self.pod, &self.temporary, AtFlags::empty());
    }
}
