//! Hearing from a new supervisor that its pod is ready.

use std::iter;
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Child;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod_sys::receive_datagram;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Context as _, Result};
use crate::pods::Pod;

/// What a supervisor says once its pod is ready (`sd_notify(3)`).
pub(crate) const READY: &str = "READY=1";

/// How many messages are taken at once: more than an honest supervisor has to say.
const AT_ONCE: usize = 64;

/// What waiting for a supervisor has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It has said what was waited for.
    Word,
    /// It has ended.
    End,
    /// Neither; this signal has come, and the supervisor goes on.
    Signal(u8),
}

/// Signals that end a wait rather than this process, as long as this lives.
#[derive(Debug)]
pub(crate) struct Interrupts {
    signals: SignalFd,
    before: SigSet,
}

impl Interrupts {
    /// Blocks them. To be called after the last process was started, which would inherit that.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn block() -> Result<Self> {
        let tell = || "cannot receive signals".to_owned();
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]
            .into_iter()
            .collect();
        let before = SigSet::thread_get_mask().context(tell)?;
        set.thread_block().context(tell)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&set, flags).context(tell)?, before })
    }

    /// Returns what is to be waited for.
    pub(crate) fn polled(&self) -> PollFd<'_> {
        PollFd::new(&self.signals, PollFlags::IN)
    }

    /// Returns the number of the next signal, if one has come.
    pub(crate) fn next(&self) -> Option<u8> {
        let info = self.signals.read_signal().ok()??;
        Some(u8::try_from(info.ssi_signo).unwrap_or(0))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask(); // it was one a moment ago
    }
}

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

    /// Waits until the supervisor has said `word`, `child` has ended without that, or the user has
    /// had enough. To be called after the last process was started, which would inherit that the
    /// user's signals are blocked.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn wait(&self, child: &Child, word: &str) -> Result<Heard> {
        let tell = || "cannot wait for the supervisor".to_owned();
        let pid = Pid::from_child(child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(tell)?;
        let interrupts = Interrupts::block()?;
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&pidfd, PollFlags::IN),
                interrupts.polled(),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(tell),
            }
            let ended = !fds[1].revents().is_empty();
            // Some at a time: one who talks without end must not keep the rest from being looked at.
            for message in iter::from_fn(|| self.receive()).take(AT_ONCE) {
                if message.split(|byte| *byte == b'\n').any(|line| line == word.as_bytes()) {
                    return Ok(Heard::Word);
                }
            }
            if ended {
                return Ok(Heard::End);
            }
            if let Some(signal) = interrupts.next() {
                return Ok(Heard::Signal(signal));
            }
        }
    }

    /// Takes one message; an empty one for what came from somebody else.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 4096];
        let got = receive_datagram(self.socket.as_fd(), &mut bytes).ok()?;
        let mine = got.uid == Some(rustix::process::geteuid().as_raw());
        Some(if mine { bytes[..got.length].to_vec() } else { Vec::new() })
    }
}
