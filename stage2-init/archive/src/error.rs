//! What keeps files from being copied.

use std::io;
use std::path::Path;

/// Why a copy ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, named as in the archive, could not be read or made.
    #[error("`{path}`")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file, named as in the archive, is of a kind or at a place that is not copied.
    #[error("`{path}`, {why},")]
    Refused {
        /// Which.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The archive cannot be read, or is none.
    #[error("an archive that cannot be read")]
    Archive(#[source] io::Error),
    /// The archive cannot be written.
    #[error("an archive nobody takes")]
    Output(#[source] io::Error),
}

/// The longest name that is repeated in an error.
const MAX_NAME: usize = 200;

impl Error {
    pub(crate) fn file(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::File { path: shown(path), source: error.into() }
    }

    pub(crate) fn refused(path: &Path, why: &'static str) -> Self {
        Self::Refused { path: shown(path), why }
    }

    /// Takes an error of the archive's reader, whose text may repeat what stands in the archive.
    pub(crate) fn archive(error: io::Error) -> Self {
        Self::Archive(match error.raw_os_error() {
            Some(_) => error,
            None => io::Error::new(error.kind(), tamed(&error.to_string())),
        })
    }

    /// Returns what the kernel said, if it was asked.
    #[must_use]
    pub fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::File { source, .. } | Self::Archive(source) | Self::Output(source) => {
                Some(source)
            }
            Self::Refused { .. } => None,
        }
    }
}

/// Makes a name from an archive fit to be repeated.
fn shown(path: &Path) -> String {
    // The top itself has no name.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    tamed(&path.to_string_lossy())
}

fn tamed(text: &str) -> String {
    text.chars().take(MAX_NAME).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
