//! What can go wrong inside the worker, before it is flattened into a report.
//!
//! A fault names its object: an entry of the archive, or the place in the layer's tree and the
//! system call. Names come from hostile archives, so they are shortened and made printable here.

use std::io;

use pod_abi::text;

use super::error::ErrorKind;
use crate::room::Full;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes do not decompress.
    #[error("the layer does not decompress at byte {at} of its content")]
    Stream {
        /// How much came out before.
        at: u64,
        /// What the decompressor says.
        source: io::Error,
    },
    /// There is more of something than allowed.
    #[error("the layer exceeds its limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much of it is allowed.
        limit: u64,
    },
    /// The archive is malformed or means different things to different readers.
    #[error("entry `{entry}` at byte {at} of the layer {what}")]
    Archive {
        /// Its name, if it was known yet.
        entry: Shown,
        /// Where its header stands in the uncompressed stream.
        at: u64,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
    /// An entry cannot be had in a tree, whatever the file system.
    #[error("entry `{entry}` {what}")]
    Entry {
        /// Its path.
        entry: Shown,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
    /// The file system refused.
    #[error("cannot unpack `{path}`: {call}")]
    Storage {
        /// The place in the layer's tree.
        path: Shown,
        /// The system call that failed.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The worker could not give up its powers.
    #[error("cannot confine the unpack worker: {call}")]
    Confine {
        /// The step that failed.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Whoever started the worker did not keep to the protocol.
    #[error("the unpack worker was not told its limits")]
    Orders {
        /// What was wrong.
        source: io::Error,
    },
}

impl Fault {
    /// Tells whose fault it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Stream { .. } | Self::Archive { .. } | Self::Entry { .. } => ErrorKind::Layer,
            Self::Limit { .. } => ErrorKind::Limit,
            Self::Storage { .. } => ErrorKind::Storage,
            Self::Confine { .. } | Self::Orders { .. } => ErrorKind::Worker,
        }
    }

    /// Makes the fault of a stream that failed after `at` bytes.
    pub(crate) fn stream(source: io::Error, at: u64) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<TooLong>()) {
            Some(TooLong(limit)) => Self::Limit { what: "bytes", limit: *limit },
            None => Self::Stream { at, source },
        }
    }

    /// Makes the fault of a refused system call on `path` of the layer.
    pub(crate) fn storage(
        path: &[u8],
        call: &'static str,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = Shown::of(path);
        move |errno| Self::Storage { path, call, source: errno.into() }
    }

    /// Makes the fault of a file system that shall not take more.
    pub(crate) fn full(full: Full) -> Self {
        Self::storage(b"", full.what)(full.errno)
    }
}

/// Says, as the payload of an [`io::Error`], that a stream was cut off on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more than {0} bytes")]
pub(crate) struct TooLong(pub(crate) u64);

/// A name out of an archive, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(String);

/// Enough of a name to recognise it by, little enough for one line.
const SHOWN_CHARS: usize = 200;

impl Shown {
    /// Makes `name` printable; the root reads as `/`.
    pub(crate) fn of(name: &[u8]) -> Self {
        if name.is_empty() {
            return Self("/".to_owned());
        }
        let head = name.get(..4 * SHOWN_CHARS).unwrap_or(name);
        Self(text::tame(&String::from_utf8_lossy(head), SHOWN_CHARS))
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
