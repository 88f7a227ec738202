//! Hearing from a new supervisor that its pod is ready.

use std::io;
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Child;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Context as _, Result};
use crate::pods::Pod;

/// What a supervisor says once its pod is ready (`sd_notify(3)`).
pub(crate) const READY: &str = "READY=1";

/// Where a new supervisor says that its pod is ready (`sd_notify(3)`).
///
/// An abstract socket: nothing of it can be left behind. Only words of our own user count.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    /// What `NOTIFY_SOCKET` is to be.
    pub(crate) name: String,
}

impl NotifySocket {
    /// Makes the socket of one start of `pod`.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn bind(pod: &Pod) -> Result<Self> {
        let tell = || "cannot make a socket for readiness".to_owned();
        let mut secret = [0; 8];
        getrandom(&mut secret, GetRandomFlags::empty()).context(tell)?;
        let name = format!("pod-notify/{}/{:016x}", pod.id, u64::from_ne_bytes(secret));
        let address = SocketAddr::from_abstract_name(&name).context(tell)?;
        let socket = UnixDatagram::bind_addr(&address).context(tell)?;
        sockopt::set_socket_passcred(&socket, true).context(tell)?;
        socket.set_nonblocking(true).context(tell)?;
        Ok(Self { socket, name: format!("@{name}") })
    }

    /// Waits until the supervisor has said `word` (`true`), or `child` has ended without that.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn wait(&self, child: &Child, word: &str) -> Result<bool> {
        let tell = || "cannot wait for the supervisor".to_owned();
        let pid = Pid::from_child(child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(tell)?;
        loop {
            let mut fds =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(tell),
            }
            let ended = !fds[1].revents().is_empty();
            while let Some(message) = self.receive() {
                if message.split(|byte| *byte == b'\n').any(|line| line == word.as_bytes()) {
                    return Ok(true);
                }
            }
            if ended {
                return Ok(false);
            }
        }
    }

    /// Takes one message; an empty one for what came from somebody else.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let count = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::empty()).ok()?.bytes;
        let me = rustix::process::geteuid();
        let mine = control.drain().any(
            |message| matches!(message, RecvAncillaryMessage::ScmCredentials(who) if who.uid == me),
        );
        Some(if mine { bytes[..count].to_vec() } else { Vec::new() })
    }
}
