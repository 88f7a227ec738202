//! The one table of exit statuses.
//!
//! | status | of `run`, `start`, `exec`, `attach`, `sandbox` | of other commands |
//! |---|---|---|
//! | 0…255 | the app's own | |
//! | 128+n | the app was ended by signal n | |
//! | 125 | an error of ours, usage included | |
//! | 126 | the app's program is there but cannot be executed | |
//! | 127 | the app's program is not there | |
//! | 0 | | done |
//! | 1 | | refused or failed |
//! | 2 | | wrong usage |

use serde::{Deserialize, Serialize};

/// An error of ours while running an app.
pub const OURS: u8 = 125;
/// The program exists but cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// The program does not exist.
pub const NOT_FOUND: u8 = 127;
/// A command that runs nothing was refused or failed.
pub const REFUSED: u8 = 1;
/// A command that runs nothing was called wrongly.
pub const USAGE: u8 = 2;
/// What was ended by SIGKILL, a pod whose supervisor was killed included.
pub const KILLED: u8 = by_signal(9);

/// Returns the status of what was ended by a signal, as shells count.
#[must_use]
pub const fn by_signal(signal: u8) -> u8 {
    128_u8.saturating_add(signal)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ended {
    /// It exited with this status.
    Exited {
        /// The status, 0…255.
        code: u8,
    },
    /// It was ended by this signal.
    Signaled {
        /// The number of the signal.
        signal: u8,
        /// Whether the kernel's OOM killer sent it.
        oom: bool,
    },
    /// It never ran: the launcher could not execute it.
    NotStarted {
        /// [`CANNOT_EXECUTE`], [`NOT_FOUND`] or [`OURS`].
        code: u8,
    },
}

impl Ended {
    /// Returns the exit status that stands for this end, as shells count.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Exited { code } | Self::NotStarted { code } => code,
            Self::Signaled { signal, .. } => by_signal(signal),
        }
    }

    /// Tells whether this end counts as a failure.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.code() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(Ended::Signaled { signal: 9, oom: false }.code(), 137);
        assert_eq!(KILLED, 137);
        assert_eq!(Ended::Signaled { signal: 64, oom: false }.code(), 192);
        assert_eq!(Ended::Exited { code: 255 }.code(), 255);
        assert!(!Ended::Exited { code: 0 }.is_failure());
    }
}
