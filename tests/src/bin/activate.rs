//! Hands sockets to a program as a service manager does (`sd_listen_fds(3)`), for hosts without one.
//!
//! ```text
//! activate [NAME=]KIND:PATH… -- PROGRAM …    opens each at descriptors from 3 on, and becomes PROGRAM
//! ```
//!
//! | kind | what PATH is |
//! |---|---|
//! | `unix` | where a socket is bound and listens |
//! | `tcp` | an address, likewise |
//! | `nonblocking` | as `unix`, and the socket does not block |
//! | `file` | what is opened as it is: a FIFO, a directory, … |
//!
//! A process of its own, for `LISTEN_PID` is that of the program.

#![forbid(unsafe_code)]

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, id};

use nix::unistd::close;
use rustix::io::{FdFlags, fcntl_setfd};

/// The number of the first socket.
const FIRST: i32 = 3;
/// More than any test hands over.
const MOST: i32 = 256;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let at = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let error = match (&args[..at], &args[at..]) {
        (sockets, [_, program, rest @ ..]) => activate(sockets, program, rest),
        _ => io::Error::other("usage: activate [NAME=]KIND:PATH… -- PROGRAM [ARG…]"),
    };
    let _ = writeln!(io::stderr(), "activate: {error}");
    ExitCode::FAILURE
}

/// Becomes the program; returns why not.
fn activate(sockets: &[String], program: &str, args: &[String]) -> io::Error {
    // What a caller has left open would have the numbers of sockets.
    for number in FIRST..FIRST + MOST {
        let _ = close(number); // nearly all are closed already
    }
    let (mut names, mut open) = (Vec::new(), Vec::new());
    for (socket, number) in sockets.iter().zip(FIRST..) {
        let (name, socket) = socket.split_once('=').unwrap_or(("", socket));
        match listen(socket) {
            Ok(fd) if fd.as_raw_fd() == number => open.push(fd),
            Ok(fd) => return io::Error::other(format!("{fd:?} is not {number}")),
            Err(error) => return error,
        }
        names.push(name);
    }
    let mut command = Command::new(program);
    command.args(args).env("LISTEN_PID", id().to_string());
    command.env("LISTEN_FDS", open.len().to_string());
    if names.iter().any(|name| !name.is_empty()) {
        command.env("LISTEN_FDNAMES", names.join(":"));
    }
    command.exec()
}

fn listen(socket: &str) -> io::Result<OwnedFd> {
    let (kind, path) = socket.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let fd: OwnedFd = match kind {
        "unix" => UnixListener::bind(path)?.into(),
        "nonblocking" => {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            listener.into()
        }
        "tcp" => TcpListener::bind(path)?.into(),
        "file" => {
            const O_NONBLOCK: i32 = 0o4000;
            OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?.into()
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    fcntl_setfd(&fd, FdFlags::empty())?;
    Ok(fd)
}
