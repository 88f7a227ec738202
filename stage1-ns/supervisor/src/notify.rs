//! The socket of whoever set `NOTIFY_SOCKET` (`sd_notify(3)`).
//!
//! Best effort by nature: a service manager that does not listen must not harm the pod, so
//! nothing here fails and nothing waits.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::io::Errno;

/// Where words go, if anywhere.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Reads `NOTIFY_SOCKET`; nothing is told to anybody if it is not set or of no use.
    pub(crate) fn from_environment() -> Self {
        Self { socket: env::var_os("NOTIFY_SOCKET").and_then(|path| open(&path)) }
    }

    /// Tells whether anybody listens, as far as is known.
    pub(crate) fn has_listener(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends a message; `false` if it was not taken and is to be sent again.
    pub(crate) fn send(&mut self, text: &str) -> bool {
        let Some((socket, address)) = &self.socket else { return true };
        let Err(error) = socket.send_to_addr(text.as_bytes(), address) else { return true };
        // A command line that has heard what it waited for has gone, and its address with it. One in
        // the file system is a service manager's, who comes back.
        if address.as_pathname().is_none()
            && Errno::from_io_error(&error) == Some(Errno::CONNREFUSED)
        {
            self.socket = None;
        }
        false
    }
}

fn open(path: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(path),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}
