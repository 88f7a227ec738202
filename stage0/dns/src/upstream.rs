//! Asking somebody else. Each question goes out from a socket of its own, so from a port the kernel
//! picks at random, under an id of ours picked at random; what comes back counts only if it comes from
//! whom was asked, to that port, under that id, and repeats the question. Whatever else arrives is
//! passed over, and the wait goes on.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::message::{HEADER, Query};

/// How long one server has to answer.
const TRY: Duration = Duration::from_millis(1500);
/// How long all of it may take: less than the five seconds after which a client asks again.
const WHOLE: Duration = Duration::from_millis(4500);
/// How often each server is asked before that is enough.
const ROUNDS: usize = 2;
/// The longest datagram there is, in bytes.
const LONGEST: usize = 65_535;

/// By which way the asker came, and so how long an answer it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A datagram: an answer that was cut off is passed on, and the asker comes back by TCP.
    Datagram,
    /// A connection: an answer that was cut off is asked for by TCP.
    Stream,
}

/// Passes a question on to each of `servers` in turn; returns the answer, under the id of the asker.
/// One that only says that its server cannot or will not is kept for when no other says more; `None`
/// if nobody answers in time.
pub(crate) fn ask(query: &Query<'_>, servers: &[SocketAddr], way: Way) -> Option<Vec<u8>> {
    let whole = Instant::now() + WHOLE;
    let mut unhelpful = None;
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        let end = whole.min(Instant::now() + TRY);
        if Instant::now() >= whole {
            break;
        }
        // One that cannot be reached is like one that is silent: the next may do better.
        let Ok(answer) = ask_one(query, *server, way, end) else { continue };
        if matches!(answer[3] & 0x0f, 2 | 4 | 5) {
            unhelpful = Some(answer);
        } else {
            return Some(answer);
        }
    }
    unhelpful
}

fn ask_one(query: &Query<'_>, server: SocketAddr, way: Way, end: Instant) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let mut question = query.bytes().to_vec();
    question[..2].copy_from_slice(&id);
    let mut answer = by_datagram(query, &question, id, server, end)?;
    if way == Way::Stream && answer[2] & 0x02 != 0 {
        answer = by_stream(query, &question, id, server, end)?;
    }
    answer[..2].copy_from_slice(&query.bytes()[..2]);
    Ok(answer)
}

fn by_datagram(
    query: &Query<'_>,
    question: &[u8],
    id: [u8; 2],
    server: SocketAddr,
    end: Instant,
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?; // from now on the kernel drops what others send
    socket.send(question)?;
    let mut answer = vec![0; LONGEST];
    loop {
        socket.set_read_timeout(Some(left(end)?))?;
        let length = socket.recv(&mut answer)?;
        if query.fits(&answer[..length], id) {
            answer.truncate(length);
            answer.shrink_to_fit();
            return Ok(answer);
        }
    }
}

fn by_stream(
    query: &Query<'_>,
    question: &[u8],
    id: [u8; 2],
    server: SocketAddr,
    end: Instant,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(end)?)?;
    write_message(&mut stream, question, end)?;
    let answer = read_message(&mut stream, end)?;
    match query.fits(&answer, id) {
        true => Ok(answer),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")),
    }
}

/// Returns how long it is until `end`.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads a message behind its length (RFC 1035 §4.2.2). However slowly it comes, `end` is the end.
///
/// # Errors
///
/// `UnexpectedEof` at the end of the connection, `InvalidData` for one that is too short to be a
/// message, and those of the connection.
pub(crate) fn read_message(stream: &mut TcpStream, end: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    read_exact(stream, &mut length, end)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length < HEADER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    read_exact(stream, &mut message, end)?;
    Ok(message)
}

fn read_exact(stream: &mut TcpStream, into: &mut [u8], end: Instant) -> io::Result<()> {
    let mut at = 0;
    while at < into.len() {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut into[at..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => at += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a message behind its length.
///
/// # Errors
///
/// `InvalidInput` for one longer than its length can say, and those of the connection.
pub(crate) fn write_message(
    stream: &mut TcpStream,
    message: &[u8],
    end: Instant,
) -> io::Result<()> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // In one piece: some servers take the length alone for a whole message.
    let framed = [&length.to_be_bytes(), message].concat();
    let mut rest = &framed[..];
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
