//! The network device (virtio 1.2 §5.1): frames between its queues and a tap.
//!
//! A frame passes as it is, with the header before it that the driver and the kernel of the host
//! agree upon: nothing in it is looked at but its length. A frame that the driver has no buffers
//! for is kept until it has, and the tap is not read meanwhile: what then comes waits in the kernel,
//! which drops it as any full interface does (CVE-2020-16843: a tap whose readiness was forgotten).

use std::os::fd::{AsFd as _, OwnedFd};

use pod_sys::{TAP_HEADER, TapOffload, offload_tap};
use rustix::event::epoll::EventFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read};

use crate::description::Nic;
use crate::memory::{Memory, Place, write_from};
use crate::virtio::{Activation, Active, Broken, Chain, Device, Fault, Interrupt, Queue, Waits};
use crate::watch::Watch;

/// `VIRTIO_ID_NET`.
const KIND: u32 = 1;

/// The queue of buffers for frames from the tap.
const RECEIVE: usize = 0;
/// The queue of frames for the tap.
const SEND: usize = 1;

/// Bytes before each frame.
const HEADER: usize = TAP_HEADER as usize;

/// The longest frame with its header: an IP packet of 65535 bytes in Ethernet with a VLAN tag, as
/// offloads allow (virtio 1.2 §5.1.6.3.1 has 65562 for one without the tag).
const LONGEST: usize = HEADER + 18 + 65_535;

/// The shortest: an Ethernet header.
const SHORTEST: usize = HEADER + 14;

/// Where a header says in how many buffers its frame lies (`num_buffers`).
const BUFFERS_AT: usize = 10;

/// The most frames of one call, either way, so that others get their turn.
const ROUND: usize = 128;

/// What it is called when it is the end of its machine.
const NAME: &str = "its network interface";

/// Token of the tap.
const TAP: u32 = 0;

/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

/// Features (virtio 1.2 §5.1.3).
mod feature {
    /// The device takes frames without a checksum.
    pub(super) const CSUM: u64 = 1;
    /// The driver does.
    pub(super) const GUEST_CSUM: u64 = 1 << 1;
    pub(super) const MTU: u64 = 1 << 3;
    pub(super) const MAC: u64 = 1 << 5;
    /// The driver takes TCP in one piece.
    pub(super) const GUEST_TSO4: u64 = 1 << 7;
    pub(super) const GUEST_TSO6: u64 = 1 << 8;
    /// The device does.
    pub(super) const HOST_TSO4: u64 = 1 << 11;
    pub(super) const HOST_TSO6: u64 = 1 << 12;
    /// A frame may lie in more than one chain of buffers.
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    pub(super) const STATUS: u64 = 1 << 16;
}

/// The device.
#[derive(Debug)]
pub struct Net {
    tap: OwnedFd,
    nic: Nic,
}

#[derive(Debug)]
struct Driven {
    tap: OwnedFd,
    nic: Nic,
    memory: Memory,
    receive: Option<Queue>,
    send: Option<Queue>,
    interrupt: Interrupt,
    watch: Watch,
    mergeable: bool,
    /// The tap may have a frame: it was reported, and none was missed since.
    readable: bool,
    /// A frame that waits for buffers lies in `room`, of this length.
    held: Option<usize>,
    room: Box<[u8]>,
}

/// What became of a frame for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    /// It is in its buffers, or there is no way it ever will be.
    Done,
    /// There are too few.
    NoRoom,
}

impl Net {
    /// A device in front of a tap, which belongs to it alone: it is made not to wait.
    #[must_use]
    pub fn new(tap: OwnedFd, nic: Nic) -> Self {
        if let Ok(flags) = fcntl_getfl(&tap) {
            // It fails for no descriptor that is open.
            let _ = fcntl_setfl(&tap, flags | OFlags::NONBLOCK);
        }
        Self { tap, nic }
    }
}

impl Waits for Net {}

impl Device for Net {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        use feature::{
            CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6, MAC, MRG_RXBUF, MTU,
            STATUS,
        };
        let offloads = CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | HOST_TSO4 | HOST_TSO6;
        offloads | MAC | MTU | MRG_RXBUF | STATUS
    }

    /// `struct virtio_net_config` as far as it goes with these features.
    fn config(&self) -> Vec<u8> {
        let mut bytes = self.nic.mac.to_vec();
        bytes.extend(LINK_UP.to_le_bytes());
        // One pair of queues.
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(self.nic.mtu.to_le_bytes());
        bytes
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn activate(self: Box<Self>, activation: Activation) -> Result<Box<dyn Active>, Fault> {
        let Activation { memory, queues, interrupt, features, watch } = activation;
        let mut queues = queues.into_iter();
        let has = |feature: u64| features & feature != 0;
        let checksum = has(feature::GUEST_CSUM);
        let offload = TapOffload {
            checksum,
            tcp4: checksum && has(feature::GUEST_TSO4),
            tcp6: checksum && has(feature::GUEST_TSO6),
        };
        // A tap that cannot do it leaves nothing undone that the driver could do.
        let _ = offload_tap(self.tap.as_fd(), offload);
        watch
            .add(&self.tap, TAP, EventFlags::IN | EventFlags::ET)
            .map_err(|error| Fault(format!("the tap cannot be waited for: {error}")))?;
        Ok(Box::new(Driven {
            tap: self.tap,
            nic: self.nic,
            memory,
            receive: queues.next().flatten(),
            send: queues.next().flatten(),
            interrupt,
            watch,
            mergeable: has(feature::MRG_RXBUF),
            readable: true,
            held: None,
            room: vec![0; LONGEST].into_boxed_slice(),
        }))
    }
}

impl Active for Driven {
    fn notified(&mut self, queue: usize) -> Result<(), Fault> {
        let done = match queue {
            RECEIVE => self.give(),
            SEND => self.take(),
            _ => Ok(()),
        };
        done.map_err(|broken| broken.of(NAME))
    }

    fn reset(self: Box<Self>) -> Box<dyn Device> {
        // It is waited for.
        let _ = self.watch.remove(&self.tap);
        Box::new(Net { tap: self.tap, nic: self.nic })
    }
}

impl Waits for Driven {
    fn ready(&mut self, _token: u32, _flags: EventFlags) -> Result<(), Fault> {
        self.readable = true;
        self.give().map_err(|broken| broken.of(NAME))
    }
}

impl Driven {
    /// Gives frames of the tap to the driver, as far as it has buffers.
    fn give(&mut self) -> Result<(), Broken> {
        let Some(queue) = &mut self.receive else { return Ok(()) };
        for turn in 0.. {
            let length = match self.held {
                Some(length) => length,
                None if !self.readable => break,
                None if turn >= ROUND => {
                    queue.again();
                    break;
                }
                None => match read(&self.tap, &mut *self.room) {
                    Ok(length) if length >= SHORTEST => length,
                    Ok(1..) | Err(Errno::INTR) => continue,
                    // No frame, or a tap that was taken away: none comes any more.
                    Ok(0) | Err(_) => {
                        self.readable = false;
                        break;
                    }
                },
            };
            self.held = Some(length);
            let frame = self.room.get_mut(..length).unwrap_or_default();
            if place(queue, &self.memory, &self.interrupt, self.mergeable, frame)? == Placed::NoRoom
            {
                break;
            }
            self.held = None;
        }
        queue.signal(&self.memory)
    }

    /// Takes frames of the driver for the tap. One that the tap does not take is lost, as on any
    /// wire.
    fn take(&mut self) -> Result<(), Broken> {
        let Some(queue) = &mut self.send else { return Ok(()) };
        for turn in 0.. {
            if turn == ROUND {
                queue.again();
                break;
            }
            let Some(mut chain) = queue.next(&self.memory)? else { break };
            let length = chain.readable();
            if (SHORTEST..=LONGEST).contains(&length) {
                let frame = chain.take_readable(length);
                // SECURITY: the kernel checks the header against the frame it has copied, for
                // whoever can open a tap is as little to be trusted.
                let _ = write_from(self.tap.as_fd(), Place::Next, &frame);
            } else {
                self.interrupt.violation();
            }
            queue.done(&self.memory, chain.head(), 0)?;
        }
        queue.signal(&self.memory)
    }
}

/// Puts a frame into buffers of the driver, in one chain or, if it can be, in several.
///
/// A frame that fits into none of what the queue can hold at once is lost.
fn place(
    queue: &mut Queue,
    memory: &Memory,
    interrupt: &Interrupt,
    mergeable: bool,
    frame: &mut [u8],
) -> Result<Placed, Broken> {
    let most = if mergeable { usize::from(queue.size()) } else { 1 };
    let mut chains: Vec<Chain<'_>> = Vec::new();
    let mut room = 0;
    while room < frame.len() && chains.len() < most {
        let Some(chain) = queue.next(memory)? else { break };
        if chain.writable() < HEADER {
            // There is no place for the header; the specification asks for more.
            interrupt.violation();
            return Err(Broken);
        }
        room += chain.writable();
        chains.push(chain);
    }
    if room < frame.len() {
        for _ in &chains {
            queue.put_back();
        }
        return Ok(if chains.len() == most { Placed::Done } else { Placed::NoRoom });
    }
    // At most the length of a queue.
    let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
    frame[BUFFERS_AT..HEADER].copy_from_slice(&count.to_le_bytes());
    let mut rest = &*frame;
    for mut chain in chains {
        let written = chain.write(rest);
        rest = &rest[written..];
        queue.done(memory, chain.head(), u32::try_from(written).unwrap_or(u32::MAX))?;
    }
    Ok(Placed::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;
    use crate::rig::{Rig, WRITE};

    const NIC: Nic = Nic { mac: [2, 0, 0, 0, 0, 1], mtu: 1500 };

    /// A driver in front of a device.
    struct Guest {
        rig: Rig,
        device: Box<dyn Active>,
        rooms: BTreeMap<u16, u64>,
    }

    impl Guest {
        fn new(tap: OwnedFd, features: u64) -> Self {
            let (rig, activation) = Rig::new(&[256, 256], features);
            let device = Box::new(Net::new(tap, NIC)).activate(activation).unwrap();
            Self { rig, device, rooms: BTreeMap::new() }
        }

        fn room(&mut self, length: u32) {
            let driver = &mut self.rig.drivers[RECEIVE];
            driver.free = (4 << 20) + (driver.free & 0x3f_ffff);
            let (head, at) = driver.put(&[], &[length]);
            self.rooms.insert(head, at[0]);
        }

        fn notify(&mut self, queue: usize) {
            self.device.notified(queue).unwrap();
        }

        /// Waits for the tap as the loop does.
        fn turn(&mut self) {
            for event in self.rig.watch.wait(Some(Duration::from_secs(10))).unwrap() {
                self.device.ready(event.token, event.flags).unwrap();
            }
        }

        /// The buffers the device has filled.
        fn filled(&mut self) -> Vec<Vec<u8>> {
            let driver = &mut self.rig.drivers[RECEIVE];
            let mut filled = Vec::new();
            while let Some((head, length)) = driver.used() {
                filled.push(driver.bytes(self.rooms.remove(&head).unwrap(), length as usize));
            }
            filled
        }
    }

    fn frame(length: usize, byte: u8) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        frame.resize(length, byte);
        frame
    }

    fn wire() -> (UnixDatagram, OwnedFd) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs.into())
    }

    #[test]
    fn its_configuration_is_what_the_specification_draws() {
        let net = Net::new(wire().1, NIC);
        assert_eq!(net.config(), [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5]);
        assert_eq!(net.features(), 0x1_99ab);
    }

    #[test]
    fn a_frame_waits_until_there_are_buffers() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, feature::MRG_RXBUF);
        host.send(&frame(100, 1)).unwrap();
        host.send(&frame(200, 2)).unwrap();
        guest.turn();
        guest.notify(RECEIVE);
        assert_eq!(guest.filled(), Vec::<Vec<u8>>::new());
        guest.room(2000);
        guest.notify(RECEIVE);
        let filled = guest.filled();
        assert_eq!((filled.len(), filled[0].len(), filled[0][99]), (1, 100, 1));
        guest.room(2000);
        guest.notify(RECEIVE);
        assert_eq!(guest.filled()[0].len(), 200);
        // And it goes on.
        guest.room(2000);
        guest.notify(RECEIVE);
        host.send(&frame(300, 3)).unwrap();
        guest.turn();
        assert_eq!(guest.filled()[0].len(), 300);
        assert_eq!(guest.rig.status.violations(), 0);
    }

    #[test]
    fn a_long_frame_lies_in_as_many_buffers_as_it_needs() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, feature::MRG_RXBUF);
        host.send(&frame(2500, 7)).unwrap();
        guest.room(1000);
        guest.room(1000);
        guest.turn();
        guest.notify(RECEIVE);
        assert_eq!(guest.filled(), Vec::<Vec<u8>>::new(), "all or nothing");
        guest.room(1000);
        guest.notify(RECEIVE);
        let filled = guest.filled();
        assert_eq!(filled.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(filled[0][BUFFERS_AT..HEADER], [3, 0]);
        assert!(filled.concat()[HEADER..].iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_frame_that_never_fits_is_lost_and_the_next_is_not() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, 0);
        host.send(&frame(2500, 1)).unwrap();
        host.send(&frame(500, 2)).unwrap();
        guest.room(1000);
        guest.turn();
        let filled = guest.filled();
        assert_eq!((filled.len(), filled[0].len()), (1, 500));
        assert_eq!(filled[0][BUFFERS_AT..HEADER], [1, 0]);

        let (host, tap) = wire();
        let mut guest = Guest::new(tap, feature::MRG_RXBUF);
        host.send(&frame(60_000, 1)).unwrap();
        host.send(&frame(30, 2)).unwrap();
        for _ in 0..256 {
            guest.room(30);
        }
        guest.turn();
        assert_eq!(
            guest.filled(),
            [frame(30, 2)].map(|mut f| {
                f[BUFFERS_AT] = 1;
                f
            })
        );
    }

    #[test]
    fn a_buffer_without_room_for_a_header_is_no_honest_drivers() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, feature::MRG_RXBUF);
        guest.room(11);
        host.send(&frame(100, 1)).unwrap();
        let fault = guest.device.notified(RECEIVE).unwrap_err();
        assert_eq!(fault.0, "the guest's driver has broken a queue of its network interface");
        assert_eq!(guest.rig.status.violations(), 1);
    }

    #[test]
    fn a_frame_of_the_driver_is_one_write() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, 0);
        let bytes = frame(1000, 5);
        guest.rig.drivers[SEND].put(&[&bytes[..HEADER], &bytes[HEADER..500], &bytes[500..]], &[]);
        guest.notify(SEND);
        let mut arrived = vec![0; 2000];
        let length = host.recv(&mut arrived).unwrap();
        assert_eq!(arrived[..length], bytes);
        assert!(guest.rig.drivers[SEND].used().is_some());
    }

    #[test]
    fn frames_of_a_length_that_none_has_do_not_leave() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, 0);
        for length in [0, 1, HEADER, SHORTEST - 1, LONGEST + 1] {
            guest.rig.drivers[SEND].free = 2 << 20;
            guest.rig.drivers[SEND].put(&[&frame(length, 0)[..length]], &[]);
        }
        let long = 1 << 20;
        guest.rig.drivers[SEND].put_raw(&[(2 << 20, long, 0), (2 << 20, long, 0)]);
        guest.rig.drivers[SEND].put_raw(&[(2 << 20, 100, WRITE)]);
        guest.notify(SEND);
        assert!(host.recv(&mut [0; 10]).is_err());
        assert_eq!(guest.rig.status.violations(), 7);
        assert_eq!(std::iter::from_fn(|| guest.rig.drivers[SEND].used()).count(), 7);
    }

    #[test]
    fn a_tap_that_takes_nothing_stops_nobody() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, 0);
        for _ in 0..5 {
            for _ in 0..100 {
                guest.rig.drivers[SEND].free = 2 << 20;
                guest.rig.drivers[SEND].put(&[&frame(1000, 0)], &[]);
            }
            guest.notify(SEND);
            guest.notify(SEND);
            assert_eq!(std::iter::from_fn(|| guest.rig.drivers[SEND].used()).count(), 100);
        }
        drop(host);
    }

    #[test]
    fn a_reset_gives_the_tap_to_the_next_driver() {
        let (host, tap) = wire();
        let mut guest = Guest::new(tap, 0);
        host.send(&frame(100, 1)).unwrap();
        guest.turn();
        let device = guest.device.reset();
        let (rig, activation) = Rig::new(&[256, 256], 0);
        guest = Guest { rig, device: device.activate(activation).unwrap(), rooms: BTreeMap::new() };
        guest.room(2000);
        host.send(&frame(200, 2)).unwrap();
        guest.turn();
        assert_eq!(guest.filled()[0].len(), 200, "the first was the first driver's");
    }

    /// Sends frames by an interface, as many as it takes.
    #[allow(unsafe_code, reason = "a packet socket is what no wrapper makes without it")]
    fn flood(interface: &str, frames: usize) {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: `name` is a string with an end, which lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert_ne!(index, 0, "there is a tap");
        // SAFETY: socket takes no pointer.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0);
        // SAFETY: the call before has made this descriptor, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET.try_into().unwrap(),
            sll_protocol: 0,
            sll_ifindex: index.try_into().unwrap(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0xff; 8],
        };
        let length = size_of::<libc::sockaddr_ll>().try_into().unwrap();
        let bytes = [0xff; 600];
        for _ in 0..frames {
            // SAFETY: both pointers are to values that live through the call, with their lengths.
            // A full interface is an error here, and what the test wants.
            unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    libc::MSG_DONTWAIT,
                    (&raw const address).cast(),
                    length,
                )
            };
        }
    }

    /// CVE-2020-16843: a flood while the driver has no buffers, then buffers: frames flow again.
    #[test]
    fn a_flooded_tap_is_read_again_as_soon_as_there_are_buffers() {
        // A thread of its own, so that no other test is in this network namespace.
        std::thread::spawn(|| {
            if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                println!("skipped: a network namespace needs root ({errno})");
                return;
            }
            let tap = match pod_sys::open_tap("flood") {
                Ok(tap) => tap,
                Err(error) => {
                    println!("skipped: no tap can be made here ({error})");
                    return;
                }
            };
            pod_sys::bring_link_up("flood").unwrap();
            let mut guest = Guest::new(tap, feature::MRG_RXBUF | feature::GUEST_CSUM);
            flood("flood", 5000);
            guest.turn();
            let mut total = 0;
            // What the kernel has kept of them, in rounds of a few buffers.
            for _ in 0..2000 {
                for _ in 0..5 {
                    guest.room(2000);
                }
                guest.notify(RECEIVE);
                let filled = guest.filled().len();
                total += filled;
                if filled == 0 {
                    break;
                }
                while !guest.rooms.is_empty() && guest.rooms.len() < 5 {
                    guest.room(2000);
                }
            }
            assert!(total >= 500, "an interface keeps a thousand frames: {total}");
            let before = total;
            flood("flood", 3);
            while total < before + 3 {
                guest.room(2000);
                guest.turn();
                total += guest.filled().len();
            }
            assert_eq!(guest.rig.status.violations(), 0);
        })
        .join()
        .unwrap();
    }
}
