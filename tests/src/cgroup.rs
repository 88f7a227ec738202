//! The cgroup v2 hierarchy of this machine, pure or beside v1, and directories of ours in it.
//!
//! Every sandbox has one directory, in which all its processes are born: so what a test left
//! running can be found and ended without knowing its name. Nothing outside that directory is
//! ever written.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long killed processes may take to be gone, in milliseconds.
const DYING: u16 = 5_000;

/// A cgroup of ours; with all beneath it killed and removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Finds the directory of this process's own cgroup, if the machine has cgroup v2.
#[must_use]
pub fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let point = line.split(' ').nth(4)?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(point).join(path))
}

impl Cgroup {
    /// Makes a cgroup `name` beneath our own.
    ///
    /// # Errors
    ///
    /// The kernel's own.
    pub fn make(name: &str) -> io::Result<Self> {
        let parent = own().ok_or_else(|| io::Error::other("this machine has no cgroup v2"))?;
        let path = parent.join(name);
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Returns its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the cgroups beneath it, relative to it.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path, &mut found);
        let relative = |path: &PathBuf| {
            path.strip_prefix(&self.path).map(|path| path.display().to_string()).ok()
        };
        found.iter().filter_map(relative).collect()
    }

    /// Lists the processes in it and beneath it.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let mut directories = vec![self.path.clone()];
        collect(&self.path, &mut directories);
        let mut pids: Vec<i32> = directories.iter().flat_map(|dir| processes_of(dir)).collect();
        pids.sort_unstable();
        pids
    }

    /// Kills every process in it and beneath it.
    pub fn kill(&self) {
        // Without cgroup.kill (Linux 5.14) there is nothing to fall back on; the check that
        // follows reports what is left.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Waits until no process is left in it and beneath it, at most `patience` milliseconds from
    /// one change to the next; tells whether that came true.
    #[must_use]
    pub fn drains(&self, patience: u16) -> bool {
        self.becomes("populated 0", patience)
    }

    /// Waits until a process is in it or beneath it, as [`Self::drains`] does for the opposite.
    #[must_use]
    pub fn fills(&self, patience: u16) -> bool {
        self.becomes("populated 1", patience)
    }

    fn becomes(&self, state: &str, patience: u16) -> bool {
        let Ok(events) = File::open(self.path.join("cgroup.events")) else { return true };
        loop {
            // Reading also arms the notification, so that no change is missed.
            let mut text = [0; 128];
            let count = events.read_at(&mut text, 0).unwrap_or(0);
            if String::from_utf8_lossy(&text[..count]).contains(state) {
                return true;
            }
            let mut changed = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            if !matches!(poll(&mut changed, PollTimeout::from(patience)), Ok(1..)) {
                return false;
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // What cannot be killed keeps its directory; the global check finds it.
        let _ = self.drains(DYING);
        let mut directories = vec![self.path.clone()];
        collect(&self.path, &mut directories);
        for directory in directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Adds every directory beneath `path`, parents before their children.
fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        into.push(entry.path());
        collect(&entry.path(), into);
    }
}

fn processes_of(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
