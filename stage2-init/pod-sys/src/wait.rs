//! Learning how children ended: `waitid(2)` for one pidfd, or for any child.
//!
//! nix's `waitid` turns the end of a child by a real-time signal into an error and has reaped it
//! by then; here the numbers come through as the kernel tells them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(u8),
    /// It was ended by the signal of this number, 1…64.
    Signal(u8),
}

/// A child that has ended and is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Which, in the caller's pid namespace.
    pub pid: Pid,
    /// How.
    pub exit: Exit,
}

/// Reaps any one child that has ended; `None` if none has.
///
/// # Errors
///
/// None in practice: that there are no children at all is `None` too.
///
/// Source: `waitid(2)` with `P_ALL`, `WEXITED | WNOHANG | __WALL`.
pub fn wait_any() -> io::Result<Option<Waited>> {
    match waitid(libc::P_ALL, 0, libc::WNOHANG | libc::__WALL) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        other => other,
    }
}

/// Waits for the end of the child `pidfd` refers to, and reaps it.
///
/// # Errors
///
/// `ECHILD` if it is no child of this process or is reaped already.
///
/// Source: `waitid(2)` with `P_PIDFD`.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Waited> {
    loop {
        let id = pidfd.as_raw_fd().unsigned_abs();
        match waitid(libc::P_PIDFD, id, libc::__WALL) {
            Ok(Some(waited)) => return Ok(waited),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> io::Result<Option<Waited>> {
    // SAFETY: siginfo_t is plain old data; all zeroes is a value of it, and is what the kernel
    // leaves when WNOHANG finds nothing.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a live siginfo_t the kernel writes to during the call, and nothing else.
    if unsafe { libc::waitid(kind, id, &raw mut info, options | libc::WEXITED) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid has filled the SIGCHLD members, or left the zeroes of above.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    if pid == 0 {
        return Ok(None);
    }
    let byte = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(byte),
        _ => Exit::Signal(byte & 0x7f),
    };
    Ok(Some(Waited { pid: Pid::from_raw(pid), exit }))
}
