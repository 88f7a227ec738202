//! Signals by number: sending one through a pidfd, resetting what was inherited.
//!
//! nix and rustix know named signals only; real-time signals are numbers, and images do ask to be
//! stopped by them (systemd's `SIGRTMIN+3`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::Pid;

/// Sends the signal of this number to a process; 0 only asks whether it lives.
///
/// # Errors
///
/// `ESRCH` if it has ended and is reaped, `EINVAL` for a number above 64; else those of
/// `pidfd_send_signal(2)`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: u8) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo_t asks the kernel to fill in what kill(2) would; nothing is read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::c_int::from(signal),
            no_info,
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the signal of this number to a child that is not reaped yet, so that its number is nobody
/// else's.
///
/// # Errors
///
/// `EINVAL` for a number that is no child's; else those of `kill(2)`.
pub fn send_signal_to_child(child: Pid, signal: u8) -> io::Result<()> {
    if child.as_raw() <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill takes no pointer.
    let done = unsafe { libc::kill(child.as_raw(), libc::c_int::from(signal)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for any blocked signal to come, takes it, and returns its number.
///
/// # Errors
///
/// `EINTR` if one that is not blocked has come instead.
///
/// Source: `rt_sigtimedwait(2)`. The C library's own leaves out two real-time signals.
pub fn wait_signal() -> io::Result<u8> {
    let all = u64::MAX;
    let (no_info, no_timeout) =
        (std::ptr::null_mut::<libc::siginfo_t>(), std::ptr::null::<libc::timespec>());
    // SAFETY: the kernel reads `all`, a mask of the size given, during the call; it writes no
    // information through the null pointer, and without a timeout it waits.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            no_info,
            no_timeout,
            size_of_val(&all),
        )
    };
    u8::try_from(signal).map_err(|_| io::Error::last_os_error())
}

/// Gives every signal that is ignored its default action again.
///
/// Ignored signals survive `clone3` and `exec`: an app would inherit SIGPIPE from the Rust runtime
/// and SIGHUP from somebody's `nohup`.
///
/// # Errors
///
/// Those of reading `/proc/self/status`.
pub fn unignore_signals() -> io::Result<()> {
    // One read takes the whole file: the kernel makes it at once, and it is far shorter.
    let mut status = [0; 8192];
    let length = File::open("/proc/self/status")?.read(&mut status)?;
    let ignored = ignored(&String::from_utf8_lossy(&status[..length]))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no line `SigIgn:`"))?;
    for number in (1..=64).filter(|number| ignored & (1 << (number - 1)) != 0) {
        reset(number)?;
    }
    Ok(())
}

/// Gives one signal its default action, also those two the C library keeps for itself and would
/// refuse to touch.
fn reset(number: libc::c_int) -> io::Result<()> {
    /// `struct kernel_sigaction` of x86-64; all zeroes is the default action.
    #[repr(C)]
    #[derive(Default)]
    struct SigAction {
        handler: usize,
        flags: libc::c_ulong,
        restorer: usize,
        mask: u64,
    }
    let default = SigAction::default();
    let before: *mut SigAction = std::ptr::null_mut();
    // SAFETY: the kernel reads `default`, which is a sigaction in its layout with a mask of the
    // size given, during the call, and writes nothing through a null pointer. SIG_DFL (0) is no
    // function of ours, so nothing of this program can be entered by a signal because of it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            &raw const default,
            before,
            size_of_val(&default.mask),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the mask of ignored signals from the text of `/proc/PID/status`.
fn ignored(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"), Some(0x1000));
        assert_eq!(ignored("Name:\tx\n"), None);
    }
}
