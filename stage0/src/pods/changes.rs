//! What a command does to the directory of a pod whose apps or limits change.
//!
//! The supervisor writes the records of a pod that runs. What is left to commands is what takes
//! longer than it may take, the pins that keep images and the removal of what removed apps have
//! written; and the limits of a pod that has no supervisor.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use pod_abi::app::AppSpec;
use pod_abi::isolators::Resources;
use pod_abi::manifest::PodLimits;
use pod_abi::{layout, version};
use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat};

use super::create::pins;
use super::tree::remove_tree;
use super::{DIRECTORY, Pod};
use crate::error::{CommandError, Context as _, Result};

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
        self.replace(PINS_TEMPORARY, layout::PINS, pins(apps).as_bytes())
    }

    /// Writes down what the pod is limited to from its next start on. Its lock must be ours.
    ///
    /// # Errors
    ///
    /// `storage`; the old limits are still there, whole.
    pub(crate) fn write_limits(&self, resources: &Resources) -> Result<()> {
        let limits = PodLimits { version: version::MANIFEST, resources: resources.clone() };
        self.replace(".limits.json.tmp", layout::LIMITS, &json(&limits)?)
    }

    /// Writes down what an app is from the pod's next start on, as a new generation. The pod's lock
    /// must be ours.
    ///
    /// # Errors
    ///
    /// `storage`; the old generation is still the newest.
    pub(crate) fn write_app(&self, spec: &AppSpec) -> Result<()> {
        let name = &spec.name;
        let newest = self.newest(name).unwrap_or(0);
        let next = newest.checked_add(1).ok_or_else(|| {
            CommandError::new("limit.invalid", format!("app `{name}` was changed too often"))
        })?;
        let spec = AppSpec { version: version::MANIFEST, ..spec.clone() };
        let temporary = format!("{}/.app.json.tmp", layout::app(name));
        self.replace(&temporary, &layout::app_spec(name, next), &json(&spec)?)
    }

    /// Replaces a file; a reader sees the old one or the new.
    fn replace(&self, temporary: &str, path: &str, bytes: &[u8]) -> Result<()> {
        let tell = || format!("cannot write `{path}` of pod `{}`", self.id);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(openat(self.dir(), temporary, flags, mode).context(tell)?);
        file.write_all(bytes).context(tell)?;
        fsync(&file).context(tell)?;
        renameat(self.dir(), temporary, self.dir(), path).context(tell)
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

fn json(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| CommandError::of("internal.json", &error))
}
