//! Chains of any shape in the queues of the socket device, in front of real descriptors.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pod_abi::guest::Token;

use super::{Words, ends, offer_anything};
use crate::devices::vsock::{Plugs, Vsock};
use crate::helm::Direction;
use crate::rig::Rig;
use crate::virtio::Device as _;
use crate::vsock::packet::{Header, STREAM};
use crate::vsock::{GUEST_CID, HOST_CID};

const RECEIVE: usize = 0;
const SEND: usize = 1;

/// One descriptor, for the token of zeros.
#[derive(Debug)]
struct One(Option<OwnedFd>);

impl Plugs for One {
    fn take(&mut self, token: &Token) -> Option<(OwnedFd, Direction)> {
        if token.0 == [0; 16] { Some((self.0.take()?, Direction::Both)) } else { None }
    }
}

/// Runs the deeds.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn vsock(deeds: &[u8]) {
    let mut words = Words(deeds);
    let pair = || UnixStream::pair().expect("a pair of sockets");
    let ((mut wall, wall_end), (inner, inner_end), (mut stream, stream_end)) =
        (pair(), pair(), pair());
    for socket in [&wall, &inner, &stream] {
        socket.set_nonblocking(true).expect("a socket");
    }
    let features = u64::from(words.byte() & 1) << 29;
    let (mut rig, activation) = Rig::new(&[16, 16, 8], features);
    let plugs = Box::new(One(Some(stream_end.into())));
    let device = Vsock::new(wall_end.into(), inner_end.into(), plugs);
    let mut device = Box::new(device).activate(activation).expect("a device");
    let mut scrap = [0; 4096];
    let mut ended = false;
    while words.has_more() {
        match words.below(8) {
            0 => offer_anything(&mut rig.drivers[RECEIVE], &mut words),
            1 => offer_anything(&mut rig.drivers[SEND], &mut words),
            2 => {
                rig.drivers[RECEIVE].free = 6 << 20;
                rig.drivers[RECEIVE].put(&[], &[44, u32::from(words.half())]);
            }
            3 | 4 => {
                let mut header = Header {
                    source_cid: GUEST_CID,
                    destination_cid: HOST_CID,
                    source_port: u32::from(words.below(4)),
                    destination_port: u32::from(words.below(5)),
                    kind: STREAM,
                    op: u16::from(words.below(9)),
                    flags: u32::from(words.below(4)),
                    ..Header::default()
                };
                header.allocated = words.one_of(&[0, 1000, 100_000, u32::MAX]);
                let payload = vec![0; usize::from(words.half()) % 3000];
                header.length = match words.below(4) {
                    0 => words.word(),
                    _ => u32::try_from(payload.len()).unwrap_or(0),
                };
                rig.drivers[SEND].free = 5 << 20;
                rig.drivers[SEND].put(&[&header.encode(), &payload], &[]);
            }
            5 => {
                // The sockets do not wait; what they do not take is no matter.
                let _ = (wall.write(b"wall"), (&inner).write(b"inner"), stream.write(&[7; 900]));
            }
            6 => {
                let _ = (wall.read(&mut scrap), (&inner).read(&mut scrap), stream.read(&mut scrap));
            }
            _ => {
                let events = rig.watch.wait(Some(Duration::ZERO)).expect("an epoll instance");
                for event in events {
                    ended |= ends(&device.ready(event.token, event.flags));
                }
                ended |= ends(&device.timed_out(Instant::now()));
            }
        }
        for queue in [SEND, RECEIVE, 2] {
            ended |= ends(&device.notified(queue));
        }
        if ended {
            return;
        }
        while rig.drivers[RECEIVE].used().is_some() {}
        while rig.drivers[SEND].used().is_some() {}
    }
}
