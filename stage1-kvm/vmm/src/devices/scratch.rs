//! The medium that can be written: one file, of the size it has when the machine starts.
//!
//! It is bytes to us. What a guest writes there is never looked at, so it cannot be taken for
//! anything (GHSA-jmr4-g2hv-mjj6).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::disk::{FLUSH, Media, Refusal, kind, read_all, write_all};
use crate::virtio::Chain;

/// The writable disk.
#[derive(Debug)]
pub struct Scratch {
    file: OwnedFd,
    capacity: u64,
}

impl Scratch {
    /// A disk that is this file, as long as it is now.
    ///
    /// # Errors
    ///
    /// `fstat(2)`.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        let size = rustix::fs::fstat(&file)?.st_size;
        Ok(Self { file, capacity: u64::try_from(size).unwrap_or(0) })
    }

    /// Whether the disk has all of these bytes.
    fn has(&self, offset: u64, length: usize) -> Result<usize, Refusal> {
        let end = offset.checked_add(length as u64).ok_or(Refusal::Failed)?;
        if end <= self.capacity { Ok(length) } else { Err(Refusal::Failed) }
    }
}

impl Media for Scratch {
    fn name(&self) -> &'static str {
        "scratch"
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn features(&self) -> u64 {
        FLUSH
    }

    fn serve(&self, kind: u32, offset: u64, chain: &mut Chain<'_>) -> Result<usize, Refusal> {
        match kind {
            kind::IN => {
                let length = self.has(offset, chain.writable())?;
                read_all(self.file.as_fd(), offset, chain.take_writable(length))
            }
            kind::OUT => {
                let length = self.has(offset, chain.readable())?;
                write_all(self.file.as_fd(), offset, chain.take_readable(length)).map(|_| 0)
            }
            kind::FLUSH => {
                rustix::fs::fdatasync(&self.file).map(|()| 0).map_err(|_| Refusal::Failed)
            }
            _ => Err(Refusal::Unsupported),
        }
    }
}
