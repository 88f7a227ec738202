//! What a command does to the directory of a pod whose apps change.
//!
//! The supervisor writes the apps' records. What is left to commands is what takes longer than it
//! may take: the pins that keep images, and the removal of what removed apps have written.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use pod_abi::app::AppSpec;
use pod_abi::layout;
use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat};

use super::create::pins;
use super::tree::remove_tree;
use super::{DIRECTORY, Pod};
use crate::error::{Context as _, Result};

/// The name pins have until they are whole.
const PINS_TEMPORARY: &str = ".pins.tmp";

impl Pod {
    /// Waits until no other command changes the apps of this pod, and keeps others from it as
    /// long as the descriptor lives.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn lock_changes(&self) -> Result<OwnedFd> {
        let tell = || format!("cannot lock the apps of pod `{}`", self.id);
        let apps = self.open(layout::APPS, DIRECTORY).context(tell)?;
        loop {
            match flock(&apps, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(apps),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context(tell),
            }
        }
    }

    /// Replaces the pod's pins by those of `apps`. Changes must be locked.
    ///
    /// # Errors
    ///
    /// `storage`; the old pins are still there, whole.
    pub(crate) fn replace_pins(&self, apps: &[AppSpec]) -> Result<()> {
        let tell = || format!("cannot write `{}` of pod `{}`", layout::PINS, self.id);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(openat(self.dir(), PINS_TEMPORARY, flags, mode).context(tell)?);
        file.write_all(pins(apps).as_bytes()).context(tell)?;
        fsync(&file).context(tell)?;
        renameat(self.dir(), PINS_TEMPORARY, self.dir(), layout::PINS).context(tell)
    }

    /// Removes what removed apps have left. Safe at any time: what is put aside is nobody's.
    ///
    /// # Errors
    ///
    /// `storage`; the rest is removed with the pod at the latest.
    pub(crate) fn sweep_removed(&self) -> Result<()> {
        let tell = || format!("cannot remove what removed apps of pod `{}` have left", self.id);
        let apps = self.open(layout::APPS, DIRECTORY).context(tell)?;
        let entries = Dir::read_from(&apps).context(tell)?;
        for entry in entries {
            let name = entry.context(tell)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(layout::ASIDE) {
                remove_tree(apps.as_fd(), &name).context(tell)?;
            }
        }
        Ok(())
    }
}
