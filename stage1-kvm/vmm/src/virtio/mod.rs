//! Devices as their driver's counterpart, without the bus they are found on.
//!
//! ```text
//!   Device  ── driver is ready: Activation ──▶  Active  ── reset ──▶  Device
//!   says what it is                             has queues, memory, an interrupt
//! ```
//!
//! A device gets its queues by value once its driver has set them up, and gives them up when it is
//! reset: what the driver writes to registers in between cannot reach them (CVE-2026-5747). It
//! sees nothing of registers, KVM or threads: one thread calls it, for one thing at a time, and in
//! no call does it wait for anybody; but the disks, whose thread is their own, wait for files.
//!
//! Source: virtio 1.2.

mod interrupt;
mod queue;
pub mod transport;

use std::fmt;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

pub use interrupt::{Interrupt, Status};
pub use queue::{Broken, Chain, Queue, Room};

use crate::memory::Memory;
use crate::watch::Watch;

/// Features every device offers, which the transport and [`Queue`] know how to serve.
pub mod feature {
    /// `VIRTIO_F_INDIRECT_DESC` (virtio 1.2 §6).
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VIRTIO_F_VERSION_1`: a driver that does not take it is refused.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of these.
    pub const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}

/// What a device waits for, with a driver or without: one that was reset may hold what is still to
/// leave the monitor.
///
/// A call that returns [`Fault`] ends the machine. What a *driver* does wrong is none: the device
/// counts it ([`Interrupt::violation`]) and refuses; but a queue that is [`Broken`] is the end.
pub trait Waits: Send + fmt::Debug {
    /// A descriptor it waits for is ready; it may not be any more. `token` is below
    /// [`TOKENS`](crate::watch::TOKENS).
    ///
    /// # Errors
    ///
    /// The machine cannot go on.
    fn ready(&mut self, _token: u32, _flags: EventFlags) -> Result<(), Fault> {
        Ok(())
    }

    /// When it wants to be called though nothing happens.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The time of [`Waits::deadline`] has come.
    ///
    /// # Errors
    ///
    /// The machine cannot go on.
    fn timed_out(&mut self, _now: Instant) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether it holds something that is still to leave the monitor. Once the machine has ended
    /// each queue is `notified` once more and then, while this is true and for a while at most, the
    /// device is called as ever. Processors that have not heard of the end may still run.
    fn unfinished(&self) -> bool {
        false
    }
}

/// A device whose driver is not ready.
pub trait Device: Waits {
    /// Its number (virtio 1.2 §5).
    fn kind(&self) -> u32;
    /// The features it has beside [`feature::COMMON`].
    fn features(&self) -> u64;
    /// Its configuration space; asked for once, and it never changes. No device has one that can
    /// be written.
    fn config(&self) -> Vec<u8>;
    /// The longest each of its queues may be, each a power of two.
    fn queue_sizes(&self) -> &'static [u16];
    /// Its driver is ready.
    ///
    /// # Errors
    ///
    /// The machine cannot go on.
    fn activate(self: Box<Self>, activation: Activation) -> Result<Box<dyn Active>, Fault>;
}

/// What a device is given once its driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// The memory of the guest.
    pub memory: Memory,
    /// Its queues, in the order of [`Device::queue_sizes`]; none where its driver wants none.
    pub queues: Vec<Option<Queue>>,
    /// Its interrupt.
    pub interrupt: Interrupt,
    /// The features both sides have, [`feature::COMMON`] among them.
    pub features: u64,
    /// By which it waits for descriptors of its own. Queues are waited for already.
    pub watch: Watch,
}

/// A device whose driver is ready.
pub trait Active: Waits {
    /// The driver says that there is something in a queue; there may be nothing.
    ///
    /// # Errors
    ///
    /// The machine cannot go on.
    fn notified(&mut self, queue: usize) -> Result<(), Fault>;

    /// Its driver has reset it, or is gone: no queue and no memory is touched any more.
    fn reset(self: Box<Self>) -> Box<dyn Device>;
}

/// Why a machine cannot go on: one line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);
