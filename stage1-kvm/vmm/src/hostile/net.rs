//! Chains of any shape in the queues of the network device, in front of a socket of datagrams.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::{Words, ends, offer_anything};
use crate::description::Nic;
use crate::devices::net::Net;
use crate::rig::Rig;
use crate::virtio::Device as _;

const RECEIVE: usize = 0;
const SEND: usize = 1;

/// Runs the deeds.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn net(deeds: &[u8]) {
    let mut words = Words(deeds);
    let (host, tap) = UnixDatagram::pair().expect("a pair of sockets");
    host.set_nonblocking(true).expect("a socket");
    // Mergeable buffers or not, events or not.
    let features = u64::from(words.byte() & 1) << 15 | u64::from(words.byte() & 1) << 29;
    let (mut rig, activation) = Rig::new(&[16, 16], features);
    let net = Net::new(tap.into(), Nic { mac: [2; 6], mtu: 1500 });
    let mut device = Box::new(net).activate(activation).expect("a device");
    let mut frame = vec![0; 70_000];
    let mut ended = false;
    while words.has_more() {
        match words.below(6) {
            0 => offer_anything(&mut rig.drivers[RECEIVE], &mut words),
            1 => offer_anything(&mut rig.drivers[SEND], &mut words),
            2 => {
                rig.drivers[RECEIVE].free = 6 << 20;
                rig.drivers[RECEIVE].put(&[], &[u32::from(words.half())]);
            }
            3 => {
                rig.drivers[SEND].free = 5 << 20;
                rig.drivers[SEND].put(&[&frame[..usize::from(words.half())]], &[]);
            }
            4 => {
                // A socket that is full takes nothing, as an interface does.
                let _ = host.send(&frame[..usize::from(words.half())]);
            }
            _ => {
                let events = rig.watch.wait(Some(Duration::ZERO)).expect("an epoll instance");
                for event in events {
                    ended |= ends(&device.ready(event.token, event.flags));
                }
            }
        }
        for queue in [SEND, RECEIVE] {
            ended |= ends(&device.notified(queue));
        }
        if ended {
            return;
        }
        while rig.drivers[SEND].used().is_some() {}
        while rig.drivers[RECEIVE].used().is_some() {}
        while let Ok(length) = host.recv(&mut frame) {
            assert!((26..=65_565).contains(&length), "a frame has a length of one");
        }
        frame.fill(0);
    }
}
