//! How much more the file system may take.
//!
//! Asked now and then, not before every write: an overshoot by one interval is no harm, a full
//! disk under every other service of the host is.

use std::os::fd::AsFd;

use rustix::fs::fstatvfs;
use rustix::io::Errno;

use crate::layer::fault::Fault;

/// Bytes written between two looks.
const INTERVAL_BYTES: u64 = 64 << 20;
/// Entries made between two looks.
const INTERVAL_ENTRIES: u64 = 16_384;
/// Inodes that stay free.
const INODES: u64 = 1024;

/// Watches free space while a layer is written.
#[derive(Debug)]
pub(super) struct Budget {
    reserve: u64,
    bytes: u64,
    entries: u64,
}

impl Budget {
    /// Watches that `reserve` bytes stay free, or a hundredth of a file system so small that this
    /// is less.
    pub(super) fn new(reserve: u64) -> Self {
        Self { reserve, bytes: 0, entries: 0 }
    }

    /// Accounts for one entry and `bytes` of content.
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`] with `ENOSPC`.
    pub(super) fn spend(&mut self, root: impl AsFd, entries: u64, bytes: u64) -> Result<(), Fault> {
        self.bytes += bytes;
        self.entries += entries;
        if self.bytes < INTERVAL_BYTES && self.entries < INTERVAL_ENTRIES {
            return Ok(());
        }
        self.look(root)
    }

    /// Looks at once.
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`] with `ENOSPC`.
    pub(super) fn look(&mut self, root: impl AsFd) -> Result<(), Fault> {
        (self.bytes, self.entries) = (0, 0);
        let free = fstatvfs(root).map_err(Fault::storage(b"", "fstatvfs"))?;
        let bytes = free.f_bavail.saturating_mul(free.f_frsize);
        let hundredth = (free.f_blocks / 100).saturating_mul(free.f_frsize);
        if bytes < self.reserve.min(hundredth) {
            return Err(Fault::storage(b"", "the file system is nearly full")(Errno::NOSPC));
        }
        // File systems without a fixed number of inodes report none at all.
        if free.f_files > 0 && free.f_favail < INODES.min(free.f_files / 100) {
            return Err(Fault::storage(b"", "the file system is nearly out of inodes")(
                Errno::NOSPC,
            ));
        }
        Ok(())
    }
}
