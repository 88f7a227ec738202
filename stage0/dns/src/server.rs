//! The server: one thread that waits and answers for pods at once, and a thread for each question
//! that is passed on and for each connection, as many as [`crate::flight`] lets.
//!
//! It ends when nothing was asked for a while and nothing is under way. That loses nobody's question:
//! what arrives in between stays with the socket, which is a service manager's, who starts it again.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use crate::answer::{Directory, Verdict, answer};
use crate::flight::{Flight, Limits, Seat};
use crate::message::{Code, Query};
use crate::resolvers::Resolvers;
use crate::upstream::{self, Way, read_message, write_message};

/// The longest question that is read from a datagram, in bytes. A name has at most 255; the rest is
/// options of EDNS.
const LONGEST_QUESTION: usize = 4096;
/// How many questions may be passed on at once: each costs a thread and, at worst, 64 KiB.
const FORWARDED: Limits = Limits { all: 128, each: 32 };
/// How many connections may be open at once.
const CONNECTIONS: Limits = Limits { all: 64, each: 8 };
/// How long a connection may be silent, or take for one question.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many questions one connection may ask, so that none lives for ever.
const QUESTIONS: usize = 100;
/// How many datagrams are taken from one socket before the others have their turn.
const BURST: usize = 64;
/// The stack of a thread, in bytes: nothing here is deep, and buffers are not on it.
const STACK: usize = 256 * 1024;
/// How long to wait when the system has no descriptors or memory for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Where questions come from.
#[derive(Debug)]
pub enum Listener {
    /// Datagrams.
    Udp(Arc<UdpSocket>),
    /// Connections.
    Tcp(TcpListener),
}

impl Listener {
    /// Takes a socket over that somebody else has bound.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is neither for datagrams nor for connections of the Internet, and those of
    /// the system.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let kind = socket_type(&socket)?;
        if kind == SocketType::DGRAM {
            let socket = UdpSocket::from(socket);
            socket.local_addr()?;
            socket.set_nonblocking(true)?;
            Ok(Self::Udp(Arc::new(socket)))
        } else if kind == SocketType::STREAM && socket_acceptconn(&socket)? {
            let listener = TcpListener::from(socket);
            listener.local_addr()?;
            listener.set_nonblocking(true)?;
            Ok(Self::Tcp(listener))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket for questions"))
        }
    }

    /// Listens at `address`, for datagrams and for connections. Port 0 is one that is free for both.
    ///
    /// # Errors
    ///
    /// Those of the system: the address is in use, or not this host's.
    pub fn bind(address: SocketAddr) -> io::Result<[Self; 2]> {
        let tcp = TcpListener::bind(address)?;
        let udp = UdpSocket::bind(tcp.local_addr()?)?;
        Ok([Self::adopt(udp.into())?, Self::adopt(tcp.into())?])
    }

    /// Returns where it listens.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(listener) => listener.local_addr(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A server, ready to serve.
#[expect(missing_debug_implementations, reason = "who is called what is anybody's type")]
pub struct Server {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

/// What all threads look at.
struct Shared {
    directory: Box<dyn Directory>,
    resolvers: Resolvers,
    /// Where it listens.
    here: Vec<SocketAddr>,
    forwarded: Arc<Flight>,
    connections: Arc<Flight>,
}

impl Server {
    /// Makes a server.
    ///
    /// # Errors
    ///
    /// Those of the system, for a socket that cannot tell its address.
    pub fn new(
        listeners: Vec<Listener>,
        directory: Box<dyn Directory>,
        resolvers: Resolvers,
    ) -> io::Result<Self> {
        let here = listeners.iter().map(Listener::address).collect::<io::Result<_>>()?;
        let shared = Shared {
            directory,
            resolvers,
            here,
            forwarded: Flight::new(FORWARDED),
            connections: Flight::new(CONNECTIONS),
        };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// Serves until nothing was asked for `idle`; for ever without.
    ///
    /// # Errors
    ///
    /// Those of the system, when a socket cannot be waited for or read any more.
    pub fn serve(&self, idle: Option<Duration>) -> io::Result<()> {
        let timeout = idle.map(|idle| Timespec {
            tv_sec: idle.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: idle.subsec_nanos().into(),
        });
        loop {
            let watched = self.listeners.iter().map(|one| PollFd::new(one, PollFlags::IN));
            let mut watched: Vec<PollFd<'_>> = watched.collect();
            match poll(&mut watched, timeout.as_ref()) {
                Ok(0) if self.shared.is_idle() => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (listener, state) in self.listeners.iter().zip(&watched) {
                if state.revents().is_empty() {
                    continue;
                }
                match listener {
                    Listener::Udp(socket) => self.take_datagrams(socket)?,
                    Listener::Tcp(listener) => self.take_connections(listener)?,
                }
            }
        }
    }

    fn take_datagrams(&self, socket: &Arc<UdpSocket>) -> io::Result<()> {
        let mut buffer = [0; LONGEST_QUESTION];
        for _ in 0..BURST {
            match socket.recv_from(&mut buffer) {
                Ok((length, asker)) => self.take_datagram(socket, &buffer[..length], asker),
                Err(error) if is_over(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_datagram(&self, socket: &Arc<UdpSocket>, message: &[u8], asker: SocketAddr) {
        // An answer that cannot be sent is like one that is lost: who wants it asks again.
        let say = move |socket: &UdpSocket, reply: &[u8]| drop(socket.send_to(reply, asker));
        let (seat, servers) = match self.shared.look_at(message, asker.ip()) {
            Step::Silence => return,
            Step::Say(reply) => {
                let reply = match Query::parse(message) {
                    Ok(query) => query.truncated(reply),
                    Err(_) => reply, // a header
                };
                return say(socket, &reply);
            }
            Step::Ask(seat, servers) => (seat, servers),
        };
        let (theirs, question) = (Arc::clone(socket), message.to_vec());
        let pass_on = move || {
            let Ok(query) = Query::parse(&question) else { return };
            let answer = upstream::ask(&query, &servers, Way::Datagram);
            drop(seat); // first: who hears the answer may ask the same again at once
            let answer = answer.unwrap_or_else(|| query.reply(Code::Failed));
            say(&theirs, &query.truncated(answer));
        };
        // Without a thread there is no answer, and the asker asks again.
        let _ = thread::Builder::new().stack_size(STACK).spawn(pass_on);
    }

    fn take_connections(&self, listener: &TcpListener) -> io::Result<()> {
        for _ in 0..BURST {
            match listener.accept() {
                Ok((stream, asker)) => self.take_connection(stream, asker.ip()),
                Err(error) if is_over(&error) => return Ok(()),
                Err(error) if is_scarce(&error) => {
                    thread::sleep(BREATH);
                    return Ok(());
                }
                // Of that connection, not of the listener (accept(2)).
                Err(_) if socket_acceptconn(listener)? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_connection(&self, stream: TcpStream, asker: IpAddr) {
        let Some(seat) = self.shared.connections.board(asker, &[]) else { return };
        let shared = Arc::clone(&self.shared);
        let converse = move || {
            let _seat = seat;
            // However it ends, the asker sees that it has.
            let _ = shared.converse(stream, asker);
        };
        let _ = thread::Builder::new().stack_size(STACK).spawn(converse); // it sees the end
    }
}

/// What is done about one message.
enum Step {
    Silence,
    Say(Vec<u8>),
    Ask(Seat, Vec<SocketAddr>),
}

impl Shared {
    fn is_idle(&self) -> bool {
        self.forwarded.is_empty() && self.connections.is_empty()
    }

    /// Decides what to do about a message.
    fn look_at(&self, message: &[u8], asker: IpAddr) -> Step {
        let failed =
            |code| Query::parse(message).map_or(Step::Silence, |q| Step::Say(q.reply(code)));
        let Ok(named) = self.directory.named() else { return failed(Code::Failed) };
        let here: Vec<IpAddr> = self.here.iter().map(SocketAddr::ip).collect();
        match answer(message, asker, &here, &named) {
            Verdict::Silence => return Step::Silence,
            Verdict::Reply(reply) => return Step::Say(reply),
            Verdict::Forward => {}
        }
        let Ok(query) = Query::parse(message) else { return Step::Silence };
        let servers = self.resolvers.current(&self.here);
        // One we ask asks us what we are asking: it would go round for ever. On loopback it may be
        // another client as well, and that asks again; a refusal would be its last word.
        let round = servers.iter().any(|server| server.ip() == asker.to_canonical())
            && self.forwarded.carries(query.question());
        if round {
            return Step::Silence;
        }
        match self.forwarded.board(asker, query.question()) {
            Some(seat) if !servers.is_empty() => Step::Ask(seat, servers),
            _ => failed(Code::Failed),
        }
    }

    /// Answers the questions of one connection, one after another.
    fn converse(&self, mut stream: TcpStream, asker: IpAddr) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        for _ in 0..QUESTIONS {
            let message = read_message(&mut stream, Instant::now() + PATIENCE)?;
            let reply = match self.look_at(&message, asker) {
                Step::Silence => return Ok(()),
                Step::Say(reply) => reply,
                Step::Ask(_seat, servers) => {
                    let Ok(query) = Query::parse(&message) else { return Ok(()) };
                    let answer = upstream::ask(&query, &servers, Way::Stream);
                    answer.unwrap_or_else(|| query.reply(Code::Failed))
                }
            };
            write_message(&mut stream, &reply, Instant::now() + PATIENCE)?;
        }
        Ok(())
    }
}

/// Tells whether there is only nothing more to take now.
fn is_over(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionRefused)
}

/// Tells whether the system has no room for another connection now.
fn is_scarce(error: &io::Error) -> bool {
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| scarce.contains(&errno))
}
