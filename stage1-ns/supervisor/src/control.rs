//! The control socket: listening, and the connections that are open.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use pod_abi::control::Reply;
use pod_abi::layout;
use rustix::fs::{AtFlags, Mode, chmodat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::client::{Client, Waiting};
use crate::error::{During, Failure};

/// The most connections open at once; more wait in the kernel's queue.
const MAX_CLIENTS: usize = 64;

/// What the socket is called until it can be connected to.
const EARLY: &str = "control.sock.new";

/// The socket and its connections.
#[derive(Debug)]
pub(crate) struct Control {
    listener: OwnedFd,
    clients: BTreeMap<u32, Client>,
    next: u32,
}

impl Control {
    /// Listens in the run directory. The socket comes there by a rename, when it can be connected
    /// to: whoever waits for it need not try. One that is there is from a supervisor that was killed,
    /// for only the holder of the pod's lock comes here.
    pub(crate) fn bind(run: BorrowedFd<'_>) -> Result<Self, Failure> {
        let binding = || format!("cannot listen on `{}`", layout::CONTROL_SOCKET);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).during(binding)?;
        // By descriptor, because the path of a run directory may be longer than an address.
        let path = format!("/proc/self/fd/{}/{EARLY}", run.as_raw_fd());
        let address = SocketAddrUnix::new(path.as_str()).during(binding)?;
        match bind(&listener, &address) {
            Err(Errno::ADDRINUSE) => {
                let _ = unlinkat(run, EARLY, AtFlags::empty()); // else binding tells
                bind(&listener, &address).during(binding)?;
            }
            bound => bound.during(binding)?,
        }
        // Nobody can connect before `listen`.
        chmodat(run, EARLY, Mode::from_raw_mode(0o600), AtFlags::empty()).during(binding)?;
        listen(&listener, 16).during(binding)?;
        renameat(run, EARLY, run, layout::CONTROL_SOCKET).during(binding)?;
        Ok(Self { listener, clients: BTreeMap::new(), next: 0 })
    }

    /// Accepts one connection, if one waits and there is room, and returns its number. Only the
    /// supervisor's own user is let in.
    pub(crate) fn accept(&mut self) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = accept_with(&self.listener, flags).ok()?;
        let peer = getsockopt(&stream, PeerCredentials).ok()?;
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.clients.insert(number, Client::new(stream));
        Some(number)
    }

    /// Tells whether no more connections are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.clients.len() >= MAX_CLIENTS
    }

    /// Returns a connection.
    pub(crate) fn client(&mut self, number: u32) -> Option<&mut Client> {
        self.clients.get_mut(&number)
    }

    /// Returns a connection to look at.
    pub(crate) fn known(&self, number: u32) -> Option<&Client> {
        self.clients.get(&number)
    }

    /// Returns the connections that wait for `waiting`.
    pub(crate) fn waiting(&self, waiting: &Waiting) -> Vec<u32> {
        let waits = |client: &Client| client.waiting.as_ref() == Some(waiting);
        self.clients.iter().filter(|(_, client)| waits(client)).map(|(number, _)| *number).collect()
    }

    /// Closes all connections but these.
    pub(crate) fn close_all_but(&mut self, numbers: &[u32]) {
        self.clients.retain(|number, _| numbers.contains(number));
    }

    /// Tells whether anybody waits for `waiting`.
    pub(crate) fn is_awaited(&self, waiting: &Waiting) -> bool {
        self.clients.values().any(|client| client.waiting.as_ref() == Some(waiting))
    }

    /// Replies to every connection that waits for `waiting`, which then waits no more if the
    /// reply is the last. Returns those that were replied to.
    pub(crate) fn reply(&mut self, waiting: &Waiting, reply: &Reply) -> Vec<Replied> {
        let last = !matches!(reply, Reply::ExecStarted);
        let mut replied = Vec::new();
        for (number, client) in &mut self.clients {
            if client.waiting.as_ref() == Some(waiting) {
                if last {
                    client.waiting = None;
                }
                let over = client.reply(reply).is_err();
                replied.push(Replied { number: *number, over });
            }
        }
        replied
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, number: u32) -> Option<Client> {
        self.clients.remove(&number)
    }

    /// Closes all connections.
    pub(crate) fn close_all(&mut self) {
        self.clients.clear();
    }

    /// Returns the earliest moment at which a connection is to be closed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(Client::deadline).min()
    }

    /// Returns the connections whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u32> {
        let over = |client: &Client| client.deadline().is_some_and(|deadline| deadline <= now);
        self.clients.iter().filter(|(_, client)| over(client)).map(|(number, _)| *number).collect()
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// A connection that was replied to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replied {
    /// Its number.
    pub(crate) number: u32,
    /// Whether it could not be reached, so that it is to be closed.
    pub(crate) over: bool,
}

/// Takes the socket away.
pub(crate) fn remove_socket(run: BorrowedFd<'_>) {
    // It may not be there; what stays is swept with the run directory.
    let _ = unlinkat(run, layout::CONTROL_SOCKET, AtFlags::empty());
}
