//! Which service manager looks after pods on this host, and what a user may say about that.

use clap::ValueEnum;

use crate::systemd;

/// What may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceManager {
    /// systemd where it is process 1, else none.
    #[default]
    Auto,
    /// systemd.
    Systemd,
    /// None: supervisors run in sessions of their own.
    None,
}

impl ServiceManager {
    /// Tells whether systemd is to look after pods.
    #[must_use]
    pub(crate) fn is_systemd(self) -> bool {
        match self {
            Self::Auto => systemd::is_booted(),
            Self::Systemd => true,
            Self::None => false,
        }
    }
}
