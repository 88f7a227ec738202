//! A queue of buffers between a driver and its device: the checked parts of `virtio-queue`, and the
//! chain of buffers as a device wants it.
//!
//! What a driver writes there is hostile. A ring whose index makes no sense, a chain with a loop,
//! with buffers outside memory, with a readable buffer behind a writable one, or longer than its
//! queue is [`Broken`]: no honest driver does it, and no byte of it is used.
//!
//! ```text
//!   while let Some(chain) = queue.next(&memory)? {      // none: notifications are on again
//!       …                                               // chain.read(…), chain.write(…)
//!       queue.done(&memory, chain.head(), written)?;
//!   }
//!   queue.signal(&memory)?;                             // once for all of them
//! ```
//!
//! Source: virtio 1.2 §2.6, §2.7.

use virtio_queue::{Queue as Ring, QueueOwnedT as _, QueueT as _};
use vm_memory::{GuestAddress, GuestMemory as _, GuestMemoryMmap, Permissions, VolatileSlice};

use super::Fault;
use super::interrupt::Interrupt;
use crate::bell::Bell;

/// A queue as its device has it.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    interrupt: Interrupt,
    notified: Bell,
    /// Something was done since the last signal.
    fresh: bool,
}

/// A driver has made its queue unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver's queue makes no sense")]
pub struct Broken;

impl Broken {
    /// The end of the machine whose driver has done this to a queue of `device`. No driver of Linux
    /// heeds a device that wants to be reset: whoever uses it would wait for ever.
    #[must_use]
    pub fn of(self, device: &str) -> Fault {
        Fault(format!("the guest's driver has broken a queue of {device}"))
    }
}

impl Queue {
    /// A queue whose driver has set it up and writes `notified` when there is something in it.
    #[must_use]
    pub fn new(ring: Ring, interrupt: Interrupt, notified: Bell) -> Self {
        Self { ring, interrupt, notified, fresh: false }
    }

    /// The longest a chain can be, in buffers.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// The next buffers of the driver. If there are none, the driver notifies of the next.
    ///
    /// # Errors
    ///
    /// [`Broken`]; it was counted, and the queue is used no more.
    pub fn next<'m>(&mut self, memory: &'m GuestMemoryMmap) -> Result<Option<Chain<'m>>, Broken> {
        loop {
            let next = self.ring.iter(memory).map(|mut ring| ring.next());
            if let Some(chain) = self.check(next)? {
                let size = usize::from(self.ring.size());
                let chain = Chain::of(memory, chain, size);
                return self.check(chain).map(Some);
            }
            let more = self.ring.enable_notification(memory);
            if !self.check(more)? {
                return Ok(None);
            }
        }
    }

    /// Takes the last chain back: the next call of [`Queue::next`] gives it again.
    ///
    /// Only right after [`Queue::next`] has given it, before anything was [`Queue::done`] with it;
    /// of several that were given one after the other, so many as it is called.
    pub fn put_back(&mut self) {
        self.ring.go_to_previous_position();
    }

    /// Gives buffers back to the driver; `written` bytes of the writable ones were written.
    ///
    /// # Errors
    ///
    /// [`Broken`]; it was counted.
    pub fn done(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), Broken> {
        self.fresh = true;
        let added = self.ring.add_used(memory, head, written);
        self.check(added)
    }

    /// Interrupts the driver if it wants to know of what was [`Queue::done`] since the last time.
    ///
    /// # Errors
    ///
    /// [`Broken`]; it was counted.
    pub fn signal(&mut self, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        if !std::mem::take(&mut self.fresh) {
            return Ok(());
        }
        let wanted = self.ring.needs_notification(memory);
        if self.check(wanted)? {
            self.interrupt.used();
        }
        Ok(())
    }

    /// Asks the thread to call the device for this queue again, after all others had their turn:
    /// for a device that does not want to take all there is at once.
    pub fn again(&self) {
        self.notified.ring();
    }

    fn check<T, E>(&self, result: Result<T, E>) -> Result<T, Broken> {
        result.map_err(|_| {
            self.interrupt.violation();
            Broken
        })
    }
}

/// Buffers that belong together: first those to be read, then those to be written.
///
/// Both are used up from the front. They are memory of the guest, which may change while we look:
/// whoever has read something twice may have seen two things.
#[derive(Clone, Debug)]
pub struct Chain<'m> {
    head: u16,
    readable: Parts<'m>,
    writable: Parts<'m>,
    rooms: Vec<Room>,
}

/// Where a writable buffer lies: what is left of a [`Chain`] for a device that answers later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its address in the guest's memory.
    pub address: GuestAddress,
    /// Its bytes.
    pub length: usize,
}

impl<'m> Chain<'m> {
    fn of(
        memory: &'m GuestMemoryMmap,
        mut chain: virtio_queue::DescriptorChain<&'m GuestMemoryMmap>,
        size: usize,
    ) -> Result<Self, Broken> {
        let head = chain.head_index();
        let (mut readable, mut writable) = (Parts::default(), Parts::default());
        let mut rooms = Vec::new();
        // The iterator ends where it finds something it does not like, as at a real end: whether
        // the last one has said that there is another tells them apart.
        let mut more = true;
        for count in 0.. {
            let Some(buffer) = chain.next() else { break };
            if count == size || (!buffer.is_write_only() && !writable.0.is_empty()) {
                return Err(Broken);
            }
            more = buffer.has_next();
            let (parts, access) = if buffer.is_write_only() {
                (&mut writable, Permissions::Write)
            } else {
                (&mut readable, Permissions::Read)
            };
            let length = usize::try_from(buffer.len()).map_err(|_| Broken)?;
            if buffer.is_write_only() {
                rooms.push(Room { address: buffer.addr(), length });
            }
            let slices = memory.get_slices(buffer.addr(), length, access).map_err(|_| Broken)?;
            for slice in slices {
                parts.0.push(slice.map_err(|_| Broken)?);
            }
        }
        if more { Err(Broken) } else { Ok(Self { head, readable, writable, rooms }) }
    }

    /// By which the driver knows it: for [`Queue::done`].
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Where its writable buffers lie, whatever was written: all are in memory, now as later, for a
    /// guest's memory neither grows nor shrinks.
    #[must_use]
    pub fn into_rooms(self) -> Vec<Room> {
        self.rooms
    }

    /// Bytes that can still be read.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.readable.len()
    }

    /// Bytes that can still be written.
    #[must_use]
    pub fn writable(&self) -> usize {
        self.writable.len()
    }

    /// Reads and uses up as much as there is for it; returns how many bytes.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for part in self.readable.split_off_front(into.len()) {
            done += part.copy_to(&mut into[done..]);
        }
        done
    }

    /// Reads so many bytes; none if there are fewer.
    pub fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.readable() >= N).then(|| self.read(&mut bytes)).map(|_| bytes)
    }

    /// Writes and uses up as much as there is room for; returns how many bytes.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let mut done = 0;
        for part in self.writable.split_off_front(from.len()) {
            let end = done + part.len();
            part.copy_from(&from[done..end]);
            done = end;
        }
        done
    }

    /// Uses up the next readable bytes, at most so many, as parts for
    /// [`write_from`](crate::memory::write_from).
    pub fn take_readable(&mut self, bytes: usize) -> Vec<VolatileSlice<'m>> {
        self.readable.split_off_front(bytes)
    }

    /// Uses up the next writable bytes, at most so many, as parts for
    /// [`read_into`](crate::memory::read_into).
    pub fn take_writable(&mut self, bytes: usize) -> Vec<VolatileSlice<'m>> {
        self.writable.split_off_front(bytes)
    }

    /// Takes the last writable bytes away, so many, from the others: where a status goes.
    pub fn take_writable_tail(&mut self, bytes: usize) -> Vec<VolatileSlice<'m>> {
        let front = self.writable.len().saturating_sub(bytes);
        let front = self.writable.split_off_front(front);
        std::mem::replace(&mut self.writable.0, front)
    }
}

/// A row of pieces of a guest's memory.
#[derive(Clone, Debug, Default)]
struct Parts<'m>(Vec<VolatileSlice<'m>>);

impl<'m> Parts<'m> {
    fn len(&self) -> usize {
        self.0.iter().map(VolatileSlice::len).sum()
    }

    /// Cuts the first `bytes` off, or all there are.
    fn split_off_front(&mut self, bytes: usize) -> Vec<VolatileSlice<'m>> {
        let mut left = bytes;
        let mut whole = 0;
        while let Some(part) = self.0.get(whole).filter(|part| part.len() <= left) {
            left -= part.len();
            whole += 1;
        }
        let mut front: Vec<_> = self.0.drain(..whole).collect();
        if left > 0
            && let Some(part) = self.0.first_mut()
            && let Ok((head, tail)) = part.split_at(left)
        {
            front.push(head);
            *part = tail;
        }
        front
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Broken;
    use crate::rig::{INDIRECT, MEMORY, NEXT, Rig, WRITE};

    #[test]
    fn a_chain_is_read_and_written_over_the_edges_of_its_buffers() {
        let (mut rig, mut activation) = Rig::new(&[8], 0);
        let (head, at) = rig.drivers[0].put(&[b"ab", b"", b"cdef"], &[3, 5]);
        let queue = activation.queues[0].as_mut().unwrap();
        let mut chain = queue.next(&rig.memory).unwrap().unwrap();
        assert_eq!((chain.readable(), chain.writable()), (6, 8));
        assert_eq!(chain.read_array(), Some(*b"abc"));
        assert_eq!(chain.read_array::<4>(), None);
        let mut rest = [0; 9];
        assert_eq!(chain.read(&mut rest), 3);
        assert_eq!(&rest[..3], b"def");
        let tail = chain.take_writable_tail(1);
        assert_eq!(tail.iter().map(|part| part.len()).sum::<usize>(), 1);
        assert_eq!(chain.write(b"0123456789"), 7);
        queue.done(&rig.memory, chain.head(), 8).unwrap();
        queue.signal(&rig.memory).unwrap();
        assert_eq!(rig.drivers[0].used(), Some((head, 8)));
        assert_eq!(rig.drivers[0].bytes(at[3], 3), b"012");
        assert_eq!(rig.drivers[0].bytes(at[4], 5), b"3456\0");
        assert_eq!((rig.status.raised(), rig.status.pending()), (1, 1));
        assert!(queue.next(&rig.memory).unwrap().is_none());
    }

    #[test]
    fn what_no_honest_driver_makes_available_is_broken_and_counted() {
        let row = |flags| (0x20_0000, 16, flags);
        let hostile: [&[(u64, u32, u16)]; 5] = [
            &[row(WRITE), row(0)],
            &[(MEMORY - 8, 16, 0)],
            &[(u64::MAX - 8, 16, 0)],
            &[(0x20_0000, u32::MAX, 0), (0x20_0000, u32::MAX, 0)],
            &[(0x20_0000, 17, INDIRECT)],
        ];
        for chain in hostile {
            let (mut rig, mut activation) = Rig::new(&[8], 0);
            rig.drivers[0].put_raw(chain);
            let queue = activation.queues[0].as_mut().unwrap();
            assert_eq!(queue.next(&rig.memory).err(), Some(Broken), "{chain:x?}");
            assert_eq!(rig.status.violations(), 1);
        }
    }

    #[test]
    fn a_loop_an_unknown_descriptor_and_a_ring_that_runs_ahead_are_broken() {
        let (mut rig, mut activation) = Rig::new(&[8], 0);
        rig.drivers[0].describe(0, 0x20_0000, 1, NEXT, 1);
        rig.drivers[0].describe(1, 0x20_0000, 1, NEXT, 0);
        rig.drivers[0].offer(0);
        rig.drivers[0].offer(8);
        let queue = activation.queues[0].as_mut().unwrap();
        assert!(queue.next(&rig.memory).is_err());
        assert!(queue.next(&rig.memory).is_err());
        for _ in 0..9 {
            rig.drivers[0].offer(2);
        }
        assert!(queue.next(&rig.memory).is_err());
    }

    proptest! {
        #[test]
        fn no_table_of_descriptors_is_too_wild(
            table in prop::collection::vec((0..MEMORY + 64, 0..70_000_u32, 0..8_u16, 0..10_u16), 8),
            heads in prop::collection::vec(0..9_u16, 1..9),
        ) {
            let (mut rig, mut activation) = Rig::new(&[8], 0);
            for (index, &(address, length, flags, next)) in (0..).zip(&table) {
                rig.drivers[0].describe(index, address, length, flags, next);
            }
            for &head in &heads {
                rig.drivers[0].offer(head);
            }
            let queue = activation.queues[0].as_mut().unwrap();
            for _ in &heads {
                if let Ok(Some(mut chain)) = queue.next(&rig.memory) {
                    let mut bytes = vec![0; chain.readable()];
                    prop_assert_eq!(chain.read(&mut bytes), bytes.len());
                    let room = chain.writable();
                    prop_assert_eq!(chain.write(&vec![1; room + 1]), room);
                    prop_assert_eq!(chain.readable() + chain.writable(), 0);
                }
            }
        }
    }
}
