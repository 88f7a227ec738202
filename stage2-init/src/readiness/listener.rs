//! The socket by which an app speaks of itself (`sd_notify(3)`).
//!
//! An abstract address in the pod's network namespace, so that no tree needs to hold a file for
//! it. What comes is anybody's who lives in the pod: all of it is bounded, and descriptors that come
//! along are closed, which is also the answer one waits for who asks whether he was heard
//! (`BARRIER=1`).

use std::fs;
use std::io;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_sys::receive_datagram;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

/// The longest message that is understood, in bytes: systemd's figure.
const MAX_MESSAGE: usize = 4096;
/// How many messages are taken at once, so that one who never ceases leaves time for the others.
const AT_ONCE: usize = 32;

/// An app's socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    address: String,
}

impl Listener {
    /// Makes the socket, under a name nobody can have taken before.
    ///
    /// # Errors
    ///
    /// Those of making and binding it, and of reading the kernel's random numbers.
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("pod-{}", fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        Ok(Self { socket, address: format!("@{name}") })
    }

    /// Returns what `NOTIFY_SOCKET` is to be.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Takes what was said, in order; some of it if there is much.
    pub(super) fn hear(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        iter::from_fn(|| self.receive()).take(AT_ONCE)
    }

    /// Takes one message; it is empty if it is not from this pod, or too long.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; MAX_MESSAGE];
        let got = receive_datagram(self.socket.as_fd(), &mut bytes).ok()?;
        // In a pod that shares the host's network anybody on the host can reach this address; a
        // process that PID 1 cannot see has no number here.
        let heard = got.pid.is_some() && got.whole;
        Some(if heard { bytes[..got.length].to_vec() } else { Vec::new() })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn heard(listener: &Listener) -> Vec<u8> {
        listener.hear().flatten().collect()
    }

    #[test]
    fn what_is_said_is_heard_once() {
        let listener = Listener::new().unwrap();
        let name = listener.address().strip_prefix('@').unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let app = UnixDatagram::unbound().unwrap();
        assert_eq!(heard(&listener), b"");
        app.send_to_addr(b"READY=1", &address).unwrap();
        assert_eq!(heard(&listener), b"READY=1");
        let long = [&b"READY=1\n"[..], &vec![b'x'; MAX_MESSAGE]].concat();
        app.send_to_addr(&long, &address).unwrap();
        assert_eq!(heard(&listener), b"");
    }

    #[test]
    fn a_sender_out_of_sight_is_not_heard() {
        let listener = Listener::new().unwrap();
        let name = listener.address().strip_prefix('@').unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let stranger = UnixDatagram::unbound().unwrap();
        // To the kernel one who was not asked who he is has the number 0, too.
        set_socket_passcred(&listener.socket, false).unwrap();
        stranger.send_to_addr(b"READY=1", &address).unwrap();
        set_socket_passcred(&listener.socket, true).unwrap();
        assert_eq!(heard(&listener), b"");
    }
}
