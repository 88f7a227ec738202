//! One question over the pod's loopback: whether a port takes connections, or a page is served.
//!
//! A socket that never blocks, and one state after the other as far as it goes. 127.0.0.1 is asked
//! before ::1. What is read is the app's to write: the first bytes of it count, no more are kept.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, getpeername, recv, send,
    socket_with,
};

/// `HTTP/1.1 200`: as much of an answer as is looked at.
const HEAD: usize = 12;

/// Under which number which epoll tells of the socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post<'a> {
    pub(super) epoll: BorrowedFd<'a>,
    pub(super) data: u64,
}

#[derive(Debug)]
enum State {
    /// The next address is to be tried.
    Next,
    Connecting(OwnedFd),
    Sending(OwnedFd, usize),
    Receiving(OwnedFd, Vec<u8>),
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Still to be tried, the last first.
    addresses: Vec<SocketAddr>,
    /// What is sent; a connection alone is a yes if there is nothing.
    request: Option<Vec<u8>>,
    state: State,
}

impl Exchange {
    /// Asks whether `port` takes connections.
    pub(super) fn tcp(port: u16) -> Self {
        let addresses = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        let addresses = addresses.map(|address| SocketAddr::new(address, port)).to_vec();
        Self { addresses, request: None, state: State::Next }
    }

    /// Asks whether `GET path` is answered well.
    pub(super) fn http(port: u16, path: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: pod\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
        Self { request: Some(request.into_bytes()), ..Self::tcp(port) }
    }

    /// Ends it without an answer.
    pub(super) fn give_up(self, post: Post<'_>) {
        match &self.state {
            State::Next => {}
            State::Connecting(stream) | State::Sending(stream, _) | State::Receiving(stream, _) => {
                leave(stream, post, false);
            }
        }
    }

    /// Goes as far as it can without waiting; returns the answer, if it is known. The epoll of
    /// `post` tells when there is more to do.
    pub(super) fn advance(&mut self, post: Post<'_>) -> Option<bool> {
        loop {
            match std::mem::replace(&mut self.state, State::Next) {
                State::Next => {
                    let Some(address) = self.addresses.pop() else { return Some(false) };
                    // An address that cannot even be tried answers no.
                    if let Ok(stream) = begin(address, post) {
                        self.state = State::Connecting(stream);
                        return None;
                    }
                }
                State::Connecting(stream) => match (socket_error(&stream), getpeername(&stream)) {
                    (Ok(Ok(())), Ok(_)) if self.request.is_none() => {
                        return leave(&stream, post, true);
                    }
                    (Ok(Ok(())), Ok(_)) => self.state = State::Sending(stream, 0),
                    (Ok(Ok(())), Err(Errno::NOTCONN)) => {
                        self.state = State::Connecting(stream);
                        return None;
                    }
                    _ => drop(leave(&stream, post, false)),
                },
                State::Sending(stream, sent) => {
                    let request = self.request.as_deref().unwrap_or_default();
                    match send(&stream, &request[sent..], SendFlags::NOSIGNAL) {
                        Ok(count) if sent + count == request.len() => {
                            if watch(&stream, post, EventFlags::IN).is_err() {
                                return leave(&stream, post, false);
                            }
                            self.state = State::Receiving(stream, Vec::new());
                            return None;
                        }
                        Ok(count) => self.state = State::Sending(stream, sent + count),
                        Err(Errno::AGAIN | Errno::INTR) => {
                            self.state = State::Sending(stream, sent);
                            return None;
                        }
                        Err(_) => return leave(&stream, post, false),
                    }
                }
                State::Receiving(stream, mut head) => {
                    let mut bytes = [0; 4096];
                    match recv(&stream, &mut bytes[..], RecvFlags::empty()) {
                        Ok((0, _)) => return leave(&stream, post, false),
                        Ok((count, _)) => head.extend(bytes[..count].iter().take(HEAD)),
                        Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(_) => return leave(&stream, post, false),
                    }
                    if let Some(answer) = judge(&head) {
                        return leave(&stream, post, answer);
                    }
                    self.state = State::Receiving(stream, head);
                    return None;
                }
            }
        }
    }
}

fn begin(address: SocketAddr, post: Post<'_>) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&stream, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    epoll::add(post.epoll, &stream, EventData::new_u64(post.data), EventFlags::OUT)?;
    Ok(stream)
}

fn watch(stream: &OwnedFd, post: Post<'_>, flags: EventFlags) -> Result<(), Errno> {
    epoll::modify(post.epoll, stream.as_fd(), EventData::new_u64(post.data), flags)
}

/// Takes a socket out of the epoll by hand, for copies of it may live in children until they
/// execute; returns the answer.
fn leave(stream: &OwnedFd, post: Post<'_>, answer: bool) -> Option<bool> {
    let _ = epoll::delete(post.epoll, stream); // it is in there
    Some(answer)
}

/// Judges the beginning of what an HTTP server says; `None` until enough has come.
fn judge(head: &[u8]) -> Option<bool> {
    let head = head.get(..HEAD)?;
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| match rest {
        [b'0'..=b'9', b' ', status @ ..] => std::str::from_utf8(status).ok()?.parse::<u16>().ok(),
        _ => None,
    });
    Some(status.is_some_and(|status| (200..=399).contains(&status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_status_of_200_to_399_is_a_yes() {
        for (head, answer) in [
            (&b"HTTP/1.1 200 OK"[..], Some(true)),
            (b"HTTP/1.0 399", Some(true)),
            (b"HTTP/1.1 199 x", Some(false)),
            (b"HTTP/1.1 404", Some(false)),
            (b"HTTP/1.1 20", None),
            (b"", None),
            (b"SSH-2.0-OpenSSH", Some(false)),
            (b"HTTP/1.1 2\xff0", Some(false)),
            (b"HTTP/1.1 +20", Some(false)),
        ] {
            assert_eq!(judge(head), answer, "{head:?}");
        }
    }

    /// Asks, waiting as PID 1's loop does.
    fn ask(mut exchange: Exchange) -> bool {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let post = Post { epoll: epoll.as_fd(), data: 7 };
        loop {
            if let Some(answer) = exchange.advance(post) {
                return answer;
            }
            let mut events = Vec::with_capacity(1);
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        }
    }

    #[test]
    fn a_port_answers_by_taking_the_connection() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(ask(Exchange::tcp(four.local_addr().unwrap().port())));
        let port = four.local_addr().unwrap().port();
        drop(four);
        assert!(!ask(Exchange::tcp(port)));
    }

    #[test]
    fn a_server_answers_by_its_status() {
        for (says, answer) in
            [("HTTP/1.1 204 No\r\n\r\n", true), ("HTTP/1.1 500 No", false), ("", false)]
        {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = server.local_addr().unwrap().port();
            let serving = thread::spawn(move || {
                let (mut client, _) = server.accept().unwrap();
                let mut asked = [0; 4096];
                let count = client.read(&mut asked).unwrap();
                client.write_all(says.as_bytes()).unwrap();
                String::from_utf8_lossy(&asked[..count]).into_owned()
            });
            assert_eq!(ask(Exchange::http(port, "/health")), answer, "{says}");
            assert!(serving.join().unwrap().starts_with("GET /health HTTP/1.1\r\n"));
        }
    }
}
