//! Readiness, told to whoever set `NOTIFY_SOCKET` (`sd_notify(3)`).
//!
//! Best effort by nature: a service manager that does not listen must not harm the pod, so
//! nothing here fails and nothing waits.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use pod_abi::stage;

/// Where readiness goes, if anywhere.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Reads `NOTIFY_SOCKET`; nothing is told to anybody if it is not set or of no use.
    pub(crate) fn from_environment() -> Self {
        Self { socket: env::var_os("NOTIFY_SOCKET").and_then(|path| open(&path)) }
    }

    /// Tells that every app is ready.
    pub(crate) fn ready(&self, apps: usize) {
        self.send(&format!("READY=1\nSTATUS={apps} apps run"));
    }

    /// Tells that the apps are held until a client attaches.
    pub(crate) fn held(&self) {
        self.send(stage::HELD);
    }

    /// Tells that the pod is ending.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=apps are being stopped");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // Whoever listened may have gone; the pod goes on.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
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
