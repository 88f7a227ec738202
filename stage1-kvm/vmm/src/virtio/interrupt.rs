//! How a device makes itself heard: a bit of status, and an interrupt.
//!
//! The status is read and cleared by the driver in registers, from any processor, while the device
//! raises it from its own thread: one atomic word, no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::bell::Bell;
use crate::helm::OfDevice;

/// The bit of a status, and what else the device tells the transport.
#[derive(Debug, Default)]
pub struct Status {
    pending: AtomicU32,
    violations: AtomicU64,
    raised: AtomicU64,
    exits: AtomicU64,
}

/// `VIRTIO_MMIO_INT_VRING`: used buffers (virtio 1.2 §4.2.2).
const USED: u32 = 1;

impl Status {
    /// The bits that are set; there is no other than for used buffers.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::SeqCst)
    }

    /// Clears bits.
    pub fn acknowledge(&self, bits: u32) {
        self.pending.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Forgets all but what was counted: the device is reset.
    pub fn clear(&self) {
        self.pending.store(0, Ordering::SeqCst);
    }

    /// Counts something no honest driver does.
    pub fn violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted of that.
    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// Counts a use of one of the device's registers.
    pub fn exit(&self) {
        self.exits.fetch_add(1, Ordering::Relaxed);
    }

    /// All that was counted.
    pub fn counted(&self) -> OfDevice {
        let exits = self.exits.load(Ordering::Relaxed);
        OfDevice { exits, interrupts: self.raised(), violations: self.violations() }
    }

    /// How often an interrupt was raised.
    pub fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }
}

/// A device's end of its interrupt.
#[derive(Clone, Debug)]
pub struct Interrupt {
    status: Arc<Status>,
    line: Option<Bell>,
}

impl Interrupt {
    /// An interrupt that KVM delivers whenever `line` is written; without a line it is only
    /// counted.
    #[must_use]
    pub fn new(status: Arc<Status>, line: Option<Bell>) -> Self {
        Self { status, line }
    }

    /// There are used buffers. [`Queue::signal`](crate::virtio::Queue::signal) is how a device says
    /// so: it leaves it out if the driver does not want to know.
    pub fn used(&self) {
        self.status.pending.fetch_or(USED, Ordering::SeqCst);
        self.status.raised.fetch_add(1, Ordering::Relaxed);
        if let Some(line) = &self.line {
            line.ring();
        }
    }

    /// The driver has done what no honest driver does.
    pub fn violation(&self) {
        self.status.violation();
    }
}
