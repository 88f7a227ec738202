//! virtio-blk: a disk, whatever it is made of ([`Media`]).
//!
//! It is served by a thread that may wait for files. What a request can ask for is what its medium
//! has a word for, and no more than [`MAX_REQUEST`] bytes: all else is refused with the status that
//! the specification has for it.
//!
//! ```text
//!   header: kind, sector │ bytes to be written … │ room for bytes read … │ status
//! ```
//!
//! Source: virtio 1.2 §5.2.

use std::io;
use std::os::fd::BorrowedFd;

use vm_memory::VolatileSlice;

use crate::memory::{self, Memory, Place};
use crate::virtio::{Activation, Active, Broken, Chain, Device, Fault, Interrupt, Queue, Waits};

/// What a disk is made of.
pub trait Media: Send + std::fmt::Debug + 'static {
    /// What it is called, at most twenty bytes: `VIRTIO_BLK_T_GET_ID`.
    fn name(&self) -> &'static str;
    /// Bytes of it.
    fn capacity(&self) -> u64;
    /// Its features beside those every disk has.
    fn features(&self) -> u64;
    /// Does what is asked for, from or to the chain; returns how many bytes it has written there.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; any part of it may have been done.
    fn serve(&self, kind: u32, offset: u64, chain: &mut Chain<'_>) -> Result<usize, Refusal>;
}

/// Why a request is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `VIRTIO_BLK_S_IOERR`: there is nothing there, or it could not be read or written.
    Failed,
    /// `VIRTIO_BLK_S_UNSUPP`: no such request.
    Unsupported,
}

/// Kinds of requests.
pub mod kind {
    /// `VIRTIO_BLK_T_IN`.
    pub const IN: u32 = 0;
    /// `VIRTIO_BLK_T_OUT`.
    pub const OUT: u32 = 1;
    /// `VIRTIO_BLK_T_FLUSH`.
    pub const FLUSH: u32 = 4;
    /// `VIRTIO_BLK_T_GET_ID`.
    pub const GET_ID: u32 = 8;
}

/// `VIRTIO_BLK_F_SIZE_MAX`.
const SIZE_MAX: u64 = 1 << 1;
/// `VIRTIO_BLK_F_SEG_MAX`.
const SEG_MAX: u64 = 1 << 2;
/// `VIRTIO_BLK_F_RO`.
pub const READ_ONLY: u64 = 1 << 5;
/// `VIRTIO_BLK_F_FLUSH`.
pub const FLUSH: u64 = 1 << 9;

/// Chains its queue can hold.
const QUEUE_SIZE: u16 = 256;
/// Bytes of a part of a request that a driver is told to keep below.
const MAX_PART: u32 = 64 << 10;
/// Parts of a request likewise: what is left of a chain without header and status.
const MAX_PARTS: u32 = 254;
/// Bytes of a request: whoever asks for more is refused.
pub const MAX_REQUEST: usize = 254 * (64 << 10);
/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Bytes of `struct virtio_blk_config` up to what discards would need.
const CONFIG_SIZE: usize = 36;

/// A disk.
#[derive(Debug)]
pub struct Disk<M> {
    media: M,
}

/// A disk whose driver is ready.
#[derive(Debug)]
struct Spinning<M> {
    media: M,
    memory: Memory,
    queue: Option<Queue>,
    interrupt: Interrupt,
}

impl<M: Media> Disk<M> {
    /// A disk made of this.
    pub fn new(media: M) -> Self {
        Self { media }
    }
}

impl<M: Media> Waits for Disk<M> {}

impl<M: Media> Device for Disk<M> {
    fn kind(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        self.media.features() | SIZE_MAX | SEG_MAX
    }

    fn config(&self) -> Vec<u8> {
        let mut config = (self.media.capacity() / SECTOR).to_le_bytes().to_vec();
        config.extend(MAX_PART.to_le_bytes());
        config.extend(MAX_PARTS.to_le_bytes());
        config.resize(CONFIG_SIZE, 0);
        config
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn activate(self: Box<Self>, activation: Activation) -> Result<Box<dyn Active>, Fault> {
        Ok(Box::new(Spinning {
            media: self.media,
            memory: activation.memory,
            queue: activation.queues.into_iter().next().flatten(),
            interrupt: activation.interrupt,
        }))
    }
}

impl<M: Media> Waits for Spinning<M> {}

impl<M: Media> Active for Spinning<M> {
    fn notified(&mut self, _: usize) -> Result<(), Fault> {
        let Some(mut queue) = self.queue.take() else { return Ok(()) };
        let served = self.serve(&mut queue);
        self.queue = Some(queue);
        served.map_err(|broken| broken.of(&format!("its disk of {}", self.media.name())))
    }

    fn reset(self: Box<Self>) -> Box<dyn Device> {
        Box::new(Disk { media: self.media })
    }
}

impl<M: Media> Spinning<M> {
    /// Serves what there is, at most as much as fits into the queue.
    fn serve(&self, queue: &mut Queue) -> Result<(), Broken> {
        for _ in 0..queue.size() {
            let Some(mut chain) = queue.next(&self.memory)? else { return Ok(()) };
            let head = chain.head();
            let written = self.answer(&mut chain);
            queue.done(&self.memory, head, written)?;
            queue.signal(&self.memory)?;
        }
        queue.again();
        Ok(())
    }

    /// Answers one request; returns how many bytes were written.
    fn answer(&self, chain: &mut Chain<'_>) -> u32 {
        let status = chain.take_writable_tail(1);
        let (Some(header), Some(status)) = (chain.read_array::<16>(), status.first()) else {
            self.interrupt.violation();
            return 0;
        };
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let kind = u32::from_le_bytes(word(0));
        let sector =
            u64::from(u32::from_le_bytes(word(8))) | u64::from(u32::from_le_bytes(word(12))) << 32;
        let (code, written) = match self.dispatch(kind, sector, chain) {
            Ok(written) => (0_u8, written),
            Err(Refusal::Failed) => (1, 0),
            Err(Refusal::Unsupported) => (2, 0),
        };
        status.copy_from(&[code]);
        u32::try_from(written + 1).unwrap_or(u32::MAX)
    }

    fn dispatch(&self, kind: u32, sector: u64, chain: &mut Chain<'_>) -> Result<usize, Refusal> {
        if kind == kind::GET_ID {
            let mut name = [0; 20];
            let known = self.media.name().as_bytes();
            let length = known.len().min(name.len());
            name[..length].copy_from_slice(&known[..length]);
            return Ok(chain.write(&name));
        }
        let offset = sector.checked_mul(SECTOR).ok_or(Refusal::Failed)?;
        if chain.readable() > MAX_REQUEST || chain.writable() > MAX_REQUEST {
            return Err(Refusal::Failed);
        }
        self.media.serve(kind, offset, chain)
    }
}

/// Reads all of `parts` from a file at this offset.
///
/// # Errors
///
/// [`Refusal::Failed`] if the file ends before, or the kernel fails.
pub fn read_all(
    file: BorrowedFd<'_>,
    offset: u64,
    parts: Vec<VolatileSlice<'_>>,
) -> Result<usize, Refusal> {
    all(offset, parts, |at, parts| memory::read_into(file, at, parts))
}

/// Writes all of `parts` to a file at this offset.
///
/// # Errors
///
/// [`Refusal::Failed`] if the kernel fails: the disk it is on is full, for one.
pub fn write_all(
    file: BorrowedFd<'_>,
    offset: u64,
    parts: Vec<VolatileSlice<'_>>,
) -> Result<usize, Refusal> {
    all(offset, parts, |at, parts| memory::write_from(file, Place::At(at), parts))
}

fn all<'m>(
    mut offset: u64,
    mut parts: Vec<VolatileSlice<'m>>,
    mut call: impl FnMut(u64, &[VolatileSlice<'m>]) -> io::Result<usize>,
) -> Result<usize, Refusal> {
    let mut done = 0;
    parts.retain(|part| !part.is_empty());
    while !parts.is_empty() {
        let moved = match call(offset, &parts) {
            Ok(0) => return Err(Refusal::Failed),
            Ok(moved) => moved,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Refusal::Failed),
        };
        done += moved;
        offset += moved as u64;
        forget(&mut parts, moved);
    }
    Ok(done)
}

/// Leaves out the first bytes.
fn forget(parts: &mut Vec<VolatileSlice<'_>>, mut bytes: usize) {
    parts.retain_mut(|part| {
        let gone = part.len().min(bytes);
        bytes -= gone;
        match part.offset(gone) {
            Ok(rest) if !rest.is_empty() => {
                *part = rest;
                true
            }
            _ => false,
        }
    });
}
