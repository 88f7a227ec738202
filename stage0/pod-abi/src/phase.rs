//! Where a pod is in its life: one enum, read from the directory it lies in and its lock.

use serde::{Deserialize, Serialize};

/// The directories under `pods/`, in the order of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    /// Just made, not yet locked by its maker for sure.
    Embryo,
    /// Being laid out.
    Prepare,
    /// Laid out.
    Prepared,
    /// Started at least once.
    Run,
    /// Ended and marked by `pod gc`.
    ExitedGarbage,
    /// Never ran, or was removed; to be swept.
    Garbage,
}

impl Home {
    /// All homes in the order of life, the order in which readers look for a pod that may move.
    pub const ALL: [Self; 6] = [
        Self::Embryo,
        Self::Prepare,
        Self::Prepared,
        Self::Run,
        Self::ExitedGarbage,
        Self::Garbage,
    ];

    /// Returns the name of the directory.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Prepare => "prepare",
            Self::Prepared => "prepared",
            Self::Run => "run",
            Self::ExitedGarbage => "exited-garbage",
            Self::Garbage => "garbage",
        }
    }
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its directory was just made.
    Embryo,
    /// Being laid out by a living `pod prepare` or `pod run`.
    Preparing,
    /// Its preparer died half-way; only `pod gc` may touch it.
    PrepareFailed,
    /// Laid out, waiting for `pod start`.
    Prepared,
    /// Its supervisor is alive.
    Running,
    /// Its supervisor has ended; its records can be read.
    Exited,
    /// To be removed.
    Garbage,
}

impl Phase {
    /// Reads the phase off the two facts that hold it: where the pod lies, and whether a living
    /// process holds its lock.
    #[must_use]
    pub const fn of(home: Home, locked: bool) -> Self {
        match (home, locked) {
            (Home::Embryo, _) => Self::Embryo,
            (Home::Prepare, true) => Self::Preparing,
            (Home::Prepare, false) => Self::PrepareFailed,
            (Home::Prepared, _) => Self::Prepared,
            (Home::Run, true) => Self::Running,
            (Home::Run, false) => Self::Exited,
            (Home::ExitedGarbage | Home::Garbage, _) => Self::Garbage,
        }
    }

    /// Tells whether a pod in this phase keeps others from taking its name.
    #[must_use]
    pub const fn holds_name(self) -> bool {
        matches!(self, Self::Preparing | Self::Prepared | Self::Running)
    }

    /// Returns the word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Preparing => "preparing",
            Self::PrepareFailed => "prepare-failed",
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Garbage => "garbage",
        }
    }
}
