//! As much HTTP/1.1 as a client of registries speaks.
//!
//! A request is looked at with `MSG_PEEK` and taken out of the socket only when it is to be
//! answered: closing a socket that holds unread bytes is how `std` can send a reset.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::state::{Request, State};

/// More than any client of ours sends.
const MAX_HEAD: usize = 32 << 10;

/// How often a quiet connection looks whether the registry is still there.
const TICK: Duration = Duration::from_millis(20);

/// A request that still lies in the socket.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    head: usize,
    body: usize,
}

/// Waits for a request; none if the client or the registry is gone.
pub(crate) fn peek(stream: &TcpStream, state: &State) -> io::Result<Option<Waiting>> {
    stream.set_read_timeout(Some(TICK))?;
    let mut buffer = vec![0; MAX_HEAD];
    loop {
        if state.is_stopped() {
            return Ok(None);
        }
        match stream.peek(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(length) => {
                if let Some(waiting) = parse(&buffer[..length]) {
                    return Ok(Some(waiting));
                }
                std::thread::yield_now();
            }
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes `waiting` out of the socket.
pub(crate) fn take(stream: &mut TcpStream, waiting: &mut Waiting) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut bytes = vec![0; waiting.head + waiting.body];
    stream.read_exact(&mut bytes)?;
    waiting.request.bytes = bytes.split_off(waiting.head);
    waiting.request.body = String::from_utf8_lossy(&waiting.request.bytes).into_owned();
    Ok(())
}

/// Writes status line and headers.
pub(crate) fn write_head(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Said\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())
}

fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn parse(bytes: &[u8]) -> Option<Waiting> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |name: &str| {
        headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
    };
    let body = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let request = Request {
        method,
        path,
        authorization: header("authorization"),
        range: header("range"),
        accept: header("accept"),
        body: String::new(),
        bytes: Vec::new(),
        content_type: header("content-type"),
        status: 0,
        sent: 0,
    };
    Some(Waiting { request, head: end + 4, body })
}
