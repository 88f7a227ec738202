//! What crosses between the worker and whoever started it.
//!
//! ```text
//! starter ──stdin──▶  frame(Orders) · compressed layer · end        ──▶ worker
//!         ◀─stdout──  JSON of one Report · end                      ◀──
//! ```
//!
//! The staging directory is the worker's current directory. The report comes from a process that
//! has read hostile bytes, so it is bounded, tamed, and believed only as far as the layer itself.

use std::error::Error as _;
use std::io::{self, Read};

use pod_abi::{frame, text};
use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorKind};
use super::facts::{LayerFacts, Limits};
use super::fault::{Fault, Shown};

/// The longest report. JSON spends up to four bytes for one of a path.
pub(super) const MAX_REPORT: u64 = 16 << 20;

/// The most bytes of paths a report may hold, so that it stays within [`MAX_REPORT`].
const MAX_PATHS: usize = 3 << 20;

/// The longest message of a failure, in characters.
const MAX_MESSAGE: usize = 1000;

/// What the worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    pub(super) limits: Limits,
}

/// What the worker says at its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Report {
    Unpacked {
        facts: LayerFacts,
        /// Directories that are to be marked opaque.
        opaque_dirs: Vec<Vec<u8>>,
    },
    Failed {
        kind: ErrorKind,
        message: String,
        errno: Option<i32>,
    },
}

impl Report {
    /// Makes the report of a layer that was unpacked, unless it has too many oddities to tell.
    pub(super) fn unpacked(facts: LayerFacts, opaque_dirs: Vec<Vec<u8>>) -> Result<Self, Fault> {
        let single = facts.implicit_dirs.iter().chain(&opaque_dirs);
        let links = facts.lower_links.iter().map(|(link, target)| link.len() + target.len() + 2);
        let bytes: usize = single.map(|path| path.len() + 1).chain(links).sum();
        if bytes > MAX_PATHS {
            let what = "bytes of opaque directories, links to lower layers and missing parents";
            return Err(Fault::Limit { what, limit: MAX_PATHS as u64 });
        }
        Ok(Self::Unpacked { facts, opaque_dirs })
    }

    /// Makes the report of a fault; the system's error travels as a number.
    pub(super) fn failed(fault: &Fault) -> Self {
        let source = fault.source().and_then(|source| source.downcast_ref::<io::Error>());
        let errno = source.and_then(io::Error::raw_os_error);
        let message = match source {
            Some(source) if errno.is_none() => format!("{fault}: {source}"),
            _ => fault.to_string(),
        };
        Self::Failed { kind: fault.kind(), message, errno }
    }

    /// Turns the report into what the starter returns.
    pub(super) fn into_result(self) -> Result<(LayerFacts, Vec<Vec<u8>>), Error> {
        match self {
            Self::Unpacked { facts, opaque_dirs } => {
                let links = facts.lower_links.iter().flat_map(|(link, target)| [link, target]);
                let mut paths = facts.implicit_dirs.iter().chain(&opaque_dirs).chain(links);
                if let Some(path) = paths.find(|path| leads_out(path)) {
                    let what = format!("`{}` leads out of the layer", Shown::of(path));
                    return Err(Error::Report { source: io::Error::other(what) });
                }
                drop(paths);
                Ok((facts, opaque_dirs))
            }
            Self::Failed { kind, message, errno } => {
                let message = text::tame(&message, MAX_MESSAGE);
                let source = errno.map(io::Error::from_raw_os_error);
                Err(Error::Failed { kind, message, source })
            }
        }
    }
}

/// Tells whether a path that a worker names could mean something outside of the layer. A worker
/// that a hostile layer has taken over says whatever it likes.
fn leads_out(path: &[u8]) -> bool {
    path.contains(&0) || path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// Reads the orders in front of the layer, and not one byte more.
pub(super) fn read_orders(mut input: impl Read) -> io::Result<Orders> {
    let mut prefix = [0; 4];
    input.read_exact(&mut prefix)?;
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if length > frame::MAX_FRAME {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(io::Error::from)
}
