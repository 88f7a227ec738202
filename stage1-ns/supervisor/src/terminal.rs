//! Terminals of apps: made on the outside, in the app's own `/dev/pts`.
//!
//! The multiplexer comes in as a descriptor that names a file and opens nothing; each terminal is
//! a new opening of it. So nothing inside can put another file in its place, and nothing of the
//! host's terminals is ever in reach of an app (CVE-2025-52565 and its kin): the other end is
//! opened by the terminal itself, never by a path.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::control::WindowSize;
use pod_abi::frame;
use pod_abi::guest::TerminalWord;
use rustix::fs::{CWD, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, write};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// The size of a terminal nobody looks at: that of the terminal all others imitate, a VT100.
pub const UNSEEN: WindowSize = WindowSize { rows: 24, columns: 80 };

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Our end; it does not block.
    pub master: Master,
    /// The end of the process whose terminal it is: what goes along with the frame that starts it.
    pub slave: Vec<OwnedFd>,
}

/// Our end of a terminal; none of it blocks.
#[derive(Debug)]
pub enum Master {
    /// The terminal itself.
    Here(OwnedFd),
    /// A stream to one behind the wall.
    Behind {
        /// What is typed and shown.
        data: OwnedFd,
        /// A stream of [`TerminalWord`]s to it.
        control: OwnedFd,
    },
}

impl Master {
    /// Returns what is typed and shown.
    #[must_use]
    pub const fn data(&self) -> &OwnedFd {
        match self {
            Self::Here(data) | Self::Behind { data, .. } => data,
        }
    }

    /// Gives the terminal another size; whoever is in front of it gets SIGWINCH.
    ///
    /// # Errors
    ///
    /// Those of the system calls.
    pub fn resize(&self, size: WindowSize) -> rustix::io::Result<()> {
        match self {
            Self::Here(master) => {
                let WindowSize { rows, columns } = size;
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(master, size)
            }
            Self::Behind { control, .. } => tell(control, TerminalWord::Size(size)),
        }
    }
}

/// Tells a terminal behind a wall something. It takes such a word whole or, if nobody reads them
/// there, not at all.
fn tell(control: &OwnedFd, word: TerminalWord) -> rustix::io::Result<()> {
    let bytes = frame::encode(&word).map_err(|_| Errno::INVAL)?;
    write(control, &bytes).map(drop)
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
        let copy = || fcntl_dupfd_cloexec(&slave, 3);
        let copies = [copy()?, copy()?];
        let slave = copies.into_iter().chain([slave]).collect();
        let master = Master::Here(master);
        master.resize(size)?;
        Ok(Self { master, slave })
    }
}

/// How a terminal was when it was made.
#[derive(Debug)]
pub struct Fresh(Option<Termios>);

impl Fresh {
    /// Notes how a terminal is.
    #[must_use]
    pub fn of(master: &Master) -> Self {
        Self(match master {
            Master::Here(master) => tcgetattr(master).ok(),
            Master::Behind { .. } => None,
        })
    }

    /// Makes the terminal so again, for an app that may have ended in the middle of anything.
    pub fn restore(&self, master: &Master) {
        // It stays as it is, if this fails; an app that cares sets its terminal up.
        let _ = match (master, &self.0) {
            (Master::Here(master), Some(termios)) => {
                tcsetattr(master, OptionalActions::Now, termios)
            }
            (Master::Here(_), None) => Ok(()),
            (Master::Behind { control, .. }, _) => tell(control, TerminalWord::Fresh),
        };
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
        let stat = fstat(&terminal.slave[0]).unwrap();
        assert_eq!((stat.st_uid, stat.st_mode & 0o7777), (owner, 0o620));
        let got = tcgetwinsize(&terminal.slave[2]).unwrap();
        assert_eq!((got.ws_row, got.ws_col), (7, 9));
    }
}
