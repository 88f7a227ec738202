//! What every tier of the machine offers: one interface, so that `machine run`, `machine shell` and
//! the tests do not know which one they have.
//!
//! A machine ends when it is dropped, and leaves nothing; what is wanted of it is fetched before.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// systemd as process 1 in plain namespaces of this host: native speed, no controllers.
    Booted,
    /// A computer of its own in QEMU: controllers, a kernel of its own, slow.
    Qemu,
}

impl Tier {
    /// Returns how long its tests may take, after which the machine is taken for hung: what CI can
    /// spare on two cores, and several times what they need on idle ones.
    pub(crate) const fn budget(self) -> Duration {
        match self {
            Self::Booted => Duration::from_secs(6 * 60),
            Self::Qemu => Duration::from_secs(25 * 60),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Booted => "booted",
            Self::Qemu => "qemu",
        })
    }
}

impl FromStr for Tier {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "booted" => Ok(Self::Booted),
            "qemu" => Ok(Self::Qemu),
            _ => Err(Error::new(format!("there is no tier `{word}`: it is `booted` or `qemu`"))),
        }
    }
}

/// Where the standard streams of a command lead.
#[derive(Debug)]
pub(crate) enum Streams {
    /// To ours; where all three of ours are a terminal, the command has one, too.
    Ours,
    /// Nothing to read; what it writes goes to these files or pipes.
    Into {
        /// Its standard output.
        output: OwnedFd,
        /// Its standard error.
        errors: OwnedFd,
    },
}

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reboot {
    /// As an administrator asks for it: everything is stopped first.
    Orderly,
    /// At once, with nothing stopped; what is in memory is written down.
    Sudden,
    /// At once, with nothing written down, as when the power fails: by the kernel (`sysrq` of
    /// `b`). Only for a machine that has one of its own.
    Cut,
}

impl Reboot {
    /// Returns the command that does it.
    pub(crate) const fn command(self) -> &'static [&'static str] {
        match self {
            Self::Orderly => &["systemctl", "reboot"],
            Self::Sudden => &["systemctl", "reboot", "--force", "--force"],
            Self::Cut => &["sh", "-c", "echo b >/proc/sysrq-trigger"],
        }
    }
}

/// A machine that runs, with systemd as process 1 and `pod` installed.
pub(crate) trait Machine {
    /// Runs a command as a person at a prompt would, in a scope of its own, and returns its exit
    /// code, 128+n for signal n. With a `limit`, a command that takes longer is an error.
    fn run(
        &mut self,
        words: &[&str],
        streams: Streams,
        limit: Option<Duration>,
    ) -> Result<u8, Error>;

    /// Reboots; what is on the disk stays.
    fn reboot(&mut self, how: Reboot) -> Result<(), Error>;

    /// Returns whether it no longer answers.
    fn is_lost(&self) -> bool {
        false
    }

    /// Returns whether its processors are emulated, and with them those of its guests.
    fn is_emulated(&self) -> bool {
        false
    }

    /// Pulls the plug of a machine that is lost, and boots it again; what is on the disk stays.
    fn revive(&mut self) -> Result<(), Error> {
        self.reboot(Reboot::Sudden)
    }

    /// Names the file that holds what was said on the console, as long as the machine lives.
    fn console(&self) -> &Path;
}
