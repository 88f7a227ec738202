//! The lock of a pod: whoever holds it is the pod's maker or its supervisor.
//!
//! `flock(2)` on the pod's directory, which dies with its last holder and survives `exec`.
//! Readers probe it by taking it shared for a moment; so a writer that finds it taken tries again
//! for a second before it believes that a pod is alive.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, flock, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Context as _, Result};

/// How long a writer bears with readers' probes. A probe lasts microseconds; a second passes only
/// with a real holder.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of an attempt to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// It is ours, for as long as the descriptor is open here or in whom we become.
    Ours,
    /// A living process holds it.
    Theirs,
}

/// Takes the lock of a directory exclusively, waiting out readers.
pub(crate) fn take(dir: BorrowedFd<'_>) -> Lock {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Lock::Ours,
            Err(Errno::INTR) => {}
            Err(_) if Instant::now() < deadline => sleep(PAUSE),
            Err(_) => return Lock::Theirs,
        }
    }
}

/// Takes the lock exclusively if nobody has it this very moment.
pub(crate) fn try_take(dir: BorrowedFd<'_>) -> Lock {
    match flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Ours,
        Err(_) => Lock::Theirs,
    }
}

/// Tells whether a living process holds the lock exclusively.
///
/// `dir` must be an open file description of its own that holds no lock: a probe through a
/// holder's description would give the lock away.
pub(super) fn is_held(dir: BorrowedFd<'_>) -> bool {
    if flock(dir, FlockOperation::NonBlockingLockShared).is_err() {
        return true;
    }
    let _ = flock(dir, FlockOperation::Unlock); // closing would do it as well, later
    false
}

impl super::Pod {
    /// Returns a descriptor that becomes readable, by its end, as soon as nobody holds the pod's
    /// lock: at the end of its supervisor, however that comes. A thread waits for the lock until
    /// then, so this is for commands that do not become another program.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn released(&self) -> Result<OwnedFd> {
        let tell = || format!("cannot watch the lock of pod `{}`", self.id);
        // A description of its own: this pod's may hold the lock one day.
        let dir = openat(self.dir(), ".", super::DIRECTORY, Mode::empty()).context(tell)?;
        let (told, tell_end) = pipe_with(PipeFlags::CLOEXEC).context(tell)?;
        thread::Builder::new()
            .spawn(move || {
                while flock(&dir, FlockOperation::LockShared) == Err(Errno::INTR) {}
                drop((dir, tell_end));
            })
            .context(tell)?;
        Ok(told)
    }

    /// Takes the pod's lock, waiting out readers for up to a second.
    pub(crate) fn lock(&self) -> Lock {
        take(self.dir())
    }

    /// Takes the pod's lock if it is free this very moment.
    pub(crate) fn try_lock(&self) -> Lock {
        try_take(self.dir())
    }
}
