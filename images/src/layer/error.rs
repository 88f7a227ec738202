//! What can fail while a layer is unpacked, and how it is told across the worker's border.

use std::io;
use std::path::PathBuf;

/// Whose fault it was: all that a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ErrorKind {
    /// The layer is malformed, ambiguous or hostile.
    Layer,
    /// The layer is larger than it may be.
    Limit,
    /// The store's file system would not take it; [`Error::os_error`] says why.
    Storage,
    /// The worker could not be started, confined or understood.
    Worker,
}

/// Why a layer is not unpacked. The staging directory is left as it is, partly filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The worker did not start.
    #[error("cannot start the unpack worker `{program}`")]
    Start {
        /// Its executable.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The worker ended without a word.
    #[error("the unpack worker ended without a report: {how}")]
    Died {
        /// Its wait status in words.
        how: String,
    },
    /// What the worker said makes no sense.
    #[error("the unpack worker's report is not understood")]
    Report {
        /// Why not.
        source: io::Error,
    },
    /// The worker says that it failed.
    #[error("{message}")]
    Failed {
        /// Whose fault it was.
        kind: ErrorKind,
        /// What could not be done, with its causes.
        message: String,
        /// The system's error, if there is one.
        source: Option<io::Error>,
    },
}

impl Error {
    /// Tells whose fault it was.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            _ => ErrorKind::Worker,
        }
    }

    /// Returns the system's error number behind it (`ENOSPC`, `EDQUOT`, …).
    pub(crate) fn os_error(&self) -> Option<i32> {
        match self {
            Self::Start { source, .. } | Self::Failed { source: Some(source), .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }
}
