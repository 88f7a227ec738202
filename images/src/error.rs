//! The one error of this crate: a kind for programs, a sentence and its causes for people.
//!
//! It is apart so that every module may import it and it imports none. What a foreign library or
//! another part says is kept as the source, never repeated in the sentence; what a caller would
//! treat differently is a kind, everything else is text.

use std::error::Error as StdError;
use std::{fmt, io};

use rustix::io::Errno;

/// What went wrong, as far as a caller would act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such image, here or at the registry.
    NotFound,
    /// The registry wants other credentials.
    Denied,
    /// The registry could not be reached, or stopped answering.
    Unreachable,
    /// What was received or found is not what its name or its format promises.
    Invalid,
    /// What lies in the store is not what it came as.
    Damaged,
    /// The file system of the store, or this kernel, cannot do it.
    Unsupported,
    /// It could be had, but a rule forbids it.
    Refused,
    /// The policy asks for what the image does not have.
    Untrusted,
    /// The beginning of an id is that of several images.
    Ambiguous,
    /// The image has no variant for the platform asked for.
    Platform,
    /// The file system of the store is full.
    NoSpace,
    /// Somebody else holds what is needed.
    Busy,
    /// The file system of the store failed, or the store is not one of ours.
    Storage,
}

impl ErrorKind {
    /// Returns the stable word programs know this kind by.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "image.not-found",
            Self::Denied => "image.denied",
            Self::Unreachable => "image.unreachable",
            Self::Invalid => "image.invalid",
            Self::Damaged => "image.damaged",
            Self::Unsupported => "image.unsupported",
            Self::Refused => "image.refused",
            Self::Untrusted => "image.untrusted",
            Self::Ambiguous => "image.ambiguous",
            Self::Platform => "image.platform",
            Self::NoSpace => "image.no-space",
            Self::Busy => "image.busy",
            Self::Storage => "image.storage",
        }
    }
}

type Source = Box<dyn StdError + Send + Sync>;

/// Why an operation on images failed.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    sentence: String,
    source: Option<Source>,
}

impl Error {
    /// Returns what a caller should know to act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the stable word programs know this error by, such as `image.not-found`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// Makes the error of a caller whose own part in an operation failed, such as telling which
    /// digests are pinned.
    #[must_use]
    pub fn outside(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::caused(ErrorKind::Storage, "what must be kept is not known", source)
    }

    pub(crate) fn new(kind: ErrorKind, sentence: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, sentence: sentence.into(), source: None }))
    }

    pub(crate) fn caused(
        kind: ErrorKind,
        sentence: impl Into<String>,
        source: impl Into<Source>,
    ) -> Self {
        Self(Box::new(Inner { kind, sentence: sentence.into(), source: Some(source.into()) }))
    }

    pub(crate) fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, sentence)
    }

    /// A file system that failed while `sentence`; a full one is told apart.
    pub(crate) fn storage(sentence: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = if is_full(&source) { ErrorKind::NoSpace } else { ErrorKind::Storage };
        Self::caused(kind, sentence, source)
    }

    /// Puts a further sentence in front; the kind stays.
    #[must_use]
    pub(crate) fn within(self, sentence: impl Into<String>) -> Self {
        Self::caused(self.kind(), sentence, self)
    }
}

/// Tells whether `error`, or anything that caused it, is a full file system or quota.
pub(crate) fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    let mut next = Some(error);
    while let Some(cause) = next {
        let code = match (cause.downcast_ref::<io::Error>(), cause.downcast_ref::<Errno>()) {
            (Some(io), _) => io.raw_os_error(),
            (None, Some(errno)) => Some(errno.raw_os_error()),
            (None, None) => None,
        };
        if code.is_some_and(|code| full.contains(&code)) {
            return true;
        }
        next = cause.source();
    }
    false
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_at_any_depth() {
        let full = io::Error::from(Errno::NOSPC);
        let error = Error::storage("cannot write `a`", full);
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(is_full(&error.within("cannot pull `b`")));
        assert_eq!(Error::storage("x", Errno::IO).kind(), ErrorKind::Storage);
    }

    #[test]
    fn the_sentence_does_not_repeat_its_cause() {
        let error = Error::storage("cannot write `a`", Errno::IO);
        assert_eq!(error.to_string(), "cannot write `a`");
        assert!(error.source().is_some());
    }
}
