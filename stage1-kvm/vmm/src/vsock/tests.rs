//! Scenes between a guest and a host, with the test as both of them and as the clock.

use std::time::{Duration, Instant};

use pod_abi::guest::{Token, port};

use super::fake::{Fake, Other, pair};
use super::muxer::{Muxer, Readiness};
use super::packet::{Header, Op, STREAM, shutdown};
use super::*;
use crate::helm::Direction;

/// Room of descriptors that are never full.
const ENDLESS: usize = usize::MAX;

struct Scene {
    muxer: Muxer<Fake>,
    wall: Other,
    inner: Other,
    plugs: Vec<(Token, Direction, Fake)>,
    now: Instant,
    /// What the guest says of its buffer.
    allocated: u32,
    /// What it has taken out of it.
    forwarded: u32,
    ports: u32,
}

const READY: Readiness = Readiness { readable: true, writable: true, gone: false };
const GONE: Readiness = Readiness { readable: false, writable: false, gone: true };

impl Scene {
    fn new() -> Self {
        let (wall, wall_other) = pair(ENDLESS);
        let (inner, inner_other) = pair(ENDLESS);
        let mut muxer = Muxer::unopened();
        muxer.open(wall, inner);
        Self {
            muxer,
            wall: wall_other,
            inner: inner_other,
            plugs: Vec::new(),
            now: Instant::now(),
            allocated: 256 << 10,
            forwarded: 0,
            ports: 1024,
        }
    }

    fn header(&self, from: u32, to: u32, op: Op) -> Header {
        Header {
            source_cid: GUEST_CID,
            destination_cid: HOST_CID,
            source_port: from,
            destination_port: to,
            kind: STREAM,
            op: op.number(),
            allocated: self.allocated,
            forwarded: self.forwarded,
            ..Header::default()
        }
    }

    fn take(&mut self, header: &Header, payload: &[u8]) {
        let plugs = &mut self.plugs;
        let plugged = &mut |token: &Token| {
            let at = plugs.iter().position(|plug| plug.0 == *token)?;
            let (_, direction, stream) = plugs.remove(at);
            Some((stream, direction))
        };
        self.muxer.take(header, payload, plugged, self.now);
    }

    fn say(&mut self, from: u32, to: u32, op: Op) {
        let header = self.header(from, to, op);
        self.take(&header, &[]);
    }

    fn send(&mut self, from: u32, to: u32, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        let header = Header { length, ..self.header(from, to, Op::Data) };
        self.take(&header, bytes);
    }

    fn shut(&mut self, from: u32, to: u32, flags: u32) {
        let header = Header { flags, ..self.header(from, to, Op::Shutdown) };
        self.take(&header, &[]);
    }

    /// All there is for the guest, at most so many bytes a packet.
    fn packets(&mut self, room: usize) -> Vec<(Header, Vec<u8>)> {
        let mut room = vec![0; room];
        let mut packets = Vec::new();
        while let Some(header) = self.muxer.give(&mut room) {
            packets.push((header, room[..header.length as usize].to_vec()));
        }
        packets
    }

    /// The operations of all there is for the guest.
    fn ops(&mut self) -> Vec<Op> {
        self.packets(4096).iter().map(|(header, _)| Op::of(header.op).unwrap()).collect()
    }

    fn connect(&mut self, to: u32) -> u32 {
        self.ports += 1;
        self.say(self.ports, to, Op::Request);
        assert_eq!(self.ops(), [Op::Response]);
        self.ports
    }

    /// A stream to a new descriptor.
    fn stream(&mut self, direction: Direction, room: usize) -> (u32, Other) {
        let token = Token([u8::try_from(self.ports % 251).unwrap(); 16]);
        let (stream, other) = pair(room);
        self.plugs.push((token, direction, stream));
        let from = self.connect(port::STREAM);
        self.send(from, port::STREAM, &token.0);
        (from, other)
    }

    fn report(&mut self, other: &Other, readiness: Readiness) {
        let id = other.with(|state| state.id).expect("a watched descriptor");
        self.muxer.report(id, readiness, self.now);
    }

    fn drain(&mut self, other: &Other, room: usize) {
        other.with(|state| state.room = room);
        self.report(other, READY);
    }
}

fn output(other: &Other) -> Vec<u8> {
    other.with(|state| state.output.clone())
}

#[test]
fn bytes_of_a_stream_go_both_ways() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Both, ENDLESS);
    scene.send(from, port::STREAM, b"to the host");
    assert_eq!(output(&other), b"to the host");
    other.with(|state| state.input.extend(b"to the guest"));
    scene.report(&other, READY);
    let packets = scene.packets(5);
    let bytes: Vec<u8> = packets.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(bytes, b"to the guest");
    assert_eq!((packets[0].0.source_port, packets[0].0.destination_port), (port::STREAM, from));
    assert_eq!(packets[0].0.forwarded, 16 + 11);
}

#[test]
fn a_token_may_come_in_pieces_and_with_bytes_behind_it() {
    let mut scene = Scene::new();
    let (stream, other) = pair(ENDLESS);
    scene.plugs.push((Token([7; 16]), Direction::Out, stream));
    let from = scene.connect(port::STREAM);
    for _ in 0..3 {
        scene.send(from, port::STREAM, &[7; 5]);
        assert_eq!(scene.ops(), []);
    }
    scene.send(from, port::STREAM, b"\x07behind");
    assert_eq!(output(&other), b"behind");
}

#[test]
fn whatever_is_not_there_is_refused() {
    let mut scene = Scene::new();
    scene.say(1, 99, Op::Request);
    assert_eq!(scene.ops(), [Op::Reset]);
    scene.say(1, port::NOBODY, Op::Request);
    assert_eq!(scene.ops(), [Op::Reset]);
    for op in [Op::Response, Op::Shutdown, Op::Data, Op::CreditUpdate, Op::CreditRequest] {
        scene.say(1, port::WALL, op);
        assert_eq!(scene.ops(), [Op::Reset], "{op:?} of no connection");
    }
    scene.say(1, port::WALL, Op::Reset);
    assert_eq!(scene.ops(), [], "a reset is never answered");
    let seqpacket = Header { kind: 2, ..scene.header(1, port::WALL, Op::Request) };
    scene.take(&seqpacket, &[]);
    let (answer, _) = scene.packets(0)[0];
    assert_eq!((answer.op, answer.kind), (Op::Reset.number(), 2));
    let elsewhere = Header { destination_cid: 9, ..scene.header(1, port::WALL, Op::Request) };
    scene.take(&elsewhere, &[]);
    assert_eq!(scene.packets(0)[0].0.source_cid, 9);
    assert_eq!(scene.muxer.violations(), 0, "all of these an honest program can do");
    assert!(!scene.muxer.was_greeted());

    let stranger = Header { source_cid: 9, ..scene.header(1, port::WALL, Op::Request) };
    scene.take(&stranger, &[]);
    assert_eq!((scene.ops(), scene.muxer.violations()), (vec![], 1));
    let unknown = Header { op: 77, ..scene.header(1, port::WALL, Op::Request) };
    scene.take(&unknown, &[]);
    assert_eq!(scene.ops(), [Op::Reset]);
}

#[test]
fn wall_and_inner_are_there_once() {
    let mut scene = Scene::new();
    for port in [port::WALL, port::INNER] {
        let from = scene.connect(port);
        scene.say(from + 1000, port, Op::Request);
        assert_eq!(scene.ops(), [Op::Reset], "a second one");
        scene.send(from, port, b"frame");
        scene.say(from, port, Op::Reset);
        scene.say(from, port, Op::Request);
        assert_eq!(scene.ops(), [Op::Reset], "nor after the first has gone");
    }
    assert!(scene.muxer.was_greeted());
    for other in [&scene.wall, &scene.inner] {
        assert_eq!(output(other), b"frame");
        assert!(other.with(|state| state.closed));
    }
}

#[test]
fn an_unknown_token_ends_the_connection() {
    let mut scene = Scene::new();
    let from = scene.connect(port::STREAM);
    scene.send(from, port::STREAM, &[1; 20]);
    assert_eq!(scene.ops(), [Op::Reset]);
    scene.send(from, port::STREAM, &[1; 20]);
    assert_eq!(scene.ops(), [Op::Reset], "there is no second try");
    assert_eq!(scene.muxer.violations(), 1);
}

#[test]
fn a_token_is_good_once() {
    let mut scene = Scene::new();
    let (_, other) = scene.stream(Direction::Out, ENDLESS);
    let token = [u8::try_from((scene.ports - 1) % 251).unwrap(); 16];
    let from = scene.connect(port::STREAM);
    scene.send(from, port::STREAM, &token);
    assert_eq!(scene.ops(), [Op::Reset]);
    assert!(!other.with(|state| state.closed));
}

#[test]
fn who_connects_and_says_nothing_makes_room_for_the_next() {
    let mut scene = Scene::new();
    let first = scene.connect(port::STREAM);
    for _ in 1..MAX_NAMELESS {
        scene.connect(port::STREAM);
    }
    scene.say(5, port::STREAM, Op::Request);
    let packets = scene.packets(0);
    assert_eq!(packets[0].0.op, Op::Reset.number());
    assert_eq!(packets[0].0.destination_port, first);
    assert_eq!(packets[1].0.op, Op::Response.number());
}

#[test]
fn who_connects_and_hangs_up_without_an_end_and_fetches_nothing_piles_nothing_up() {
    let mut scene = Scene::new();
    for _ in 0..10_000 {
        scene.say(5, port::STREAM, Op::Request);
        scene.say(5, port::STREAM, Op::Reset);
    }
    let held = scene.muxer.census();
    assert_eq!((held.connections, held.ready, held.resets), (0, 0, 0));
}

#[test]
fn there_are_no_more_connections_than_there_may_be() {
    let mut scene = Scene::new();
    let streams: Vec<_> =
        (0..MAX_CONNECTIONS).map(|_| scene.stream(Direction::Out, ENDLESS)).collect();
    scene.say(5, port::STREAM, Op::Request);
    assert_eq!(scene.ops(), [Op::Reset]);
    scene.shut(streams[0].0, port::STREAM, shutdown::BOTH);
    assert_eq!(scene.ops(), [Op::Reset]);
    scene.connect(port::STREAM);
}

#[test]
fn refusals_nobody_fetches_do_not_pile_up() {
    let mut scene = Scene::new();
    for from in 0..10_000 {
        scene.say(from, 99, Op::Request);
    }
    assert_eq!(scene.ops().len(), MAX_RESETS);
}

#[test]
fn what_a_full_descriptor_does_not_take_is_kept_and_counted() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Out, 10);
    let bytes: Vec<u8> = (0..BUFFER).map(|n| u8::try_from(n % 251).unwrap()).collect();
    scene.send(from, port::STREAM, &bytes);
    assert_eq!(scene.ops(), []);
    scene.say(from, port::STREAM, Op::CreditRequest);
    assert_eq!(scene.packets(0)[0].0.forwarded, 16 + 10, "only what was written is forwarded");
    scene.drain(&other, BUFFER as usize / 2);
    assert_eq!(scene.ops(), [Op::CreditUpdate], "half of it has gone");
    scene.drain(&other, ENDLESS);
    assert_eq!(output(&other), bytes);
    assert!(!scene.muxer.has_backlog());
}

#[test]
fn a_guest_that_sends_more_than_it_may_is_cut_off() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, &vec![1; BUFFER as usize]);
    scene.send(from, port::STREAM, &[2]);
    assert_eq!((scene.ops(), scene.muxer.violations()), (vec![Op::Reset], 1));
    scene.drain(&other, ENDLESS);
    assert_eq!(output(&other), vec![1; BUFFER as usize], "what it was allowed to send arrives");
    assert!(other.with(|state| state.closed));
}

#[test]
fn bytes_where_none_may_go_cut_the_guest_off() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::In, ENDLESS);
    scene.send(from, port::STREAM, b"x");
    assert_eq!(scene.ops(), [Op::Reset]);
    assert_eq!(output(&other), b"");
    let (from, other) = scene.stream(Direction::Out, ENDLESS);
    scene.shut(from, port::STREAM, shutdown::SEND);
    scene.send(from, port::STREAM, b"x");
    assert!(scene.ops().contains(&Op::Reset));
    assert_eq!(output(&other), b"");
    assert_eq!(scene.muxer.violations(), 2);
}

#[test]
fn a_guest_without_room_gets_nothing_and_is_asked_once() {
    let mut scene = Scene::new();
    scene.allocated = 100;
    let (from, other) = scene.stream(Direction::In, 0);
    other.with(|state| state.input.extend([1; 1000]));
    scene.report(&other, READY);
    let packets = scene.packets(4096);
    assert_eq!((packets[0].0.length, packets[1].0.op), (100, Op::CreditRequest.number()));
    assert_eq!(packets.len(), 2);
    scene.report(&other, READY);
    assert_eq!(scene.ops(), []);
    scene.forwarded = 60;
    scene.say(from, port::STREAM, Op::CreditUpdate);
    let packets = scene.packets(4096);
    assert_eq!((packets[0].0.length, packets[1].0.op), (60, Op::CreditRequest.number()));
}

#[test]
fn a_guest_with_an_endless_buffer_gets_packets_of_a_length() {
    let mut scene = Scene::new();
    scene.allocated = u32::MAX;
    let (_, other) = scene.stream(Direction::In, 0);
    other.with(|state| state.input.extend(vec![1; 300_000]));
    scene.report(&other, READY);
    let packets = scene.packets(1 << 20);
    assert!(packets.iter().all(|(header, _)| header.length <= MAX_PAYLOAD));
    assert_eq!(packets.iter().map(|(header, _)| header.length).sum::<u32>(), 300_000);
}

#[test]
fn empty_packets_are_passed_over() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Out, 0);
    for _ in 0..100_000 {
        scene.send(from, port::STREAM, &[]);
    }
    assert_eq!(scene.ops(), []);
    assert!(!scene.muxer.has_backlog());
    assert_eq!(output(&other), b"");
}

/// CVE-2026-53132: packets without a byte, with the end of a message or without, have no end.
#[test]
fn empty_packets_to_anybody_cost_nothing() {
    let mut scene = Scene::new();
    let (wall, inner) = (scene.connect(port::WALL), scene.connect(port::INNER));
    let (full, _other) = scene.stream(Direction::Out, 0);
    scene.send(full, port::STREAM, b"kept");
    let nameless = scene.connect(port::STREAM);
    let ports = [
        (wall, port::WALL),
        (inner, port::INNER),
        (full, port::STREAM),
        (nameless, port::STREAM),
        (9, port::STREAM),
        (9, 99),
    ];
    for round in 0..50_000 {
        for (from, to) in ports {
            let header = scene.header(from, to, Op::Data);
            scene.take(&Header { flags: round % 4, ..header }, &[]);
        }
    }
    let held = scene.muxer.census();
    assert_eq!((held.connections, held.nameless, held.largest_backlog), (4, 1, 4));
    assert!(held.ready <= 4 && held.resets <= MAX_RESETS, "{held:?}");
    assert!(scene.ops().iter().all(|op| *op == Op::Reset), "only who is not there is answered");
    assert_eq!(scene.muxer.violations(), 0);
}

/// An app that has a socket of its own to the host, which no filter kept from it.
#[test]
fn a_program_of_the_guest_that_connects_anywhere_reaches_nothing() {
    let mut scene = Scene::new();
    scene.connect(port::WALL);
    scene.connect(port::INNER);
    let honest = Token([7; 16]);
    let (stream, other) = pair(ENDLESS);
    other.with(|state| state.input.extend(b"of somebody else"));
    scene.plugs.push((honest, Direction::Both, stream));
    for to in (0..2000).chain([u32::MAX]).filter(|to| *to != port::STREAM) {
        scene.say(5000, to, Op::Request);
        assert_eq!(scene.ops(), [Op::Reset], "port {to}");
    }
    // This one is answered, for the name of a stream is told behind it; and that is all.
    for guess in 0..=255 {
        let from = scene.connect(port::STREAM);
        scene.send(from, port::STREAM, &[guess; 15]);
        assert_eq!(scene.ops(), [], "nothing is told before a name is");
        scene.send(from, port::STREAM, &[!honest.0[0]; 4000]);
        assert_eq!(scene.ops(), [Op::Reset]);
    }
    assert_eq!(scene.plugs.len(), 1, "whose it is finds it there");
    assert_eq!(output(&other), b"");
    // Who listens is asked by nobody: an answer to what was not asked is refused.
    scene.say(1234, 1234, Op::Response);
    assert_eq!(scene.ops(), [Op::Reset]);
    assert!(output(&scene.wall).is_empty() && output(&scene.inner).is_empty());
}

#[test]
fn the_end_of_a_file_is_an_end_for_the_guest() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::In, 0);
    other.with(|state| {
        state.input.extend(b"last");
        state.input_ended = true;
    });
    scene.report(&other, READY);
    let packets = scene.packets(4096);
    assert_eq!(packets[0].1, b"last");
    assert_eq!((packets[1].0.op, packets[1].0.flags), (Op::Shutdown.number(), shutdown::SEND));
    assert_eq!(packets.len(), 2);
    assert!(other.with(|state| state.closed), "there is nothing more to do with it");
    scene.shut(from, port::STREAM, shutdown::BOTH);
    assert_eq!(scene.ops(), [Op::Reset]);
}

#[test]
fn an_end_in_one_direction_is_none_in_the_other() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Both, ENDLESS);
    other.with(|state| state.input_ended = true);
    scene.report(&other, READY);
    let flags = scene.packets(0x1000)[0].0.flags;
    assert_eq!(flags, shutdown::SEND);
    scene.send(from, port::STREAM, b"still");
    assert_eq!(output(&other), b"still");
    scene.shut(from, port::STREAM, shutdown::SEND);
    assert!(other.with(|state| state.closed));

    let (from, other) = scene.stream(Direction::Both, ENDLESS);
    scene.shut(from, port::STREAM, shutdown::SEND);
    assert_eq!(other.with(|state| (state.shut, state.closed)), ((true, false), false));
    other.with(|state| state.input.extend(b"still"));
    scene.report(&other, READY);
    assert_eq!(scene.packets(4096)[0].1, b"still");
}

#[test]
fn a_writer_to_nobody_is_told() {
    for (direction, flags) in
        [(Direction::Out, shutdown::BOTH), (Direction::Both, shutdown::RECEIVE)]
    {
        let mut scene = Scene::new();
        let (from, other) = scene.stream(direction, ENDLESS);
        other.with(|state| state.broken = true);
        scene.send(from, port::STREAM, b"lost");
        let (header, _) = scene.packets(4096)[0];
        assert_eq!((header.op, header.flags), (Op::Shutdown.number(), flags));
        assert_eq!(header.forwarded, 16 + 4, "what is lost needs no room");
        scene.send(from, port::STREAM, b"more is lost, and no harm done");
        assert_eq!(scene.muxer.violations(), 0);
        assert_eq!(other.with(|state| state.closed), direction == Direction::Out);
    }
}

#[test]
fn a_reader_that_goes_is_noticed_though_nothing_is_written() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, b"kept");
    scene.report(&other, GONE);
    let (header, _) = scene.packets(4096)[0];
    assert_eq!((header.op, header.flags), (Op::Shutdown.number(), shutdown::BOTH));
    assert!(other.with(|state| state.closed));
    assert!(!scene.muxer.has_backlog());
    scene.say(from, port::STREAM, Op::Reset);
    assert_eq!(scene.ops(), []);
}

#[test]
fn what_was_kept_is_written_after_the_connection_has_gone() {
    for goodbye in [Op::Reset, Op::Shutdown, Op::Request] {
        let mut scene = Scene::new();
        let (from, other) = scene.stream(Direction::Out, 0);
        scene.send(from, port::STREAM, b"kept");
        let header = Header { flags: shutdown::BOTH, ..scene.header(from, port::STREAM, goodbye) };
        scene.take(&header, &[]);
        let answer: &[Op] = if goodbye == Op::Reset { &[] } else { &[Op::Reset] };
        assert_eq!(scene.ops(), answer);
        assert!(!other.with(|state| state.closed));
        // The same ports may name another stream at once.
        let (stream, second) = pair(ENDLESS);
        scene.plugs.push((Token([250; 16]), Direction::Out, stream));
        scene.say(from, port::STREAM, Op::Request);
        scene.send(from, port::STREAM, &[250; 16]);
        scene.send(from, port::STREAM, b"second");
        scene.drain(&other, 2);
        scene.drain(&other, 2);
        assert_eq!((output(&other), output(&second)), (b"kept".to_vec(), b"second".to_vec()));
        assert!(other.with(|state| state.closed));
        assert!(!second.with(|state| state.closed));
    }
}

#[test]
fn a_half_closed_stream_ends_with_its_last_byte() {
    let mut scene = Scene::new();
    let (from, other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, b"kept");
    scene.shut(from, port::STREAM, shutdown::SEND);
    assert!(!other.with(|state| state.closed));
    scene.drain(&other, ENDLESS);
    assert_eq!(output(&other), b"kept");
    assert!(other.with(|state| state.closed));
}

#[test]
fn turns_are_taken() {
    let mut scene = Scene::new();
    let streams: Vec<_> = (0..3).map(|_| scene.stream(Direction::In, 0)).collect();
    for (_, other) in &streams {
        other.with(|state| state.input.extend([1; 100]));
        scene.report(other, READY);
    }
    let order: Vec<u32> =
        scene.packets(10).iter().map(|(header, _)| header.destination_port).collect();
    assert_eq!(order.len(), 30);
    for (place, port) in order.iter().enumerate().skip(3) {
        assert_eq!(*port, order[place - 3]);
        assert!(!order[place - 2..place].contains(port));
    }
}

#[test]
fn inner_comes_after_what_was_sent_before_it() {
    let mut scene = Scene::new();
    let inner = scene.connect(port::INNER);
    let (from, other) = scene.stream(Direction::Out, 2);
    scene.send(from, port::STREAM, b"output");
    scene.send(inner, port::INNER, b"it has ended");
    assert_eq!(output(&scene.inner), b"");
    scene.report(&scene.inner.clone(), READY);
    assert_eq!(output(&scene.inner), b"", "not even if it could be written");
    assert_eq!(scene.muxer.deadline(), Some(scene.now + PATIENCE));
    scene.send(from, port::STREAM, b" later");
    scene.drain(&other, 4);
    assert_eq!(output(&other), b"output");
    assert_eq!(output(&scene.inner), b"it has ended", "what came later is not waited for");
    assert_eq!(scene.muxer.deadline(), None);
}

#[test]
fn inner_waits_for_a_connection_that_is_no_more_too() {
    let mut scene = Scene::new();
    let inner = scene.connect(port::INNER);
    let (from, other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, b"output");
    scene.shut(from, port::STREAM, shutdown::BOTH);
    scene.send(inner, port::INNER, b"it has ended");
    assert_eq!(output(&scene.inner), b"");
    scene.drain(&other, ENDLESS);
    assert_eq!(output(&scene.inner), b"it has ended");
}

#[test]
fn inner_waits_a_second_and_not_twice_for_the_same() {
    let mut scene = Scene::new();
    let inner = scene.connect(port::INNER);
    let (from, other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, b"stuck");
    scene.send(inner, port::INNER, b"1");
    scene.now += PATIENCE - Duration::from_millis(1);
    scene.send(inner, port::INNER, b"2");
    scene.muxer.tick(scene.now);
    assert_eq!(output(&scene.inner), b"");
    scene.now += Duration::from_millis(1);
    scene.muxer.tick(scene.now);
    assert_eq!(output(&scene.inner), b"12");
    scene.send(inner, port::INNER, b"3");
    assert_eq!(output(&scene.inner), b"123", "it has been waited for");
    scene.drain(&other, ENDLESS);
    scene.drain(&other, 0);
    scene.send(from, port::STREAM, b"stuck again");
    scene.send(inner, port::INNER, b"4");
    assert_eq!(output(&scene.inner), b"123", "it had caught up");
    scene.report(&other, GONE);
    assert_eq!(output(&scene.inner), b"1234", "nobody will ever read it");
}

#[test]
fn wall_waits_for_nobody() {
    let mut scene = Scene::new();
    let wall = scene.connect(port::WALL);
    let (from, _other) = scene.stream(Direction::Out, 0);
    scene.send(from, port::STREAM, b"stuck");
    scene.send(wall, port::WALL, b"hello");
    assert_eq!(output(&scene.wall), b"hello");
}

#[test]
fn what_was_written_before_a_frame_of_inner_goes_before_it() {
    let mut scene = Scene::new();
    let inner = scene.connect(port::INNER);
    let (from, other) = scene.stream(Direction::Both, 0);
    assert_eq!(scene.ops(), []);
    // Both were written, in this order; only the second was reported yet.
    other.with(|state| state.input.extend(b"size"));
    scene.inner.with(|state| state.input.extend(b"run"));
    scene.report(&scene.inner.clone(), READY);
    let order: Vec<_> =
        scene.packets(4096).into_iter().map(|(h, b)| (h.destination_port, b)).collect();
    assert_eq!(order, [(from, b"size".to_vec()), (inner, b"run".to_vec())]);
}

#[test]
fn a_frame_of_inner_goes_in_pieces_through_small_buffers() {
    let mut scene = Scene::new();
    let _inner = scene.connect(port::INNER);
    scene.inner.with(|state| {
        state.input.extend(b"0123456789");
        state.input_ended = true;
    });
    scene.report(&scene.inner.clone(), READY);
    let mut room = [0; 8];
    let mut bytes: Vec<u8> = Vec::new();
    let mut last = None;
    // The guest's buffers are of any length.
    for length in [8, 3, 8, 1, 8, 8, 8] {
        if let Some(header) = scene.muxer.give(&mut room[..length]) {
            bytes.extend(&room[..header.length as usize]);
            last = Some(header);
        }
    }
    assert_eq!(bytes, b"0123456789");
    assert_eq!(last.map(|header| header.flags), Some(shutdown::SEND));
}

#[test]
fn a_gibibyte_goes_through_to_a_slow_reader_both_ways() {
    const TOTAL: u64 = 1 << 30;
    let mut scene = Scene::new();
    scene.allocated = 64 << 10;
    let (from, other) = scene.stream(Direction::Both, 0);
    let chunk: Vec<u8> = (0..40_000_u32).map(|n| u8::try_from(n % 256).unwrap()).collect();
    let (mut sent, mut told, mut received) = (16_u32, 0_u32, 0_u64);
    let mut written = 0_u64;
    let mut room = vec![0; 4096];
    while written < TOTAL || received < TOTAL {
        // The guest sends what it may, and the reader takes it in pieces of another length.
        let may = (BUFFER - sent.wrapping_sub(told)).min(40_000) as usize;
        scene.send(from, port::STREAM, &chunk[..may]);
        sent = sent.wrapping_add(u32::try_from(may).unwrap());
        scene.drain(&other, 30_001);
        written += other.with(|state| {
            let length = state.output.len() as u64;
            state.output.clear();
            state.input.extend(&chunk[..8192 - state.input.len().min(8192)]);
            length
        });
        scene.report(&other, READY);
        while let Some(header) = scene.muxer.give(&mut room) {
            told = header.forwarded;
            received += u64::from(header.length);
            scene.forwarded = scene.forwarded.wrapping_add(header.length);
        }
        scene.say(from, port::STREAM, Op::CreditRequest);
    }
    assert_eq!(scene.muxer.violations(), 0);
}
