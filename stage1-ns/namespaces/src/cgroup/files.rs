//! Reading and writing the files of cgroups, each at once, beneath the directory that is held.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::{pread, write};
use supervisor::Failure;

use super::Cgroup;

/// The longest table of mounts read, in bytes: a hundred thousand mounts.
const MAX_TABLE: u64 = 16 << 20;

/// The longest file of a cgroup read, in bytes. The longest has a line for each disk.
const MAX_FILE: u64 = 64 << 10;

/// How long killed processes may take to be gone. Only one stuck in the kernel takes longer than
/// milliseconds.
const DYING: Duration = Duration::from_secs(5);

/// Reads a file of procfs at once, whose size is not known beforehand.
pub(super) fn read_all(path: &str) -> Option<String> {
    let mut text = String::with_capacity(8 << 10);
    File::open(path).ok()?.take(MAX_TABLE).read_to_string(&mut text).ok()?;
    Some(text)
}

impl Cgroup {
    /// Reads a file.
    pub(super) fn get(&self, path: &str) -> std::io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut text = String::with_capacity(512);
        let file = openat(&self.ground, path, flags, Mode::empty())?;
        File::from(file).take(MAX_FILE).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes a file; the kernel takes all of it or nothing.
    pub(super) fn put(&self, path: &str, value: &str) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        write(openat(&self.ground, path, flags, Mode::empty())?, value.as_bytes()).map(drop)
    }

    /// Waits until `cgroup.events` of a directory has the line `state`, at most so long, and tells
    /// whether it has.
    pub(super) fn becomes(&self, directory: &str, state: &str, patience: Duration) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("{directory}/cgroup.events");
        let Ok(events) = openat(&self.ground, path, flags, Mode::empty()) else { return false };
        let deadline = Instant::now() + patience;
        loop {
            let mut text = [0; 256];
            // Reading also arms the notification, so that no change is missed.
            let count = pread(&events, &mut text, 0).unwrap_or(0);
            if text[..count].split(|byte| *byte == b'\n').any(|line| line == state.as_bytes()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(left) = Timespec::try_from(left).ok().filter(|_| !left.is_zero()) else {
                return false;
            };
            // The kernel wakes whoever polls for a change of this file (POLLPRI).
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)); // read again
        }
    }

    /// Ends and takes away what an earlier pod has left in `directory`.
    pub(super) fn clear(&self, directory: &str) -> Result<(), Failure> {
        let _ = self.put(&format!("{directory}/cgroup.kill"), "1"); // seen by what follows
        if !self.becomes(directory, "populated 0", DYING) {
            let what = format!("processes of an earlier pod in cgroup `{directory}` do not die");
            return Err(Failure::new(what).code("cgroup.busy"));
        }
        let leaves = self.open(directory)?;
        remove_leaves(&leaves);
        unlinkat(&self.ground, directory, AtFlags::REMOVEDIR).map_err(|error| {
            let what = format!("cannot remove cgroup `{directory}` of an earlier pod");
            Failure::of(what, error).code("cgroup.busy")
        })
    }
}

/// Removes the directories in `directory`, as far as they let themselves be.
fn remove_leaves(directory: &OwnedFd) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            let _ = unlinkat(directory, name, AtFlags::REMOVEDIR); // the caller sees what is left
        }
    }
}
