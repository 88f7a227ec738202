//! Whether a stream that was asked for is there: connecting takes as long as the host takes.

use std::os::fd::AsFd;

use rustix::net::{getpeername, sockopt};

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The host has not answered yet.
    Asking,
    /// There is somebody at the other end, or was.
    There,
    /// The host has refused, or is gone.
    Refused,
}

/// Looks how far a socket has come; takes its error.
pub(crate) fn reach(socket: impl AsFd) -> Reach {
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) if getpeername(&socket).is_ok() => Reach::There,
        Ok(Ok(())) => Reach::Asking,
        _ => Reach::Refused,
    }
}
