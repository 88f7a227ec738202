//! What goes into unpacking a layer and what comes out, as plain values.
//!
//! They cross the border between the process that asks and the worker that unpacks, so all of
//! them have a bounded JSON form. Nothing here does any work.

use std::ffi::OsString;
use std::path::PathBuf;

use pod_abi::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::room::RESERVE;

/// The program that unpacks one layer and then exits: `pod internal-unpack`, which calls
/// [`crate::worker::run`].
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// Its executable, as an absolute path.
    pub exe: PathBuf,
    /// All its arguments.
    pub args: Vec<OsString>,
}

/// What one layer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes of the uncompressed archive, which is more than all file contents together.
    pub(crate) bytes: u64,
    /// Bytes that must stay free on the file system of the store.
    pub(crate) reserve: u64,
}

impl Default for Limits {
    /// Five million entries and 256 GiB: both several times the largest layers in the field, both
    /// refused long before they hurt a host of today.
    fn default() -> Self {
        Self { entries: 5_000_000, bytes: 256 << 30, reserve: RESERVE }
    }
}

/// What is known of a layer once it has been unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerFacts {
    /// The digest of the whole uncompressed stream.
    pub(crate) diff_id: Digest,
    /// Bytes of file content written; holes do not count.
    pub(crate) bytes: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Device nodes that were left out; the runtime supplies `/dev`.
    pub(crate) skipped_devices: u64,
    /// Directories that had to be made without an entry of their own, relative to the layer's
    /// root. They have mode 0755, belong to root and hide the attributes a lower layer gives them.
    pub(crate) implicit_dirs: Vec<Vec<u8>>,
    /// Hard links, as (link, target) relative to the layer's root, whose target is in a lower
    /// layer. They have not been made.
    pub(crate) lower_links: Vec<(Vec<u8>, Vec<u8>)>,
}
