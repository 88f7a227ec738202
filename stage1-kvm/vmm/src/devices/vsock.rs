//! The socket device (virtio 1.2 §5.10): packets between its queues and [`crate::vsock`].
//!
//! A packet of the guest is copied out of its memory whole, and only then looked at. A packet for
//! the guest is made when there is a buffer for it and not before: what the host writes waits in
//! the host's own descriptors.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Instant;

use pod_abi::guest::Token;
use rustix::event::epoll::EventFlags;

use crate::helm::Direction;
use crate::memory::Memory;
use crate::virtio::{Activation, Active, Broken, Device, Fault, Interrupt, Queue, Waits};
use crate::vsock::descriptor::Descriptor;
use crate::vsock::muxer::{Muxer, Readiness};
use crate::vsock::packet::{HEADER, Header, Op};
use crate::vsock::{GUEST_CID, Id, MAX_PAYLOAD};
use crate::watch::Watch;

/// `VIRTIO_ID_VSOCK`.
const KIND: u32 = 19;

/// The queue of buffers for the guest.
const RECEIVE: usize = 0;
/// The queue of what the guest sends.
const SEND: usize = 1;

/// What they are called when they are the end of their machine.
const NAME: &str = "its streams";

/// The most packets of one call, either way, so that others get their turn.
const ROUND: usize = 128;

/// What the device asks of the rest of the monitor.
pub trait Plugs: Send + fmt::Debug {
    /// The descriptor that was plugged for a token; whoever asks has it. If there is none yet, all
    /// that waits to be plugged is looked at before this says so.
    fn take(&mut self, token: &Token) -> Option<(OwnedFd, Direction)>;
    /// The guest has asked for the port WALL, for the first time.
    fn greeted(&mut self) {}
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    muxer: Box<Muxer<Descriptor>>,
    plugs: Box<dyn Plugs>,
    /// What WALL and INNER end in, until the first driver is ready.
    ends: Option<(OwnedFd, OwnedFd)>,
}

#[derive(Debug)]
struct Driven {
    muxer: Box<Muxer<Descriptor>>,
    plugs: Box<dyn Plugs>,
    greeted: bool,
    memory: Memory,
    receive: Option<Queue>,
    send: Option<Queue>,
    interrupt: Interrupt,
    watch: Watch,
    /// Room for one packet.
    room: Box<[u8]>,
    /// The last round has left something in the queue of what the guest sends.
    more: bool,
    counted: u64,
}

impl Vsock {
    /// A device with these descriptors behind the ports WALL and INNER, and with those of `plugs`
    /// behind STREAM.
    #[must_use]
    pub fn new(wall: OwnedFd, inner: OwnedFd, plugs: Box<dyn Plugs>) -> Self {
        Self { muxer: Box::new(Muxer::unopened()), plugs, ends: Some((wall, inner)) }
    }
}

impl Waits for Vsock {
    fn ready(&mut self, token: u32, flags: EventFlags) -> Result<(), Fault> {
        self.muxer.report(Id(token), readiness(flags), Instant::now());
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.muxer.deadline()
    }

    fn timed_out(&mut self, now: Instant) -> Result<(), Fault> {
        self.muxer.tick(now);
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.muxer.has_backlog()
    }
}

impl Device for Vsock {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        GUEST_CID.to_le_bytes().to_vec()
    }

    fn queue_sizes(&self) -> &'static [u16] {
        // The third is for events; there are none.
        &[256, 256, 8]
    }

    fn activate(self: Box<Self>, activation: Activation) -> Result<Box<dyn Active>, Fault> {
        let Activation { memory, queues, interrupt, watch, .. } = activation;
        let mut queues = queues.into_iter();
        let mut muxer = self.muxer;
        if let Some((wall, inner)) = self.ends {
            let end = |end| Descriptor::new(end, watch.clone());
            muxer.open(end(wall), end(inner));
        }
        Ok(Box::new(Driven {
            greeted: muxer.was_greeted(),
            counted: muxer.violations(),
            muxer,
            plugs: self.plugs,
            memory,
            receive: queues.next().flatten(),
            send: queues.next().flatten(),
            interrupt,
            watch,
            room: vec![0; MAX_PAYLOAD as usize].into_boxed_slice(),
            more: false,
        }))
    }
}

impl Active for Driven {
    fn notified(&mut self, queue: usize) -> Result<(), Fault> {
        let now = Instant::now();
        if queue == SEND {
            self.take(now).map_err(|broken| broken.of(NAME))?;
        }
        if queue == SEND || queue == RECEIVE { self.give() } else { Ok(()) }
    }

    fn reset(mut self: Box<Self>) -> Box<dyn Device> {
        // A kernel that is switched off may reset its devices, and what it has sent before was said
        // to be under way, also what was not looked at yet: it is written while the device has no
        // driver. A queue that is broken has nothing more to say.
        let now = Instant::now();
        let _ = self.take(now);
        self.muxer.part_all(now);
        Box::new(Vsock { muxer: self.muxer, plugs: self.plugs, ends: None })
    }
}

impl Waits for Driven {
    fn ready(&mut self, token: u32, flags: EventFlags) -> Result<(), Fault> {
        self.muxer.report(Id(token), readiness(flags), Instant::now());
        self.give()
    }

    fn deadline(&self) -> Option<Instant> {
        self.muxer.deadline()
    }

    fn timed_out(&mut self, now: Instant) -> Result<(), Fault> {
        self.muxer.tick(now);
        self.give()
    }

    fn unfinished(&self) -> bool {
        self.more || self.muxer.has_backlog()
    }
}

impl Driven {
    /// Takes what the guest sends.
    fn take(&mut self, now: Instant) -> Result<(), Broken> {
        let Some(queue) = &mut self.send else { return Ok(()) };
        self.more = false;
        for turn in 0.. {
            if turn == ROUND {
                self.more = true;
                queue.again();
                break;
            }
            let Some(mut chain) = queue.next(&self.memory)? else { break };
            if let Some(bytes) = chain.read_array::<HEADER>() {
                let header = Header::decode(&bytes);
                let length = if header.op == Op::Data.number() { header.length } else { 0 };
                let room =
                    usize::try_from(length).ok().and_then(|length| self.room.get_mut(..length));
                match room.filter(|room| room.len() <= chain.readable()) {
                    Some(room) => {
                        chain.read(room);
                        let (plugs, watch) = (&mut self.plugs, &self.watch);
                        let plugged = &mut |token: &Token| {
                            let (fd, direction) = plugs.take(token)?;
                            Some((Descriptor::new(fd, watch.clone()), direction))
                        };
                        self.muxer.take(&header, room, plugged, now);
                    }
                    None => self.muxer.take_broken(&header, now),
                }
            } else {
                self.interrupt.violation();
            }
            queue.done(&self.memory, chain.head(), 0)?;
        }
        queue.signal(&self.memory)?;
        if !self.greeted && self.muxer.was_greeted() {
            self.greeted = true;
            self.plugs.greeted();
        }
        Ok(())
    }

    /// Gives the guest what there is for it, as far as it has buffers.
    fn give(&mut self) -> Result<(), Fault> {
        let given = self.try_give().map_err(|broken| broken.of(NAME));
        for _ in self.counted..self.muxer.violations() {
            self.interrupt.violation();
        }
        self.counted = self.muxer.violations();
        given
    }

    fn try_give(&mut self) -> Result<(), Broken> {
        let Some(queue) = &mut self.receive else { return Ok(()) };
        for turn in 0.. {
            if !self.muxer.may_give() {
                break;
            }
            if turn == ROUND {
                queue.again();
                break;
            }
            let Some(mut chain) = queue.next(&self.memory)? else { break };
            let Some(room) = chain.writable().checked_sub(HEADER) else {
                self.interrupt.violation();
                queue.done(&self.memory, chain.head(), 0)?;
                continue;
            };
            let room = room.min(self.room.len());
            let Some(header) = self.muxer.give(&mut self.room[..room]) else {
                queue.put_back();
                break;
            };
            let bytes = self.room.get(..header.length as usize).unwrap_or_default();
            chain.write(&header.encode());
            chain.write(bytes);
            let written = u32::try_from(HEADER + bytes.len()).unwrap_or(0);
            queue.done(&self.memory, chain.head(), written)?;
        }
        queue.signal(&self.memory)
    }
}

fn readiness(flags: EventFlags) -> Readiness {
    Readiness {
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        gone: flags.intersects(EventFlags::HUP | EventFlags::ERR),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::net;
    use std::os::unix::net::UnixStream;

    use pod_abi::guest::port;

    use super::*;
    use crate::rig::{INDIRECT, Rig, WRITE};
    use crate::vsock::HOST_CID;
    use crate::vsock::packet::{STREAM, shutdown};

    /// What is plugged, shared with the test.
    #[derive(Debug, Default)]
    struct Table(BTreeMap<Token, (OwnedFd, Direction)>);

    impl Plugs for Table {
        fn take(&mut self, token: &Token) -> Option<(OwnedFd, Direction)> {
            self.0.remove(token)
        }
    }

    /// A guest in front of a device behind which the host's ends are real descriptors.
    struct Guest {
        rig: Rig,
        device: Box<dyn Active>,
        wall: UnixStream,
        inner: UnixStream,
        rooms: BTreeMap<u16, u64>,
        forwarded: u32,
    }

    const TOKEN: Token = Token([9; 16]);
    const ROOM: u32 = 4096;

    impl Guest {
        fn new(plugs: impl IntoIterator<Item = (Token, OwnedFd, Direction)>) -> Self {
            let (mut rig, activation) = Rig::new(&[256, 256, 8], 0);
            let (wall, wall_end) = UnixStream::pair().unwrap();
            let (inner, inner_end) = UnixStream::pair().unwrap();
            let table = plugs.into_iter().map(|(token, fd, way)| (token, (fd, way))).collect();
            let device = Vsock::new(wall_end.into(), inner_end.into(), Box::new(Table(table)));
            let device = Box::new(device).activate(activation).unwrap();
            rig.drivers[RECEIVE].free = 8 << 20;
            Self { rig, device, wall, inner, rooms: BTreeMap::new(), forwarded: 0 }
        }

        fn header(&self, to: u32, op: Op) -> Header {
            Header {
                source_cid: GUEST_CID,
                destination_cid: HOST_CID,
                source_port: 1000 + to,
                destination_port: to,
                kind: STREAM,
                op: op.number(),
                allocated: 256 << 10,
                forwarded: self.forwarded,
                ..Header::default()
            }
        }

        fn put(&mut self, parts: &[&[u8]]) {
            self.rig.drivers[SEND].free = 1 << 20;
            self.rig.drivers[SEND].put(parts, &[]);
            self.device.notified(SEND).unwrap();
            assert!(self.rig.drivers[SEND].used().is_some());
        }

        fn say(&mut self, to: u32, op: Op) {
            self.put(&[&self.header(to, op).encode()]);
        }

        fn send(&mut self, to: u32, bytes: &[u8]) {
            let length = u32::try_from(bytes.len()).unwrap();
            let header = Header { length, ..self.header(to, Op::Data) };
            self.put(&[&header.encode(), bytes]);
        }

        fn shut(&mut self, to: u32, flags: u32) {
            let header = Header { flags, ..self.header(to, Op::Shutdown) };
            self.put(&[&header.encode()]);
        }

        /// Gives the device a buffer, of pieces, and takes the packets it has made.
        fn receive(&mut self) -> Vec<(Op, Vec<u8>)> {
            let mut packets = Vec::new();
            loop {
                while self.rooms.len() < 4 {
                    let driver = &mut self.rig.drivers[RECEIVE];
                    driver.free = (8 << 20) + (driver.free + 1) % (4 << 20);
                    // Together they lie in a row, so that the test can read them in one go.
                    let (head, at) = driver.put(&[], &[32, 16, 48, ROOM]);
                    self.rooms.insert(head, at[0]);
                }
                self.device.notified(RECEIVE).unwrap();
                let Some((head, length)) = self.rig.drivers[RECEIVE].used() else { break };
                let at = self.rooms.remove(&head).unwrap();
                let bytes = self.rig.drivers[RECEIVE].bytes(at, length as usize);
                let header = Header::decode(bytes[..HEADER].try_into().unwrap());
                assert_eq!(header.length as usize, bytes.len() - HEADER);
                self.forwarded = self.forwarded.wrapping_add(header.length);
                packets.push((Op::of(header.op).unwrap(), bytes[HEADER..].to_vec()));
            }
            packets
        }

        /// Waits for the host as the loop does, until a packet comes.
        fn wait(&mut self) -> Vec<(Op, Vec<u8>)> {
            loop {
                let packets = self.receive();
                if !packets.is_empty() {
                    return packets;
                }
                self.turn();
            }
        }

        fn turn(&mut self) {
            let left = self.device.deadline().map(|d| d.saturating_duration_since(Instant::now()));
            let events =
                self.rig.watch.wait(Some(left.unwrap_or(Duration::from_secs(10)))).unwrap();
            assert!(!events.is_empty() || left.is_some(), "nothing happens any more");
            for event in events {
                self.device.ready(event.token, event.flags).unwrap();
            }
            self.device.timed_out(Instant::now()).unwrap();
        }

        fn connect(&mut self, to: u32) {
            self.say(to, Op::Request);
            assert_eq!(self.receive(), [(Op::Response, vec![])]);
        }

        fn join(&mut self) {
            self.connect(port::STREAM);
            self.send(port::STREAM, &TOKEN.0);
        }
    }

    fn pipe(direction: Direction) -> (std::fs::File, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        match direction {
            Direction::In => (writer.into(), reader),
            _ => (reader.into(), writer),
        }
    }

    #[test]
    fn frames_go_through_the_ports_of_sockets() {
        let mut guest = Guest::new([]);
        guest.connect(port::WALL);
        guest.connect(port::INNER);
        guest.send(port::WALL, b"hello");
        guest.send(port::INNER, b"ended");
        let mut bytes = [0; 5];
        guest.wall.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        guest.inner.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ended");
        guest.wall.write_all(b"configure").unwrap();
        assert_eq!(guest.wait(), [(Op::Data, b"configure".to_vec())]);
        guest.wall.shutdown(net::Shutdown::Both).unwrap();
        assert!(guest.wait().iter().all(|(op, _)| *op == Op::Shutdown));
        assert_eq!(guest.rig.status.violations(), 0);
    }

    #[test]
    fn a_packet_longer_than_its_buffers_ends_its_connection() {
        for length in [1, 17, 4096, MAX_PAYLOAD + 1, u32::MAX] {
            let (_reader, writer) = pipe(Direction::Out);
            let mut guest = Guest::new([(TOKEN, writer, Direction::Out)]);
            guest.join();
            let header = Header { length, ..guest.header(port::STREAM, Op::Data) };
            guest.put(&[&header.encode()]);
            assert_eq!(guest.receive(), [(Op::Reset, vec![])], "{length}");
            assert_eq!(guest.rig.status.violations(), 1);
        }
    }

    #[test]
    fn a_packet_lies_in_whatever_buffers_its_driver_likes() {
        let (mut reader, writer) = pipe(Direction::Out);
        let mut guest = Guest::new([(TOKEN, writer, Direction::Out)]);
        guest.join();
        let header = Header { length: 6, ..guest.header(port::STREAM, Op::Data) }.encode();
        let mut bytes = [&header[..], b"abcdef", b"no part of it"].concat();
        let tiny: Vec<&[u8]> = bytes.chunks(1).collect();
        guest.put(&tiny);
        guest.put(&[&bytes]);
        bytes.truncate(HEADER + 6);
        guest.put(&[&bytes[..50], b"", b"", b""]);
        let mut arrived = [0; 12];
        reader.read_exact(&mut arrived).unwrap();
        assert_eq!(&arrived, b"abcdefabcdef");
        assert_eq!(guest.rig.status.violations(), 0);
    }

    #[test]
    fn buffers_too_small_for_a_header_are_given_back() {
        let mut guest = Guest::new([]);
        guest.put(&[&[0; HEADER - 1]]);
        assert_eq!(guest.rig.status.violations(), 1);
        guest.rig.drivers[RECEIVE].put(&[], &[40]);
        guest.rig.drivers[RECEIVE].put(&[b"x"], &[]);
        guest.rig.drivers[RECEIVE].put(&[], &[]);
        guest.rig.drivers[RECEIVE].put(&[], &[44]);
        guest.say(port::WALL, Op::Request);
        let used: Vec<_> = std::iter::from_fn(|| guest.rig.drivers[RECEIVE].used()).collect();
        assert_eq!(used.iter().map(|used| used.1).collect::<Vec<_>>(), [0, 0, 44]);
        assert_eq!(guest.rig.status.violations(), 3);
    }

    #[test]
    fn a_queue_that_makes_no_sense_ends_the_machine() {
        let mut guest = Guest::new([]);
        guest.rig.drivers[SEND].put_raw(&[(u64::MAX - 8, 44, 0)]);
        assert!(guest.device.notified(SEND).unwrap_err().0.contains("broken a queue"));
        let mut guest = Guest::new([]);
        guest.say(port::WALL, Op::Request);
        guest.rig.drivers[RECEIVE].put_raw(&[(1 << 20, 44, INDIRECT | WRITE)]);
        assert!(guest.device.notified(RECEIVE).unwrap_err().0.contains("broken a queue"));
    }

    #[test]
    fn a_pipe_gets_all_and_its_reader_the_end() {
        let (mut reader, writer) = pipe(Direction::Out);
        let mut guest = Guest::new([(TOKEN, writer, Direction::Out)]);
        guest.join();
        let bytes: Vec<u8> = (0..60_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        guest.send(port::STREAM, &bytes);
        guest.send(port::STREAM, &bytes);
        assert!(guest.device.unfinished(), "a pipe has room for 64 KiB");
        guest.shut(port::STREAM, shutdown::BOTH);
        let mut first = vec![0; 60_000];
        reader.read_exact(&mut first).unwrap();
        while guest.device.unfinished() {
            guest.turn();
        }
        let mut second = Vec::new();
        reader.read_to_end(&mut second).unwrap();
        assert_eq!((first == bytes, second == bytes), (true, true));
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (mut writer, reader) = pipe(Direction::In);
        let mut guest = Guest::new([(TOKEN, reader, Direction::In)]);
        writer.write_all(b"typed").unwrap();
        guest.join();
        assert_eq!(guest.wait(), [(Op::Data, b"typed".to_vec())]);
        writer.write_all(b"more").unwrap();
        assert_eq!(guest.wait(), [(Op::Data, b"more".to_vec())]);
        drop(writer);
        assert_eq!(guest.wait(), [(Op::Shutdown, vec![])]);
    }

    /// The journal's socket is one for all processes of a unit; so is that of whoever runs a command
    /// by `socket(2)`.
    #[test]
    fn a_socket_that_others_hold_is_theirs_still_when_a_stream_has_ended() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let (mut typist, input) = UnixStream::pair().unwrap();
        let [mut their_output, mut their_input] = [&writer, &input].map(|s| s.try_clone().unwrap());
        let second = Token([8; 16]);
        let mut guest = Guest::new([
            (TOKEN, writer.into(), Direction::Out),
            (second, input.into(), Direction::In),
        ]);
        guest.join();
        guest.send(port::STREAM, b"from the guest ");
        guest.shut(port::STREAM, shutdown::BOTH);
        guest.receive();
        guest.connect(port::STREAM);
        guest.send(port::STREAM, &second.0);
        guest.shut(port::STREAM, shutdown::BOTH);
        their_output.write_all(b"and from others").unwrap();
        drop(their_output);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "from the guest and from others");
        typist.write_all(b"typed").unwrap();
        let mut bytes = [0; 5];
        their_input.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"typed");
    }

    #[test]
    fn a_reader_that_was_killed_is_noticed() {
        let (reader, writer) = pipe(Direction::Out);
        let mut guest = Guest::new([(TOKEN, writer, Direction::Out)]);
        guest.join();
        drop(reader);
        assert_eq!(guest.wait(), [(Op::Shutdown, vec![])]);
    }

    #[test]
    fn files_that_cannot_be_waited_for_work_all_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"input").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let second = Token([8; 16]);
        let mut guest = Guest::new([
            (TOKEN, file.try_clone().unwrap().into(), Direction::In),
            (second, null, Direction::Out),
        ]);
        guest.join();
        assert_eq!(guest.wait(), [(Op::Data, b"input".to_vec()), (Op::Shutdown, vec![])]);
        guest.shut(port::STREAM, shutdown::BOTH);
        guest.receive();
        guest.connect(port::STREAM);
        guest.send(port::STREAM, &second.0);
        guest.send(port::STREAM, &[1; 50_000]);
        guest.send(port::STREAM, &[1; 50_000]);
        assert!(!guest.device.unfinished());
    }

    #[test]
    fn a_reset_of_the_driver_writes_what_it_was_given_and_closes_all() {
        let (mut reader, writer) = pipe(Direction::Out);
        let mut guest = Guest::new([(TOKEN, writer, Direction::Out)]);
        guest.join();
        guest.send(port::STREAM, &[1; 60_000]);
        // The device was not told of this yet.
        let header = Header { length: 60_000, ..guest.header(port::STREAM, Op::Data) };
        guest.rig.drivers[SEND].put(&[&header.encode(), &[2; 60_000]], &[]);
        let begun = Instant::now();
        let mut device = guest.device.reset();
        assert!(begun.elapsed() < Duration::from_secs(1), "it waits for no reader");
        assert!(device.unfinished(), "a pipe has room for 64 KiB");
        let other = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        while device.unfinished() {
            for event in guest.rig.watch.wait(Some(Duration::from_secs(10))).unwrap() {
                device.ready(event.token, event.flags).unwrap();
            }
        }
        assert_eq!(other.join().unwrap().unwrap().len(), 120_000);
        let (rig, activation) = Rig::new(&[256, 256, 8], 0);
        guest.rig = rig;
        guest.rooms.clear();
        guest.device = device.activate(activation).unwrap();
        guest.say(port::WALL, Op::Request);
        assert_eq!(guest.receive(), [(Op::Response, vec![])], "it was not asked for yet");
    }
}
