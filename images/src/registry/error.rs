//! What can go wrong between here and a registry.
//!
//! Every error names the registry and what was asked of it. The kind is what a caller may treat
//! differently; the words are for people and never repeat their source's. An error on its way
//! through `std::io::Read` travels inside an `io::Error` and is found again by [`Error::of_io`].

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What was asked of which registry: how every error begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The registry, as `HOST[:PORT]`; empty if it is none, and the object says where it is.
    pub host: String,
    /// What of it, such as ``manifest `library/busybox:1` ``.
    pub object: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if self.host.is_empty() { Ok(()) } else { write!(f, " of registry `{}`", self.host) }
    }
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The registry does not have it.
    NotFound,
    /// The registry wants credentials, or other ones.
    Denied,
    /// No answer, or only errors, for as long as we were willing to try.
    Unreachable,
    /// An answer that breaks the protocol, or bytes that are not those asked for.
    Invalid,
    /// It would take plain HTTP where nobody allowed it.
    RefusedPlainHttp,
    /// More bytes than announced or than we take.
    TooLarge,
    /// The bytes ended early, each time.
    Truncated,
    /// The registry asks us to come back later.
    RateLimited,
    /// A file of this host (credentials, authorities) is unusable.
    Settings,
}

/// Why something was not had from a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry does not have it.
    #[error("{0} does not exist")]
    NotFound(Place),
    /// The registry wants credentials, or other ones.
    #[error("{place} is denied: {why}")]
    Denied {
        /// What was asked for.
        place: Place,
        /// Whether credentials were missing or refused.
        why: String,
    },
    /// No answer for as long as we were willing to try.
    #[error("{place} cannot be reached")]
    Unreachable {
        /// What was asked for.
        place: Place,
        /// The last attempt's own story.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry answered with an error each time, or with one that no retry can change.
    #[error("{place} is answered with status {status}{}", after_colon(words))]
    Status {
        /// What was asked for.
        place: Place,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, if any; printable.
        words: String,
    },
    /// An answer that breaks the protocol, or bytes that are not those asked for.
    #[error("{place} is not as it must be: {why}")]
    Invalid {
        /// What was asked for.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
    /// It would take plain HTTP where nobody allowed it.
    #[error("{place} leads to `{url}`, which is plain HTTP and was not allowed")]
    RefusedPlainHttp {
        /// What was asked for.
        place: Place,
        /// Where the registry sent us.
        url: String,
    },
    /// More bytes than announced or than we take.
    #[error("{place} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        place: Place,
        /// The announced size or our limit.
        limit: u64,
    },
    /// The bytes ended early, each time.
    #[error("{place} ended before its {wanted} bytes were there")]
    Truncated {
        /// What was asked for.
        place: Place,
        /// How many should have come.
        wanted: u64,
    },
    /// The registry asks us to come back later.
    #[error("{0} is rate limited")]
    RateLimited(Place),
    /// A file of this host is unusable.
    #[error("cannot use `{}`: {why}", path.display())]
    Settings {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Returns what a caller may want to tell apart.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Denied { .. } => Kind::Denied,
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Status { status, .. } if *status >= 500 => Kind::Unreachable,
            Self::Status { .. } | Self::Invalid { .. } => Kind::Invalid,
            Self::RefusedPlainHttp { .. } => Kind::RefusedPlainHttp,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Truncated { .. } => Kind::Truncated,
            Self::RateLimited(_) => Kind::RateLimited,
            Self::Settings { .. } => Kind::Settings,
        }
    }

    /// Tells whether somebody was there and will not give it: a status of 4xx, but for those that
    /// ask to come back.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::NotFound(_) | Self::Denied { .. } => true,
            Self::Status { status, .. } => *status >= 400 && *status <= 499,
            _ => false,
        }
    }

    /// Finds the error of a registry inside what a [`BlobReader`](super::BlobReader) returned.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

fn after_colon(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::NotFound => io::ErrorKind::NotFound,
            Kind::Denied | Kind::RefusedPlainHttp => io::ErrorKind::PermissionDenied,
            Kind::Truncated => io::ErrorKind::UnexpectedEof,
            Kind::Invalid | Kind::TooLarge => io::ErrorKind::InvalidData,
            Kind::Unreachable | Kind::RateLimited | Kind::Settings => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
