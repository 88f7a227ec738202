//! Reaches for the host of a virtual machine by `AF_VSOCK` (`vsock(7)`), and lets it reach in.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, VsockAddr, accept, bind, connect, listen,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::close;

/// Whom to call: the hypervisor, oneself, the host, and oneself by the number guests have here.
const WHOM: [u32; 4] = [0, 1, 2, 3];
/// Where: all ports that mean something to anybody, and some that mean nothing.
const PORTS: [u32; 12] = [0, 1, 2, 3, 4, 22, 1024, 1025, 2375, 8080, 10_000, 1 << 31];
/// Where nobody has been asked to connect to.
const OWN: u32 = 7777;
/// Seconds that anything is waited for.
const PATIENCE: i64 = 2;

/// Calls everybody at every port, and says how each was answered, as `WHOM:PORT`; then listens, as
/// `listening`. An answer is an errno, or `connected` with what was heard.
#[must_use]
pub fn call_everybody() -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for whom in WHOM {
        for port in PORTS {
            let answer = call(whom, port).unwrap_or_else(|errno| format!("{errno:?}"));
            answers.insert(format!("{whom}:{port}"), answer);
        }
    }
    let answer = hear().unwrap_or_else(|errno| format!("{errno:?}"));
    answers.insert("listening".to_owned(), answer);
    answers
}

fn stream() -> Result<OwnedFd, Errno> {
    let stream = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::seconds(PATIENCE);
    setsockopt(&stream, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&stream, sockopt::SendTimeout, &patience)?;
    Ok(stream)
}

fn call(whom: u32, port: u32) -> Result<String, Errno> {
    let stream = stream()?;
    connect(stream.as_raw_fd(), &VsockAddr::new(whom, port))?;
    // As long as the name of a stream, and then more than any request would be.
    let sent = send(stream.as_raw_fd(), &[0; 4096], MsgFlags::MSG_NOSIGNAL);
    let mut heard = [0; 64];
    Ok(match recv(stream.as_raw_fd(), &mut heard, MsgFlags::empty()) {
        Ok(0) => format!("connected: an end, sent {sent:?}"),
        Ok(length) => format!("connected: heard {}", String::from_utf8_lossy(&heard[..length])),
        Err(errno) => format!("connected: {errno:?}, sent {sent:?}"),
    })
}

/// Listens to whoever comes.
fn hear() -> Result<String, Errno> {
    let stream = stream()?;
    bind(stream.as_raw_fd(), &VsockAddr::new(u32::MAX, OWN))?;
    listen(&stream, Backlog::new(8)?)?;
    let itself = call(WHOM[3], OWN);
    // The time to receive is the time to accept, too.
    match accept(stream.as_raw_fd()) {
        Ok(connection) => {
            close(connection)?;
            Ok(format!("somebody, itself: {itself:?}"))
        }
        Err(Errno::EAGAIN) => Ok("nobody".to_owned()),
        Err(errno) => Err(errno),
    }
}
