//! Where the stores of `bench images` and `bench layers` lie: ext4 on a file in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::measure::run;
use crate::error::Error;

/// A file system of its own, taken away in the end.
pub(in crate::bench) struct Disk(pub(in crate::bench) PathBuf);

impl Disk {
    pub(in crate::bench) fn new(scratch: &Path) -> Result<Self, Error> {
        let (file, point) = (scratch.join("disk"), scratch.join("stores"));
        fs::create_dir(&point).map_err(|error| Error::of("cannot make a directory", &error))?;
        run(Command::new("truncate").args(["-s", "10G"]).arg(&file))?;
        run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-O", "verity"]).arg(&file))?;
        run(Command::new("mount").args(["-o", "loop,discard"]).arg(&file).arg(&point))?;
        Ok(Self(point))
    }

    /// Makes it empty, and waits until it is.
    pub(super) fn empty(&self) -> Result<(), Error> {
        let words = "umount -l */overlay 2>/dev/null || true; \
            find . -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +; sync -f .";
        run(Command::new("sh").args(["-ec", words]).current_dir(&self.0))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.0)); // it goes with the namespace, too
    }
}
