//! The socket: batches of requests out, acknowledgements and answers back.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::namespace;

/// The most bytes the kernel puts into one datagram of a listing (`NLMSG_GOODSIZE` and what a reader
/// of 32 KiB is given since Linux 4.9), and twice that.
const LARGEST_ANSWER: usize = 64 * 1024;

/// How long an answer may take. The kernel answers before `send` returns, so this only ends a wait
/// that would never end.
const PATIENCE_SECONDS: i64 = 10;

/// What the kernel is asked to do, and how it is told when it will not.
#[derive(Clone, Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    /// "add the link `eth0`": what stands behind "cannot".
    deed: String,
    call: &'static str,
    /// What to do about an errno, where more is known than in general.
    hints: &'static [(Errno, &'static str)],
}

impl Request {
    pub(crate) fn new(
        message: RouteNetlinkMessage,
        call: &'static str,
        deed: impl Into<String>,
    ) -> Self {
        Self { message, flags: NLM_F_ACK, deed: deed.into(), call, hints: &[] }
    }

    /// It must not be there yet.
    pub(crate) fn creating(mut self) -> Self {
        self.flags |= NLM_F_CREATE | NLM_F_EXCL;
        self
    }

    /// Others like it may be there.
    pub(crate) fn adding(mut self) -> Self {
        self.flags |= NLM_F_CREATE | NLM_F_APPEND;
        self
    }

    /// Whatever is in its place goes.
    pub(crate) fn replacing(mut self) -> Self {
        self.flags |= NLM_F_CREATE | NLM_F_REPLACE;
        self
    }

    /// All there are, instead of one.
    pub(crate) fn listing(mut self) -> Self {
        self.flags = NLM_F_DUMP;
        self
    }

    pub(crate) fn hinting(mut self, hints: &'static [(Errno, &'static str)]) -> Self {
        self.hints = hints;
        self
    }

    fn refused(&self, errno: Errno) -> Error {
        let special = self.hints.iter().find(|(known, _)| *known == errno);
        let hint = special.map_or_else(|| hint_of(errno), |(_, hint)| Some(*hint));
        let message = format!("cannot {}, {}", self.deed, self.call);
        let error = Error::new(ErrorKind::Kernel, message).because(errno);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What helps against an errno whatever was asked.
fn hint_of(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM | Errno::EACCES => Some("it takes CAP_NET_ADMIN: run as root"),
        Errno::EOPNOTSUPP => Some("the running kernel lacks it: is its module installed?"),
        Errno::ENODEV => Some("the link has gone; start the pod again"),
        Errno::ENOBUFS | Errno::ENOMEM => Some("the kernel is out of memory for networks"),
        _ => None,
    }
}

/// A socket in one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    exchanges: u32,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Kernel`].
    pub fn open() -> Result<Self> {
        Ok(Self { fd: open(SockProtocol::NetlinkRoute)?, sequence: 0, exchanges: 0 })
    }

    /// Opens a socket in another namespace; the calling thread stays where it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Namespace`], [`ErrorKind::Kernel`].
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self> {
        namespace::within(netns, Self::open)
    }

    /// Returns how many times the kernel was asked, a batch counting once.
    #[must_use]
    pub fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// Has the kernel perform all requests, in order, and returns the answers of those that ask for
    /// something.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Kernel`] for the first request that was refused. The kernel goes on behind it:
    /// what follows in the batch may have been done, and undoing is up to the caller.
    pub fn perform(&mut self, batch: &[Request]) -> Result<Vec<RouteNetlinkMessage>> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in batch {
            self.sequence += 1;
            append(&mut bytes, request, self.sequence);
        }
        self.exchanges += 1;
        let deed = || batch.first().map_or_else(String::new, |request| request.deed.clone());
        transmit(&self.fd, &bytes, deed)?;
        self.collect(batch, first)
    }

    fn collect(&self, batch: &[Request], first: u32) -> Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        let mut refusal = None;
        let mut awaited = batch.len();
        let mut buffer = vec![0; LARGEST_ANSWER];
        while awaited > 0 {
            let deed = || batch[batch.len() - awaited].deed.clone();
            let received = receive(&self.fd, &mut buffer, deed)?;
            for message in messages(received) {
                let message = message?;
                let place = message.header.sequence_number.wrapping_sub(first) as usize;
                let Some(request) = batch.get(place) else { continue };
                match message.payload {
                    NetlinkPayload::Error(error) => {
                        awaited -= 1;
                        let errno = error.code.map(|code| Errno::from_raw(code.get().abs()));
                        // The first to be refused explains those behind it.
                        refusal = refusal.or_else(|| errno.map(|errno| request.refused(errno)));
                    }
                    NetlinkPayload::Done(_) => awaited -= 1,
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
        refusal.map_or(Ok(answers), Err)
    }
}

fn open(protocol: SockProtocol) -> Result<OwnedFd> {
    let told = || "cannot open a netlink socket".to_owned();
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
        .context(ErrorKind::Kernel, told)?;
    let patience = TimeVal::seconds(PATIENCE_SECONDS);
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience).context(ErrorKind::Kernel, told)?;
    Ok(fd)
}

/// Writes a request behind those that are there.
fn append(bytes: &mut Vec<u8>, request: &Request, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | request.flags;
    header.sequence_number = sequence;
    let payload = NetlinkPayload::InnerMessage(request.message.clone());
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let at = bytes.len();
    bytes.resize(at + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[at..]);
}

fn transmit(fd: &OwnedFd, bytes: &[u8], deed: impl Fn() -> String) -> Result<()> {
    let told = || format!("cannot ask the kernel to {}, send(netlink)", deed());
    let sent = send(fd.as_raw_fd(), bytes, MsgFlags::empty()).context(ErrorKind::Kernel, told)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero)).context(ErrorKind::Kernel, told)
    }
}

fn receive<'a>(fd: &OwnedFd, buffer: &'a mut [u8], deed: impl Fn() -> String) -> Result<&'a [u8]> {
    let told = || format!("cannot hear whether the kernel could {}, recv(netlink)", deed());
    let length =
        recv(fd.as_raw_fd(), buffer, MsgFlags::empty()).context(ErrorKind::Kernel, told)?;
    Ok(&buffer[..length])
}

/// The messages of one datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>>> {
    std::iter::from_fn(move || {
        let length = bytes.get(..4)?;
        let length = u32::from_ne_bytes(length.try_into().ok()?) as usize;
        let whole = bytes.get(..length).filter(|whole| whole.len() >= 16)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(whole).map_err(|error| {
            Error::new(ErrorKind::Kernel, format!("cannot read an answer of the kernel: {error}"))
        }))
    })
}
/// Sends one request of another netlink family, from the calling thread's namespace, and returns
/// what the kernel says to it: nothing for "done", an errno for a refusal.
///
/// # Errors
///
/// [`ErrorKind::Kernel`] if it cannot be asked.
pub fn exchange_raw(protocol: SockProtocol, request: &[u8], deed: &str) -> Result<Option<Errno>> {
    let fd = open(protocol)?;
    transmit(&fd, request, || deed.to_owned())?;
    let mut buffer = vec![0; LARGEST_ANSWER];
    loop {
        let mut rest = receive(&fd, &mut buffer, || deed.to_owned())?;
        while let Some(length) = rest.get(..4) {
            let length = u32::from_ne_bytes(length.try_into().unwrap_or_default()) as usize;
            let Some(message) = rest.get(..length).filter(|whole| whole.len() >= 16) else { break };
            if message[4..6] == 2_u16.to_ne_bytes() {
                let code = message.get(16..20).and_then(|code| code.try_into().ok());
                let code = i32::from_ne_bytes(code.unwrap_or_default());
                return Ok((code != 0).then(|| Errno::from_raw(code.abs())));
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
