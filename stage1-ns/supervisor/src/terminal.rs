//! Terminals of apps: made on the outside, in the app's own `/dev/pts`.
//!
//! The multiplexer comes in as a descriptor that names a file and opens nothing; each terminal is
//! a new opening of it. So nothing inside can put another file in its place, and nothing of the
//! host's terminals is ever in reach of an app (CVE-2025-52565 and its kin): the other end is
//! opened by the terminal itself, never by a path.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::control::WindowSize;
use rustix::fs::{CWD, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// The size of a terminal nobody looks at: that of the terminal all others imitate, a VT100.
pub const UNSEEN: WindowSize = WindowSize { rows: 24, columns: 80 };

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Our end; it does not block.
    pub master: OwnedFd,
    /// The end of the process whose terminal it is.
    pub slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal of `size` that belongs to user `owner`, as the host counts. `multiplexer`
    /// is an `O_PATH` descriptor of a `ptmx`.
    ///
    /// # Errors
    ///
    /// Those of the system calls; `ENOSPC` if there are too many terminals on this machine.
    pub fn open(
        multiplexer: BorrowedFd<'_>,
        owner: u32,
        size: WindowSize,
    ) -> rustix::io::Result<Self> {
        let path = format!("/proc/self/fd/{}", multiplexer.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let master = openat(CWD, path, flags, Mode::empty())?;
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        fchown(&slave, Some(Uid::from_raw(owner)), None)?;
        fchmod(&slave, Mode::from_raw_mode(0o620))?;
        resize(&master, size)?;
        Ok(Self { master, slave })
    }
}

/// Gives the terminal behind `master` another size; whoever is in front of it gets SIGWINCH.
pub(crate) fn resize(master: &OwnedFd, size: WindowSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size)
}

/// How a terminal was when it was made.
#[derive(Debug)]
pub(crate) struct Fresh(Option<Termios>);

impl Fresh {
    /// Notes how a terminal is.
    pub(crate) fn of(master: &OwnedFd) -> Self {
        Self(tcgetattr(master).ok())
    }

    /// Makes the terminal so again, for an app that may have ended in the middle of anything.
    pub(crate) fn restore(&self, master: &OwnedFd) {
        if let Some(termios) = &self.0 {
            // It stays as it is, if this fails; an app that cares sets its terminal up.
            let _ = tcsetattr(master, OptionalActions::Now, termios);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use rustix::fs::fstat;
    use rustix::process::geteuid;
    use rustix::termios::tcgetwinsize;

    #[test]
    fn a_terminal_is_its_owners_alone_and_of_the_size_asked_for() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let multiplexer = openat(CWD, "/dev/pts/ptmx", flags, Mode::empty()).unwrap();
        let size = WindowSize { rows: 7, columns: 9 };
        // Only root could give it to somebody else.
        let owner = geteuid().as_raw();
        let terminal = Terminal::open(multiplexer.as_fd(), owner, size).unwrap();
        let stat = fstat(&terminal.slave).unwrap();
        assert_eq!((stat.st_uid, stat.st_mode & 0o7777), (owner, 0o620));
        let got = tcgetwinsize(&terminal.slave).unwrap();
        assert_eq!((got.ws_row, got.ws_col), (7, 9));
    }
}
