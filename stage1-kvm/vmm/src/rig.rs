//! A driver's side of a queue, in memory without a machine: what tests of devices stand on.
//!
//! It can be as dishonest as a test wants it: descriptors are written as given.

use std::sync::Arc;

use virtio_queue::{Queue as Ring, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::bell::Bell;
use crate::memory::Memory;
use crate::virtio::{Activation, Interrupt, Queue, Status, feature};
use crate::watch::Watch;

/// Bytes of memory of a rig.
pub const MEMORY: u64 = 16 << 20;
/// Where the area begins that buffers are taken from.
const BUFFERS: u64 = 1 << 20;
/// Bytes between the rings of two queues: enough for 256 descriptors.
const RINGS: u64 = 64 << 10;

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const INDIRECT: u16 = 4;

/// Memory, and what a device without a machine needs.
#[derive(Debug)]
pub struct Rig {
    /// The memory both sides see.
    pub memory: Memory,
    /// What the device has told.
    pub status: Arc<Status>,
    /// What the device waits for.
    pub watch: Watch,
    /// The driver's ends of the queues.
    pub drivers: Vec<Driver>,
}

/// A driver's end of a queue.
#[derive(Debug)]
pub struct Driver {
    memory: Memory,
    base: u64,
    size: u16,
    next: u16,
    made: u16,
    taken: u16,
    /// Where the next buffer is put.
    pub free: u64,
    /// What the device waits for.
    pub notified: Bell,
}

/// Memory of a guest that is unmapped with its last user, as a process' only machine's is not.
///
/// # Panics
///
/// If there is no room for it.
#[must_use]
pub fn memory(bytes: u64) -> Memory {
    let length = usize::try_from(bytes).expect("64 bits");
    let mapped = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)]);
    Arc::new(mapped.expect("room for memory"))
}

impl Rig {
    /// A rig with queues of these sizes, at most 256 each, and what their device is given.
    ///
    /// # Panics
    ///
    /// If there are no descriptors or no memory left, or a size is no power of two.
    #[must_use]
    pub fn new(sizes: &[u16], features: u64) -> (Self, Activation) {
        let memory = memory(MEMORY);
        let status = Arc::new(Status::default());
        let interrupt = Interrupt::new(Arc::clone(&status), None);
        let watch = Watch::new().expect("an epoll instance");
        let mut drivers = Vec::new();
        let mut queues = Vec::new();
        for (index, &size) in (0..).zip(sizes) {
            let notified = Bell::new().expect("an eventfd");
            let base = RINGS * (index + 1);
            let mut ring = Ring::new(size).expect("a power of two");
            ring.try_set_desc_table_address(GuestAddress(base)).expect("aligned");
            ring.try_set_avail_ring_address(GuestAddress(base + AVAIL)).expect("aligned");
            ring.try_set_used_ring_address(GuestAddress(base + USED)).expect("aligned");
            ring.set_event_idx(features & feature::EVENT_IDX != 0);
            ring.set_ready(true);
            queues.push(Some(Queue::new(ring, interrupt.clone(), notified.clone())));
            drivers.push(Driver {
                memory: Arc::clone(&memory),
                base,
                size,
                next: 0,
                made: 0,
                taken: 0,
                free: BUFFERS * (index + 1),
                notified,
            });
        }
        let activation = Activation {
            memory: Arc::clone(&memory),
            queues,
            interrupt,
            features: features | feature::VERSION_1,
            watch: watch.clone(),
        };
        (Self { memory, status, watch, drivers }, activation)
    }
}

/// Where the ring of available chains lies, from the start of a queue's area.
const AVAIL: u64 = 0x4000;
/// Where the ring of used chains lies.
const USED: u64 = 0x8000;

impl Driver {
    /// Makes these available, as one chain: bytes to be read, then rooms to be written.
    ///
    /// Returns its head and where each buffer lies.
    ///
    /// # Panics
    ///
    /// If the rig's memory is used up.
    pub fn put(&mut self, readable: &[&[u8]], writable: &[u32]) -> (u16, Vec<u64>) {
        let mut chain = Vec::new();
        for bytes in readable {
            let length = u32::try_from(bytes.len()).expect("a buffer below 4 GiB");
            let address = self.room(length);
            self.memory.write_slice(bytes, GuestAddress(address)).expect("memory of the rig");
            chain.push((address, length, 0));
        }
        for &length in writable {
            chain.push((self.room(length), length, WRITE));
        }
        let addresses = chain.iter().map(|buffer| buffer.0).collect();
        (self.put_raw(&chain), addresses)
    }

    /// Makes descriptors available as they are, chained one to the next; returns the head.
    pub fn put_raw(&mut self, chain: &[(u64, u32, u16)]) -> u16 {
        let head = self.next;
        for (place, &(address, length, flags)) in chain.iter().enumerate() {
            let index = self.next;
            self.next = (self.next + 1) % self.size;
            let flags = if place + 1 < chain.len() { flags | NEXT } else { flags };
            self.describe(index, address, length, flags, self.next);
        }
        self.offer(head);
        head
    }

    /// Writes one descriptor.
    ///
    /// # Panics
    ///
    /// If there is no such descriptor.
    pub fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = GuestAddress(self.base + u64::from(index) * 16);
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.memory.write_slice(&bytes, at).expect("a descriptor within the table");
    }

    /// Makes a chain available whose descriptors are there.
    pub fn offer(&mut self, head: u16) {
        let slot = u64::from(self.made % self.size);
        self.store(AVAIL + 4 + slot * 2, head);
        self.made = self.made.wrapping_add(1);
        self.store(AVAIL + 2, self.made);
    }

    /// The next chain the device has given back, and how many bytes it says it has written.
    pub fn used(&mut self) -> Option<(u16, u32)> {
        if self.taken == self.load(USED + 2) {
            return None;
        }
        let slot = USED + 4 + u64::from(self.taken % self.size) * 8;
        self.taken = self.taken.wrapping_add(1);
        let low = u32::from(self.load(slot + 4));
        Some((self.load(slot), low | u32::from(self.load(slot + 6)) << 16))
    }

    /// What lies in memory.
    ///
    /// # Panics
    ///
    /// If it does not lie in the rig's memory.
    #[must_use]
    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("memory of the rig");
        bytes
    }

    fn room(&mut self, length: u32) -> u64 {
        let address = self.free;
        self.free += u64::from(length).next_multiple_of(16);
        address
    }

    fn store(&self, at: u64, value: u16) {
        let at = GuestAddress(self.base + at);
        self.memory.write_obj(value, at).expect("memory of the rig");
    }

    fn load(&self, at: u64) -> u16 {
        self.memory.read_obj(GuestAddress(self.base + at)).expect("memory of the rig")
    }
}
