//! Why a kernel cannot be used, for a person and for a caller.

/// Something that makes a kernel unusable, or a file that is none.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    kind: ErrorKind,
    what: String,
}

/// What a caller would treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It is cut short, or its parts contradict each other.
    Damaged,
    /// It is larger than any honest one.
    TooLarge,
    /// It is what we do not read, by name.
    Unsupported,
    /// The kernel lacks what a guest needs.
    Missing,
    /// Two parts are not of one kernel.
    Mismatch,
    /// A file could not be read.
    Unreadable,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, what)
    }

    /// Makes the error of a [`crate::ModuleSource`] that cannot read what it has.
    #[must_use]
    pub fn unreadable(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unreadable, what)
    }

    /// Returns what kind of thing is wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Says the same of `object`.
    pub(crate) fn of(self, object: &str) -> Self {
        Self { what: format!("{object}: {}", self.what), ..self }
    }
}
