//! What can fail here, told to two readers: a sentence that names the object and a way out for the
//! person, the call and its errno for the engineer.

use std::fmt;
use std::io;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller would treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request contradicts itself or the network it is for.
    Invalid,
    /// The address that was asked for belongs to somebody.
    AddressTaken,
    /// A port of the host that was asked for belongs to somebody.
    PortTaken,
    /// No address is free.
    Exhausted,
    /// Every subnet we would take is routed on this host already.
    NoSubnet,
    /// The namespace cannot be entered.
    Namespace,
    /// The kernel refused a link, an address, a route or a setting.
    Kernel,
    /// `nft` is missing or refused our table.
    Firewall,
    /// What we keep on disk cannot be read or written.
    Storage,
    /// An attachment is not what it was made to be.
    Broken,
}

impl ErrorKind {
    /// Returns the stable code of this kind, for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "network.invalid",
            Self::AddressTaken => "network.address-taken",
            Self::PortTaken => "network.port-taken",
            Self::Exhausted => "network.addresses-exhausted",
            Self::NoSubnet => "network.no-subnet",
            Self::Namespace => "network.namespace",
            Self::Kernel => "network.kernel",
            Self::Firewall => "network.firewall",
            Self::Storage => "network.storage",
            Self::Broken => "network.broken",
        }
    }
}

/// Why something about a network could not be done.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

impl Error {
    /// Makes an error of a sentence.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what the system said.
    #[must_use]
    pub fn because(mut self, source: impl Into<io::Error>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns what a person can do about it.
    #[must_use]
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the errno behind it.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

impl From<netlink::Error> for Error {
    fn from(error: netlink::Error) -> Self {
        let kind = match error.kind() {
            netlink::ErrorKind::Namespace => ErrorKind::Namespace,
            _ => ErrorKind::Kernel,
        };
        let (message, hint) = (error.to_string(), error.way_out().map(str::to_owned));
        Self(Box::new(Inner { kind, message, hint, source: error.into_source() }))
    }
}

/// Gives what the system said the object it was about.
pub(crate) trait Context<T> {
    /// The same result; an error gets a kind and a sentence.
    fn context(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(kind, message()).because(error))
    }
}
