//! Making processes and namespaces: `clone3(2)` and `unshare(2)`.
//!
//! Both are safe functions because they refuse in a process that has more than one thread: a child
//! of a threaded process may find any lock of the C library held for ever by a thread that does
//! not exist in it. A program that calls them starts no thread before its last call.

use std::fs;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::unistd::Pid;

/// Namespaces a new process, or this one, gets for itself (`namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// No new namespace.
    pub const NONE: Self = Self(0);
    /// A user namespace.
    pub const NEWUSER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// A pid namespace.
    pub const NEWPID: Self = Self(libc::CLONE_NEWPID as u64);
    /// A network namespace.
    pub const NEWNET: Self = Self(libc::CLONE_NEWNET as u64);
    /// An IPC namespace.
    pub const NEWIPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// A UTS namespace.
    pub const NEWUTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// A mount namespace.
    pub const NEWNS: Self = Self(libc::CLONE_NEWNS as u64);
    /// A cgroup namespace.
    pub const NEWCGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// Returns the kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for CloneFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// On which side of a [`clone3`] one is.
#[derive(Debug)]
pub enum Forked {
    /// In the new process.
    Child,
    /// In the process that called.
    Parent {
        /// The new process, in the pid namespace of the caller.
        pid: Pid,
        /// A descriptor of the new process, CLOEXEC.
        pidfd: OwnedFd,
    },
}

/// Makes a process, as `fork(2)` does, with namespaces of its own and born in a cgroup.
///
/// The child has every signal handler of the caller reset (`CLONE_CLEAR_SIGHAND`; ignored signals
/// stay ignored) and keeps its signal mask; its end is told by SIGCHLD. `into_cgroup` is a
/// directory of a cgroup2 file system: the child is born there, which costs fifty times less than
/// moving it. Without it the child is born in the caller's cgroup.
///
/// # Errors
///
/// `EDEADLK` if this process has more than one thread; else those of `clone3(2)`. No process was
/// made.
///
/// Source: `clone3(2)`, since Linux 5.7 with all that is used.
pub fn clone3(flags: CloneFlags, into_cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    refuse_threads()?;
    let mut pidfd: libc::c_int = -1;
    let mut bits = flags.0 | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    let mut cgroup = 0;
    if let Some(directory) = into_cgroup {
        bits |= CLONE_INTO_CGROUP;
        cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    let args = CloneArgs {
        flags: bits,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a clone_args of the size given, read before the call returns. `pidfd` is a
    // live c_int the kernel writes to, in the parent only. No stack is given and CLONE_VM is not
    // in any value of `CloneFlags`, so the child runs on a copy of this one, as after fork(2); and
    // no lock can be held by a thread that is missing in the child, for there is only this thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Forked::Child),
        1.. => {
            // SAFETY: CLONE_PIDFD succeeded, so the kernel has put into `pidfd` a new descriptor
            // that nobody else knows of.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Forked::Parent { pid: Pid::from_raw(pid), pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves this process into new namespaces; with `NEWPID`, its future children.
///
/// # Errors
///
/// `EDEADLK` if this process has more than one thread; else those of `unshare(2)`. Nothing has
/// changed.
///
/// Source: `unshare(2)`.
pub fn unshare(flags: CloneFlags) -> io::Result<()> {
    refuse_threads()?;
    let bits = i32::try_from(flags.0).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: unshare takes no pointer. Its bits are namespaces only: never CLONE_FILES, which
    // would let descriptors change hands behind their owners.
    match unsafe { libc::unshare(bits) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Refuses if this process has more than one thread.
///
/// Counted by link number: `/proc/self/task` has one directory a thread beside `.` and `..`.
/// Without a `/proc`, the file system cannot tell and the call is refused: fail closed.
fn refuse_threads() -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    match fs::metadata("/proc/self/task")?.nlink() {
        3 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EDEADLK)),
    }
}

/// Resets signal handlers in the child (5.5). libc's constant is an `i32` that overflowed.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// The child is born in the cgroup `CloneArgs::cgroup` names (5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `linux/sched.h`, in the size of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_ARGS_SIZE_VER2`.
const _: () = assert!(size_of::<CloneArgs>() == 88);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness itself runs tests on threads beside its main one.
        let error = clone3(CloneFlags::NONE, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
        let error = unshare(CloneFlags::NEWUTS).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
    }
}
