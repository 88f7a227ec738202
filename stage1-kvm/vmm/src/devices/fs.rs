//! The file system device (virtio 1.2 §5.11): requests of FUSE between its queues and the server of
//! a share.
//!
//! ```text
//!   chain ── copied whole ──▶ frame ──▶ server (another process)
//!   chain ◀── copied whole ── frame ◀──┘
//! ```
//!
//! Nothing of a request is understood here, nothing of the guest's memory is seen there
//! (`pod_abi::share`). Replies come in the order of requests, so who is answered is a matter of
//! counting. One request at a time is copied out of the guest's memory, and the next one once the
//! stream has taken it: what waits, waits in the guest's memory.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;

use pod_abi::share::{LENGTH_SIZE, MAX_MESSAGE, REPLY_HEADER, REQUEST_HEADER};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vm_memory::Bytes as _;

use crate::memory::Memory;
use crate::virtio::{
    Activation, Active, Broken, Chain, Device, Fault, Interrupt, Queue, Room, Waits,
};
use crate::watch::Watch;

/// `VIRTIO_ID_FS`.
const KIND: u32 = 26;

/// Bytes of a tag in the configuration space.
const TAG: usize = 36;

/// Queues of requests, beside the one for what is to be forgotten.
const REQUEST_QUEUES: u32 = 1;

/// Requests the server has at most: what the stream holds of small ones.
const IN_FLIGHT: usize = 64;

/// The most frames of one call, either way, so that others get their turn.
const ROUND: usize = 64;

/// Room that is kept for the next message, in bytes; what a larger one took is given back.
const KEPT: usize = 64 << 10;

/// The only descriptor the device waits for.
const SERVER: u32 = 0;

/// The device.
#[derive(Debug)]
pub struct Fs {
    tag: String,
    link: Link,
}

/// The stream to the server. It outlives a reset: replies to what was asked before are still on
/// their way then.
#[derive(Debug)]
struct Link {
    server: OwnedFd,
    /// The frame that is being sent, and how much of it is.
    outgoing: Vec<u8>,
    sent: usize,
    /// The frame that is being received, its length in front, and how much of it is there.
    incoming: Vec<u8>,
    received: usize,
    /// Who waits for the next replies. Nobody, since a reset, where there is none.
    waiting: VecDeque<Option<Waiting>>,
}

/// A chain of the guest's for which a reply is to come.
#[derive(Debug)]
struct Waiting {
    queue: usize,
    head: u16,
    rooms: Vec<Room>,
}

#[derive(Debug)]
struct Driven {
    tag: String,
    link: Link,
    memory: Memory,
    queues: Vec<Option<Queue>>,
    interrupt: Interrupt,
    watch: Watch,
    /// The stream is waited for to take more.
    full: bool,
}

impl Fs {
    /// A device that a guest finds by its tag, of at most 36 bytes, in front of a server.
    #[must_use]
    pub fn new(tag: &str, server: OwnedFd) -> Self {
        let link = Link {
            server,
            outgoing: Vec::new(),
            sent: 0,
            incoming: vec![0; LENGTH_SIZE],
            received: 0,
            waiting: VecDeque::new(),
        };
        Self { tag: tag.to_owned(), link }
    }
}

impl Waits for Fs {}

impl Device for Fs {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        let mut config = self.tag.as_bytes().to_vec();
        config.resize(TAG, 0);
        config.extend(REQUEST_QUEUES.to_le_bytes());
        config
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64, 256]
    }

    fn activate(self: Box<Self>, activation: Activation) -> Result<Box<dyn Active>, Fault> {
        let Activation { memory, queues, interrupt, watch, .. } = activation;
        watch
            .add(&self.link.server, SERVER, EventFlags::IN)
            .map_err(|error| Fault(format!("epoll_ctl(): {error}")))?;
        Ok(Box::new(Driven {
            tag: self.tag,
            full: false,
            link: self.link,
            memory,
            queues,
            interrupt,
            watch,
        }))
    }
}

impl Active for Driven {
    fn notified(&mut self, _queue: usize) -> Result<(), Fault> {
        self.send_requests()
    }

    fn reset(mut self: Box<Self>) -> Box<dyn Device> {
        let _ = self.watch.remove(&self.link.server); // it is waited for, or nothing ever was
        self.link.waiting.iter_mut().for_each(|waiting| *waiting = None);
        Box::new(Fs { tag: self.tag, link: self.link })
    }
}

impl Waits for Driven {
    fn ready(&mut self, _token: u32, flags: EventFlags) -> Result<(), Fault> {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive_replies()?;
        }
        self.send_requests()
    }

    fn unfinished(&self) -> bool {
        !self.link.outgoing.is_empty()
    }
}

impl Driven {
    /// Sends requests until there are none, the stream is full, or others are to have their turn.
    fn send_requests(&mut self) -> Result<(), Fault> {
        for _ in 0..ROUND {
            if self.link.outgoing.is_empty() && !self.take_request()? {
                return self.wait_for_room(false);
            }
            match self.link.send() {
                Ok(true) => {}
                Ok(false) => return self.wait_for_room(true),
                Err(errno) => return Err(self.died(errno)),
            }
        }
        self.queues.iter().flatten().for_each(Queue::again);
        Ok(())
    }

    /// Makes a frame of the next request. `false` if there is none, or too many are under way.
    fn take_request(&mut self) -> Result<bool, Fault> {
        if self.link.waiting.len() >= IN_FLIGHT {
            return Ok(false);
        }
        for number in 0..self.queues.len() {
            let Some(queue) = self.queues.get_mut(number).and_then(Option::as_mut) else {
                continue;
            };
            while let Some(chain) = queue.next(&self.memory).map_err(broken(&self.tag))? {
                let (length, head) = (chain.readable(), chain.head());
                if (REQUEST_HEADER..=MAX_MESSAGE).contains(&length) {
                    let rooms = self.link.fill(chain, length);
                    self.link.waiting.push_back(Some(Waiting { queue: number, head, rooms }));
                    return Ok(true);
                }
                // No request of any driver: it has no reply either.
                self.interrupt.violation();
                let given = queue.done(&self.memory, head, 0);
                given.and_then(|()| queue.signal(&self.memory)).map_err(broken(&self.tag))?;
            }
        }
        Ok(false)
    }

    /// Receives replies until there are none, or others are to have their turn: those that are left
    /// are told of again.
    fn receive_replies(&mut self) -> Result<(), Fault> {
        let mut answered = BTreeSet::new();
        for _ in 0..ROUND {
            match self.link.receive() {
                Ok(true) => answered.extend(self.give_reply()?),
                Ok(false) => break,
                Err(errno) => return Err(self.died(errno)),
            }
        }
        for number in answered {
            if let Some(queue) = self.queues.get_mut(number).and_then(Option::as_mut) {
                queue.signal(&self.memory).map_err(broken(&self.tag))?;
            }
        }
        Ok(())
    }

    /// Gives the reply that was received to who waits for it, and returns the queue they wait in.
    fn give_reply(&mut self) -> Result<Option<usize>, Fault> {
        let Some(waiting) = self.link.waiting.pop_front() else {
            return Err(self.died(Errno::PROTO));
        };
        let reply = self.link.incoming.get(LENGTH_SIZE..).unwrap_or_default();
        let mut answered = None;
        if let Some(Waiting { queue: number, head, rooms }) = waiting
            && let Some(queue) = self.queues.get_mut(number).and_then(Option::as_mut)
        {
            let written = write(&self.memory, &rooms, reply);
            if written.is_none() {
                // The driver has asked for more than it has room for.
                self.interrupt.violation();
            }
            let given = queue.done(&self.memory, head, written.unwrap_or(0));
            given.map_err(broken(&self.tag))?;
            answered = Some(number);
        }
        self.link.next_reply();
        Ok(answered)
    }

    fn wait_for_room(&mut self, full: bool) -> Result<(), Fault> {
        if self.full != full {
            let flags = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let changed = self.watch.change(&self.link.server, SERVER, flags);
            changed.map_err(|error| Fault(format!("epoll_ctl(): {error}")))?;
            self.full = full;
        }
        Ok(())
    }

    /// The server has ended, or does not make sense any more: its share is gone for good, and apps
    /// that use it are better ended than left to wait.
    fn died(&self, errno: Errno) -> Fault {
        Fault(format!("the server of share `{}` has died: {errno}", self.tag))
    }
}

impl Link {
    /// Makes the outgoing frame of a chain of `length` readable bytes, and returns where its reply
    /// goes.
    fn fill(&mut self, mut chain: Chain<'_>, length: usize) -> Vec<Room> {
        // At most `MAX_MESSAGE`.
        let header = u32::try_from(length).unwrap_or(0).to_le_bytes();
        self.outgoing.extend_from_slice(&header);
        self.outgoing.resize(LENGTH_SIZE + length, 0);
        chain.read(self.outgoing.get_mut(LENGTH_SIZE..).unwrap_or_default());
        self.sent = 0;
        chain.into_rooms()
    }

    /// Sends what is left of the outgoing frame. `false` if the stream does not take all of it now.
    fn send(&mut self) -> Result<bool, Errno> {
        while let Some(left) = self.outgoing.get(self.sent..).filter(|left| !left.is_empty()) {
            match send(&self.server, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(KEPT);
        Ok(true)
    }

    /// Receives what there is of a frame. `true` if it is complete.
    fn receive(&mut self) -> Result<bool, Errno> {
        loop {
            if self.received == LENGTH_SIZE && self.incoming.len() == LENGTH_SIZE {
                let length = self.incoming.first_chunk().copied().map(u32::from_le_bytes);
                let length = length.and_then(|length| usize::try_from(length).ok());
                let length = length
                    .filter(|length| *length == 0 || (REPLY_HEADER..=MAX_MESSAGE).contains(length));
                self.incoming.resize(LENGTH_SIZE + length.ok_or(Errno::PROTO)?, 0);
            }
            if self.received >= LENGTH_SIZE && self.received == self.incoming.len() {
                return Ok(true);
            }
            let room = self.incoming.get_mut(self.received..).unwrap_or_default();
            match recv(&self.server, room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Errno::PIPE),
                Ok((_, received)) => self.received += received,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Makes room for the next reply.
    fn next_reply(&mut self) {
        self.incoming.clear();
        self.incoming.shrink_to(KEPT);
        self.incoming.resize(LENGTH_SIZE, 0);
        self.received = 0;
    }
}

/// Names the share of a queue that is broken.
fn broken(tag: &str) -> impl FnOnce(Broken) -> Fault {
    move |broken| broken.of(&format!("its share `{tag}`"))
}

/// Writes a reply where a driver wants it, and returns how many bytes it has. `None` if there is not
/// enough room, and nothing was written.
fn write(memory: &Memory, rooms: &[Room], reply: &[u8]) -> Option<u32> {
    if rooms.iter().map(|room| room.length).fold(0, usize::saturating_add) < reply.len() {
        return None;
    }
    let mut left = reply;
    for room in rooms {
        let (now, later) = left.split_at(room.length.min(left.len()));
        memory.write_slice(now, room.address).ok()?;
        left = later;
    }
    u32::try_from(reply.len()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::rig::{Rig, WRITE};

    const REQUESTS: usize = 1;

    struct Guest {
        rig: Rig,
        device: Box<dyn Active>,
        server: UnixStream,
    }

    impl Guest {
        fn new() -> Self {
            let (mut rig, activation) = Rig::new(&[64, 256], 0);
            let (server, end) = UnixStream::pair().unwrap();
            server.set_nonblocking(true).unwrap();
            rig.drivers[REQUESTS].free = 4 << 20;
            let device = Box::new(Fs::new("tag", end.into())).activate(activation).unwrap();
            Self { rig, device, server }
        }

        fn ask(&mut self, request: &[u8], room: &[u32]) -> (u16, Vec<u64>) {
            let (head, rest) = request.split_at(request.len().min(40));
            let put = self.rig.drivers[REQUESTS].put(&[head, rest], room);
            self.device.notified(REQUESTS).unwrap();
            put
        }

        fn frame(&mut self) -> Option<Vec<u8>> {
            let mut length = [0; 4];
            self.server.read_exact(&mut length).ok()?;
            let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
            let mut at = 0;
            while at < frame.len() {
                match self.server.read(&mut frame[at..]) {
                    Ok(read) => at += read,
                    Err(_) => self.device.ready(SERVER, EventFlags::OUT).ok()?,
                }
            }
            Some(frame)
        }

        fn reply(&mut self, bytes: &[u8]) -> Result<(), Fault> {
            let mut frame = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
            frame.extend(bytes);
            let mut left = &frame[..];
            while !left.is_empty() {
                left = match self.server.write(left) {
                    Ok(written) => &left[written..],
                    Err(_) => left,
                };
                self.device.ready(SERVER, EventFlags::IN)?;
            }
            Ok(())
        }

        fn used(&mut self) -> Option<(u16, u32)> {
            self.rig.drivers[REQUESTS].used()
        }
    }

    #[test]
    fn a_request_goes_out_whole_and_its_reply_comes_back() {
        let mut guest = Guest::new();
        let request: Vec<u8> = (0..100).collect();
        let (head, at) = guest.ask(&request, &[16, 64]);
        assert_eq!(guest.frame().unwrap(), request);
        assert_eq!(guest.used(), None);
        guest.reply(&[7; 40]).unwrap();
        assert_eq!(guest.used(), Some((head, 40)));
        let (first, second) = (at[at.len() - 2], at[at.len() - 1]);
        assert_eq!(guest.rig.drivers[REQUESTS].bytes(first, 16), [7; 16]);
        assert_eq!(guest.rig.drivers[REQUESTS].bytes(second, 25)[23..], [7, 0]);
        assert_eq!(guest.rig.status.raised(), 1);
    }

    #[test]
    fn the_longest_messages_pass() {
        let mut guest = Guest::new();
        let request = vec![3; MAX_MESSAGE];
        let (head, _) = guest.ask(&request, &[16, u32::try_from(MAX_MESSAGE).unwrap()]);
        assert_eq!(guest.frame().unwrap(), request);
        guest.reply(&vec![4; MAX_MESSAGE]).unwrap();
        assert_eq!(guest.used(), Some((head, u32::try_from(MAX_MESSAGE).unwrap())));
    }

    #[test]
    fn replies_belong_to_requests_in_their_order() {
        let mut guest = Guest::new();
        let heads: Vec<u16> = (0..70_u8).map(|n| guest.ask(&[n; 40], &[32]).0).collect();
        for (number, head) in (0..70_u8).zip(heads) {
            assert_eq!(guest.frame().unwrap(), [number; 40]);
            guest.reply(if number % 2 == 0 { &[] } else { &[9; 16] }).unwrap();
            let length = if number % 2 == 0 { 0 } else { 16 };
            assert_eq!(guest.used(), Some((head, length)));
        }
        assert_eq!(guest.rig.status.violations(), 0);
    }

    #[test]
    fn what_is_no_request_and_a_reply_without_room_are_violations() {
        let mut guest = Guest::new();
        let (short, _) = guest.ask(&[1; 39], &[16]);
        assert_eq!(guest.used(), Some((short, 0)));
        let (long, _) = guest.ask(&vec![1; MAX_MESSAGE + 1], &[16]);
        assert_eq!(guest.used(), Some((long, 0)));
        assert!(guest.frame().is_none());
        let (tight, _) = guest.ask(&[1; 40], &[15]);
        guest.reply(&[1; 16]).unwrap();
        assert_eq!(guest.used(), Some((tight, 0)));
        assert_eq!(guest.rig.status.violations(), 3);
        guest.rig.drivers[REQUESTS].put_raw(&[(0x20_0000, 16, WRITE), (0x20_0000, 16, 0)]);
        let fault = guest.device.notified(REQUESTS).unwrap_err();
        assert_eq!(fault.0, "the guest's driver has broken a queue of its share `tag`");
    }

    #[test]
    fn after_a_reset_nobody_is_told_what_was_asked_before() {
        let mut guest = Guest::new();
        guest.ask(&[1; 40], &[16]);
        let fresh = guest.device.reset();
        let (rig, activation) = Rig::new(&[64, 256], 0);
        let mut guest =
            Guest { rig, device: fresh.activate(activation).unwrap(), server: guest.server };
        let (head, _) = guest.ask(&[2; 40], &[16]);
        assert_eq!(guest.frame().unwrap(), [1; 40]);
        assert_eq!(guest.frame().unwrap(), [2; 40]);
        guest.reply(&[1; 16]).unwrap();
        assert_eq!(guest.used(), None);
        guest.reply(&[2; 16]).unwrap();
        assert_eq!(guest.used(), Some((head, 16)));
    }

    #[test]
    fn a_server_that_dies_or_lies_ends_the_machine() {
        let ends = |words: &[u8], asked: usize| {
            let mut guest = Guest::new();
            (0..asked).for_each(|_| drop(guest.ask(&[1; 40], &[16])));
            guest.server.write_all(words).unwrap();
            drop(guest.server);
            guest.device.ready(SERVER, EventFlags::IN | EventFlags::HUP).unwrap_err().0
        };
        assert!(ends(b"", 0).starts_with("the server of share `tag` has died"));
        assert!(ends(&[16, 0, 0, 0, 1], 1).contains("has died"));
        assert!(ends(&[0; 4], 0).contains("has died"));
        assert!(ends(&[15, 0, 0, 0], 1).contains("has died"));
        assert!(ends(&[255; 4], 1).contains("has died"));
    }

    proptest! {
        #[test]
        fn no_chain_is_too_wild(
            table in prop::collection::vec((0..17_u64 << 20, 0..2_u32 << 20, 0..8_u16, 0..10_u16), 8),
            heads in prop::collection::vec(0..9_u16, 1..9),
            reply in prop::collection::vec(any::<u8>(), 16..5000),
        ) {
            let mut guest = Guest::new();
            for (index, &(address, length, flags, next)) in (0..).zip(&table) {
                guest.rig.drivers[REQUESTS].describe(index, address, length, flags, next);
            }
            heads.iter().for_each(|head| guest.rig.drivers[REQUESTS].offer(*head));
            let mut done = guest.device.notified(REQUESTS);
            while done.is_ok()
                && let Some(frame) = guest.frame()
            {
                prop_assert!((REQUEST_HEADER..=MAX_MESSAGE).contains(&frame.len()));
                done = guest.reply(&reply);
            }
            prop_assert!(done.is_ok() || guest.rig.status.violations() > 0);
        }
    }
}
