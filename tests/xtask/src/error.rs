//! The one error of `xtask`: a sentence for the person who typed the command.
//!
//! Nobody handles these errors, so they have no kinds.

use std::fmt;

/// What could not be done, and why.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    /// Makes an error of a sentence.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// Makes an error of what could not be done and its cause.
    pub(crate) fn of(what: &str, cause: &dyn fmt::Display) -> Self {
        Self(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
