//! How much more the file system may take.
//!
//! Asked now and then, not before every write: an overshoot by one interval is no harm, a full
//! disk under every other service of the host is.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Stat, fstatvfs};
use rustix::io::Errno;

/// Bytes that stay free where nobody says otherwise: a full store can still write its own records.
pub(crate) const RESERVE: u64 = 64 << 20;

/// Bytes written between two looks.
const INTERVAL_BYTES: u64 = 64 << 20;
/// Entries made between two looks.
const INTERVAL_ENTRIES: u64 = 16_384;
/// Inodes that stay free.
const INODES: u64 = 1024;

/// Watches free space while a layer, or the image of one, is written.
#[derive(Debug)]
pub(crate) struct Room {
    reserve: u64,
    bytes: u64,
    entries: u64,
}

/// Why no more is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// What there is too little of, or the call that did not tell.
    pub(crate) what: &'static str,
    /// `ENOSPC`, or the error of the call.
    pub(crate) errno: Errno,
}

/// Tells whether as much as `stat` says a file takes can be written to the file system that `on`
/// is on: [`RESERVE`] stays free then, or a hundredth of a file system so small that this is less.
///
/// # Errors
///
/// `ENOSPC` if it cannot, or the error of asking.
pub(crate) fn fits(on: impl AsFd, stat: &Stat) -> io::Result<()> {
    let free = fstatvfs(on)?;
    let bytes = |blocks: u64| blocks.saturating_mul(free.f_frsize);
    // `st_blocks` counts 512 bytes (stat(2)).
    let taken = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    let left = bytes(free.f_bavail).checked_sub(taken);
    match left.filter(|left| *left >= RESERVE.min(bytes(free.f_blocks / 100))) {
        Some(_) => Ok(()),
        None => Err(Errno::NOSPC.into()),
    }
}

impl Room {
    /// Watches that `reserve` bytes stay free, or a hundredth of a file system so small that this
    /// is less.
    pub(crate) fn new(reserve: u64) -> Self {
        Self { reserve, bytes: 0, entries: 0 }
    }

    /// Accounts for that many entries and `bytes` of content, written to the file system that `on`
    /// is on.
    ///
    /// # Errors
    ///
    /// [`Full`]
    pub(crate) fn spend(&mut self, on: impl AsFd, entries: u64, bytes: u64) -> Result<(), Full> {
        self.bytes += bytes;
        self.entries += entries;
        if self.bytes < INTERVAL_BYTES && self.entries < INTERVAL_ENTRIES {
            return Ok(());
        }
        self.look(on)
    }

    /// Looks at once.
    ///
    /// # Errors
    ///
    /// [`Full`]
    pub(crate) fn look(&mut self, on: impl AsFd) -> Result<(), Full> {
        (self.bytes, self.entries) = (0, 0);
        let free = fstatvfs(on).map_err(|errno| Full { what: "fstatvfs", errno })?;
        let bytes = free.f_bavail.saturating_mul(free.f_frsize);
        let hundredth = (free.f_blocks / 100).saturating_mul(free.f_frsize);
        let lack = |what| Err(Full { what, errno: Errno::NOSPC });
        if bytes < self.reserve.min(hundredth) {
            return lack("the file system is nearly full");
        }
        // File systems without a fixed number of inodes report none at all.
        if free.f_files > 0 && free.f_favail < INODES.min(free.f_files / 100) {
            return lack("the file system is nearly out of inodes");
        }
        Ok(())
    }
}
