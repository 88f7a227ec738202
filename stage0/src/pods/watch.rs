//! Watching directories of pods: being woken when a record is written or a pod moves.
//!
//! What exactly happened is not told: whoever is woken looks again. A watch holds on to the
//! directory itself, so renames do not end it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::phase::Home;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, openat};

use super::{DIRECTORY, Pod, Pods};
use crate::error::{Context as _, Result};

/// What wakes a reader: records that are written or replaced, and the directory's own moves.
const RECORDS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

/// A descriptor that is readable when something watched has changed.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Makes a watch of nothing yet.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn new() -> Result<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        inotify::init(flags).map(Self).context(|| "cannot watch pods".to_owned())
    }

    /// Watches the records of a pod.
    ///
    /// # Errors
    ///
    /// `storage`, as when the kernel's watches are used up.
    pub(crate) fn pod(&self, pod: &Pod) -> Result<()> {
        self.add(pod.dir(), RECORDS).context(|| format!("cannot watch pod `{}`", pod.id))
    }

    /// Watches which pods come to and leave a home.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn home(&self, pods: &Pods, home: Home) -> Result<()> {
        let tell = || format!("cannot watch home `{}`", home.directory());
        let dir = openat(&pods.pods, home.directory(), DIRECTORY, Mode::empty()).context(tell)?;
        let moves = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        self.add(dir.as_fd(), moves).context(tell)
    }

    /// Watches what comes to a directory.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn entries(&self, dir: BorrowedFd<'_>) -> Result<()> {
        let comes = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        self.add(dir, comes).context(|| "cannot watch a directory".to_owned())
    }

    fn add(&self, dir: BorrowedFd<'_>, events: WatchFlags) -> rustix::io::Result<()> {
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        inotify::add_watch(&self.0, path, events).map(drop)
    }

    /// Forgets what has woken us, so that only what comes next does.
    pub(crate) fn settle(&self) {
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events[..]).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
