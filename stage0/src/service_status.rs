//! What a command says to the service manager whose unit it is the main process of (`sd_notify(3)`),
//! as long as there is no supervisor that does.
//!
//! Nothing here fails and nothing waits: a manager that does not listen harms nobody.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::supervision;

/// A service manager that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Listener {
    /// Returns the manager of the unit this process is the main process of, if it is one's.
    pub(crate) fn of_this_process() -> Option<Self> {
        supervision::service()?;
        let address = address(&env::var_os("NOTIFY_SOCKET")?)?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, address })
    }

    /// Tells it `status`, and with it the assignments `more`.
    pub(crate) fn tell(&self, status: &str, more: &[&str]) {
        let status = status.replace(['\n', '\r'], " ");
        let text = [&[format!("STATUS={status}").as_str()], more].concat().join("\n");
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address); // see above
    }
}

fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(path).ok(),
    }
}
