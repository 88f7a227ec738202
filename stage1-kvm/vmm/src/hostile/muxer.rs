//! Packets of any content, a host that reads and writes as it likes, and a clock, against a model
//! of what goes through each stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pod_abi::guest::{Token, port};

use super::Words;
use crate::helm::Direction;
use crate::vsock::fake::{Fake, Other, pair};
use crate::vsock::muxer::{Muxer, Readiness};
use crate::vsock::packet::{Header, Op, STREAM};
use crate::vsock::{BUFFER, GUEST_CID, HOST_CID, MAX_CONNECTIONS, MAX_NAMELESS, MAX_RESETS};

/// Descriptors to be plugged.
const PLUGS: u8 = 6;
/// Where WALL and INNER stand among the streams; those that are plugged come first.
const WALL: usize = PLUGS as usize;
const INNER: usize = WALL + 1;

/// A descriptor of the host, and what has gone through it.
struct Stream {
    other: Other,
    /// Whether the guest has it.
    plugged: Option<(Direction, Fake)>,
    /// Bytes the guest has sent to it, those included that came too late.
    sent: u64,
    /// Bytes the host has written into it.
    written: u64,
    /// Bytes the guest has received from it.
    received: u64,
}

struct World {
    muxer: Muxer<Fake>,
    streams: Vec<Stream>,
    /// Which stream a pair of ports has come to: the last that was joined.
    bound: BTreeMap<(u32, u32), usize>,
    now: Instant,
    allocated: u32,
    forwarded: u32,
}

/// The byte at a place of a stream: another in each.
fn pattern(stream: usize, place: u64) -> u8 {
    place.wrapping_mul(31).wrapping_add(place >> 8).to_le_bytes()[0] ^ stream.to_le_bytes()[0]
}

fn row(stream: usize, from: u64, count: usize) -> Vec<u8> {
    (from..).take(count).map(|place| pattern(stream, place)).collect()
}

/// Runs the deeds.
pub fn muxer(deeds: &[u8]) {
    let mut words = Words(deeds);
    let mut world = World::new();
    while words.has_more() {
        world.deed(&mut words);
        world.check();
    }
    world.settle();
}

impl World {
    fn new() -> Self {
        let mut streams = Vec::new();
        for number in 0..PLUGS {
            let direction =
                [Direction::In, Direction::Out, Direction::Both][usize::from(number % 3)];
            let (ours, other) = pair(0);
            streams.push(Stream::new(other, Some((direction, ours))));
        }
        let (wall, wall_other) = pair(0);
        let (inner, inner_other) = pair(0);
        streams.push(Stream::new(wall_other, None));
        streams.push(Stream::new(inner_other, None));
        let mut muxer = Muxer::unopened();
        muxer.open(wall, inner);
        Self {
            muxer,
            streams,
            bound: BTreeMap::new(),
            now: Instant::now(),
            allocated: 100_000,
            forwarded: 0,
        }
    }

    fn deed(&mut self, words: &mut Words<'_>) {
        match words.below(16) {
            0 | 1 => {
                let to = words.one_of(&[port::STREAM, port::STREAM, port::WALL, port::INNER, 4]);
                let header = self.header(words, to, Op::Request);
                self.take(&header, &[]);
                if to == port::WALL || to == port::INNER {
                    let stream = if to == port::WALL { WALL } else { INNER };
                    let pair = (header.source_port, to);
                    // The first to ask has it; whoever asks later is refused.
                    if self.streams[stream].other.with(|state| state.id.is_some())
                        && !self.bound.values().any(|bound| *bound == stream)
                    {
                        self.bound.insert(pair, stream);
                    }
                }
            }
            2 | 3 => self.tell_token(words),
            4..=6 => self.send(words),
            7 => {
                let op = [Op::Shutdown, Op::Reset, Op::CreditUpdate, Op::CreditRequest];
                let op = op[usize::from(words.below(4))];
                let to = words.one_of(&[port::STREAM, port::STREAM, port::WALL, port::INNER]);
                let mut header = self.header(words, to, op);
                header.flags = u32::from(words.below(4));
                self.take(&header, &[]);
            }
            8 => {
                let header = Header::decode(&words.array());
                self.take(&header, &[]);
            }
            9 => {
                let header = Header {
                    source_cid: GUEST_CID,
                    destination_cid: HOST_CID,
                    ..Header::decode(&words.array())
                };
                self.muxer.take_broken(&header, self.now);
            }
            10 => {
                (self.allocated, self.forwarded) =
                    (words.one_of(&[0, 1, 100, 100_000, u32::MAX]), words.word());
            }
            11 | 12 => self.host(words),
            13 => {
                self.now += Duration::from_millis(u64::from(words.byte()) * 8);
                self.muxer.tick(self.now);
            }
            _ => {
                let room = usize::from(words.half());
                let packets = usize::from(words.byte());
                self.give(room, packets);
            }
        }
    }

    fn header(&self, words: &mut Words<'_>, to: u32, op: Op) -> Header {
        Header {
            source_cid: GUEST_CID,
            destination_cid: HOST_CID,
            source_port: words.one_of(&[0, 1, 2, 3, 4, 5, 6, 7]),
            destination_port: to,
            kind: STREAM,
            op: op.number(),
            allocated: self.allocated,
            forwarded: self.forwarded,
            ..Header::default()
        }
    }

    fn tell_token(&mut self, words: &mut Words<'_>) {
        let header = self.header(words, port::STREAM, Op::Data);
        // To a stream that has one these would be bytes like any others.
        if !self.muxer.awaits_token(header.source_port) {
            return;
        }
        let number = words.below(PLUGS + 1);
        let split = usize::from(words.below(20));
        let token = [number; 16];
        let stream = usize::from(number);
        let free = self.streams.get(stream).is_some_and(|stream| stream.plugged.is_some());
        let (front, back) = token.split_at(split.min(token.len()));
        for part in [front, back] {
            let length = u32::try_from(part.len()).unwrap_or(0);
            self.take(&Header { length, ..header }, part);
        }
        if free && self.streams[stream].plugged.is_none() {
            self.bound.insert((header.source_port, port::STREAM), stream);
        }
    }

    fn send(&mut self, words: &mut Words<'_>) {
        let to = words.one_of(&[port::STREAM, port::STREAM, port::WALL, port::INNER]);
        let header = self.header(words, to, Op::Data);
        let length = match words.below(8) {
            0 => 0,
            1 => 1,
            2 => BUFFER,
            3 => BUFFER + 1,
            _ => u32::from(words.half()) % 20_000,
        };
        let header = Header { length, ..header };
        let bytes = match self.bound.get(&(header.source_port, to)) {
            Some(&stream) => {
                let from = self.streams[stream].sent;
                self.streams[stream].sent += u64::from(length);
                row(stream, from, length as usize)
            }
            // Never a token: no plug has one of these.
            None => vec![0xff; length as usize],
        };
        self.take(&header, &bytes);
    }

    fn host(&mut self, words: &mut Words<'_>) {
        let number = usize::from(words.byte()) % self.streams.len();
        let stream = &mut self.streams[number];
        let mut readiness = Readiness { readable: true, writable: true, gone: false };
        match words.below(8) {
            0..=2 => {
                let count = usize::from(words.half()) % 5000;
                let bytes = row(number, stream.written, count);
                stream.written += count as u64;
                stream.other.with(|state| state.input.extend(bytes));
            }
            3..=5 => stream.other.with(|state| state.room += usize::from(words.half())),
            6 => stream.other.with(|state| state.input_ended = true),
            _ => {
                stream.other.with(|state| state.broken = true);
                readiness.gone = true;
            }
        }
        if let Some(id) = stream.other.with(|state| state.id) {
            self.muxer.report(id, readiness, self.now);
        }
    }

    fn take(&mut self, header: &Header, payload: &[u8]) {
        let streams = &mut self.streams;
        let plugged = &mut |token: &Token| {
            let stream = streams.get_mut(usize::from(token.0[0]))?;
            if token.0.iter().any(|byte| *byte != token.0[0]) {
                return None;
            }
            let (direction, fake) = stream.plugged.take()?;
            Some((fake, direction))
        };
        self.muxer.take(header, payload, plugged, self.now);
    }

    fn give(&mut self, room: usize, packets: usize) {
        let mut room = vec![0; room];
        for _ in 0..packets {
            let Some(header) = self.muxer.give(&mut room) else { return };
            let op = Op::of(header.op).expect("an operation");
            assert!(header.length as usize <= room.len(), "a packet fits into its buffer");
            assert_eq!(header.destination_cid, GUEST_CID);
            assert!(op != Op::Request, "nobody connects to a guest");
            if op != Op::Reset {
                assert_eq!((header.source_cid, header.allocated), (HOST_CID, BUFFER));
            }
            if op != Op::Data {
                assert_eq!(header.length, 0);
                continue;
            }
            let pair = (header.destination_port, header.source_port);
            let number = *self.bound.get(&pair).expect("bytes come from a stream");
            let stream = &mut self.streams[number];
            let expected = row(number, stream.received, header.length as usize);
            assert!(room[..header.length as usize] == expected, "bytes of its own, in order");
            stream.received += u64::from(header.length);
        }
    }

    fn check(&self) {
        let held = self.muxer.census();
        assert!(held.connections <= MAX_CONNECTIONS);
        assert!(held.nameless <= MAX_NAMELESS);
        assert!(held.ready <= held.connections);
        assert!(held.resets <= MAX_RESETS);
        assert!(held.largest_backlog <= BUFFER as usize);
        for (number, stream) in self.streams.iter().enumerate() {
            stream.other.with(|state| {
                assert!(state.output.len() as u64 <= stream.sent);
                let tail = state.output.len().saturating_sub(64);
                let expected = row(number, tail as u64, state.output.len() - tail);
                assert!(state.output[tail..] == expected, "bytes of its own, in order");
            });
        }
    }

    /// Everybody reads and writes all there is: then nothing is left, and nobody waits.
    fn settle(mut self) {
        for number in 0..self.streams.len() {
            let other = self.streams[number].other.clone();
            other.with(|state| state.room = usize::MAX);
            if let Some(id) = other.with(|state| state.id) {
                let readiness = Readiness { writable: true, ..Readiness::default() };
                self.muxer.report(id, readiness, self.now);
            }
        }
        assert!(!self.muxer.has_backlog(), "all is written");
        assert_eq!(self.muxer.deadline(), None, "INNER waits for nobody");
        self.check();
        self.give(4096, 1 << 20);
        assert!(!self.muxer.may_give(), "there is an end of packets");
    }
}

impl Stream {
    fn new(other: Other, plugged: Option<(Direction, Fake)>) -> Self {
        Self { other, plugged, sent: 0, written: 0, received: 0 }
    }
}
