//! Descriptors across `exec`: adopting those that were inherited, placing those that shall be.
//!
//! Inside the programs a descriptor is always owned or borrowed. A bare number exists only across
//! `exec`, where the tables of the stage ABI give each a meaning; these functions are the border.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

/// Marks every open descriptor from `first` upwards to be closed on `exec`.
///
/// # Errors
///
/// Those of `close_range(2)` (5.11 for the flag); none in practice for `first` ≥ 0.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: close_range takes no pointer, and with CLOSE_RANGE_CLOEXEC closes nothing: owners of
    // descriptors keep what they own.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` upwards.
///
/// To be called once, before anything else opens descriptors: for a program that must not keep what
/// it was given by mistake.
///
/// # Errors
///
/// Those of `close_range(2)`; none in practice for `first` ≥ 0.
pub fn close_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: close_range takes no pointer. What it closes has no owner in this process, for the
    // caller has opened nothing yet; were that untrue, an owner would meet `EBADF`, or another
    // file at its number, and no memory would be touched.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adopts a descriptor that was inherited at a number the ABI tells, and marks it CLOEXEC.
///
/// To be called once for each number, before anything else opens descriptors: a second call would
/// make a second owner, which closes it under the first.
///
/// # Errors
///
/// `EBADF` if nothing is open at this number.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_SETFD takes no pointer; on a number that is not open it fails.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, as the call before has shown. That nobody else in this process
    // owns it is what the ABI's table of inherited descriptors says, and what the caller keeps by
    // adopting each number of the table once, first thing.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Places a copy of `fd` at the number `at`, not CLOEXEC, replacing what was there.
///
/// For right before an `exec` of ours, and for standard input, output and error. Whatever owned
/// the number `at` in this process refers to the copy from now on.
///
/// # Errors
///
/// Those of `dup3(2)`; where `fd` is already at `at`, those of `fcntl(2)`.
pub fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    let done = if fd.as_raw_fd() == at {
        // SAFETY: fcntl with F_SETFD takes no pointer.
        unsafe { libc::fcntl(at, libc::F_SETFD, 0) }
    } else {
        // SAFETY: dup3 takes no pointer. It may replace a descriptor that is owned elsewhere in
        // this process, which then refers to another open file; no memory depends on which.
        unsafe { libc::dup3(fd.as_raw_fd(), at, 0) }
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor of this process, calls `then`, and exits with what it returns.
///
/// For a copy of a program that lives on without executing another: whatever it holds open would
/// stay so for everybody else. `then` is a plain function, so that it can bring no descriptor
/// along.
pub fn forsake_descriptors(then: fn(Pid) -> u8, about: Pid) -> ! {
    // SAFETY: close_range takes no pointer. It closes what owners in this process believe to be
    // open; none of them is ever used or dropped again, for this function does not return, runs no
    // destructor, and `then` captures nothing. Without an open descriptor nothing can be adopted
    // in the place of another either but what `then` opens itself.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    let code = then(about);
    // SAFETY: _exit ends the process at once; nothing of it is touched afterwards.
    unsafe { libc::_exit(code.into()) }
}

/// Closes every descriptor of this process but the standard streams and `kept`, calls `then` with
/// that one and `about`, and exits with what it returns.
///
/// As [`forsake_descriptors`], for a copy that has something to read, to write and to tell.
pub fn forsake_all_but(kept: BorrowedFd<'_>, then: fn(OwnedFd, &[u8]) -> u8, about: &[u8]) -> ! {
    /// The first number behind the standard streams.
    const FIRST: RawFd = 3;
    /// The exit status if `kept` could not be kept: pod's own trouble.
    const NOTHING_KEPT: i32 = 125;
    if kept.as_raw_fd() != FIRST {
        // SAFETY: dup3 takes no pointer. What it replaces belongs to an owner that is never used
        // or dropped again, see below.
        let placed = unsafe { libc::dup3(kept.as_raw_fd(), FIRST, libc::O_CLOEXEC) };
        if placed != FIRST {
            // A limit of the app on descriptors: what has this number is not to be taken for it.
            // SAFETY: _exit ends the process at once; nothing of it is touched afterwards.
            unsafe { libc::_exit(NOTHING_KEPT) }
        }
    }
    // SAFETY: close_range takes no pointer. It closes what owners in this process believe to be
    // open; none of them is ever used or dropped again, for this function does not return, runs no
    // destructor, and `then` is a plain function that is given bytes and the one descriptor left.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST + 1, u32::MAX, 0) };
    // SAFETY: the number is open, as it was placed there; whoever owned it is never used again.
    let code = then(unsafe { OwnedFd::from_raw_fd(FIRST) }, about);
    // SAFETY: _exit ends the process at once; nothing of it is touched afterwards.
    unsafe { libc::_exit(code.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_number_that_is_not_open_is_not_adopted() {
        assert_eq!(inherited(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_placed_descriptor_survives_exec_and_an_adopted_one_does_not() {
        let null = File::open("/dev/null").unwrap();
        place(null.as_fd(), 900).unwrap();
        let flags = || nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags(), libc::FD_CLOEXEC);
        place(null.as_fd(), null.as_raw_fd()).unwrap();
        assert_eq!(flags(), 0);
        let adopted = inherited(900).unwrap();
        let flags = nix::fcntl::fcntl(&adopted, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}
