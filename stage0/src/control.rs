//! A client of a pod's supervisor ([`pod_abi::control`]).

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use pod_abi::control::{DEADLINE_MS, Hello, Reply, Request};
use pod_abi::credential::MAX_ADDED_CREDENTIALS;
use pod_abi::frame::{self, Decoder};
use pod_abi::{PodId, layout, version};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{CommandError, Context as _, Result};
use crate::rundir;

/// The most descriptors of one request: the directory of layers, and credentials.
const MAX_DESCRIPTORS: usize = 1 + MAX_ADDED_CREDENTIALS;

/// A connection to a supervisor.
#[derive(Debug)]
pub(crate) struct Connection {
    id: PodId,
    stream: UnixStream,
    decoder: Decoder,
}

impl Connection {
    /// Connects through the run directory of pod `id` and says hello.
    ///
    /// # Errors
    ///
    /// `pod.unreachable` if no supervisor answers.
    fn open(run: BorrowedFd<'_>, id: &PodId) -> Result<Self> {
        let unreachable = |error: &io::Error| {
            CommandError::new(
                "pod.unreachable",
                format!("the supervisor of pod `{id}` does not answer"),
            )
            .because(error)
            .hint("it may just be starting or ending; `pod ps -a` tells")
        };
        // The path of a socket holds 107 bytes; through the descriptor it is always short enough.
        let path = format!("/proc/self/fd/{}/{}", run.as_raw_fd(), layout::CONTROL_SOCKET);
        let stream = UnixStream::connect(path).map_err(|error| unreachable(&error))?;
        stream
            .set_write_timeout(Some(Duration::from_millis(DEADLINE_MS)))
            .map_err(|error| unreachable(&error))?;
        let mut connection = Self { id: id.clone(), stream, decoder: Decoder::new() };
        connection.send(&Hello { version: version::CONTROL }, &[])?;
        Ok(connection)
    }

    /// Connects to the supervisor of pod `id`, whose run directory is in `run_root`.
    ///
    /// # Errors
    ///
    /// `pod.unreachable` if there is none or it does not answer.
    pub(crate) fn of_pod(run_root: BorrowedFd<'_>, id: &PodId) -> Result<Self> {
        let run = rundir::open(run_root, id).ok_or_else(|| {
            CommandError::new("pod.unreachable", format!("pod `{id}` has no run directory"))
                .hint("was it started with another `--run-root`?")
        })?;
        Self::open(run.as_fd(), id)
    }

    /// Sends a request, with descriptors beside its first byte.
    ///
    /// # Errors
    ///
    /// `pod.unreachable`.
    pub(crate) fn request(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(request, fds)
    }

    fn send<M: serde::Serialize>(&mut self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = frame::encode(message).map_err(|error| self.broken().because(&error))?;
        let mut rest = &bytes[..];
        if !fds.is_empty() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(self.broken());
            }
            let sent =
                sendmsg(&self.stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)
                    .map_err(|error| self.broken().because(&io::Error::from(error)))?;
            rest = &rest[sent..];
        }
        self.stream.write_all(rest).map_err(|error| self.broken().because(&error))
    }

    /// Takes a reply out of what has been received.
    ///
    /// # Errors
    ///
    /// `pod.protocol` for what is no reply.
    pub(crate) fn take(&mut self) -> Result<Option<Reply>> {
        self.decoder.take().map_err(|error| self.broken().because(&error))
    }

    /// Receives once, waiting for it; `false` if the supervisor has gone.
    ///
    /// # Errors
    ///
    /// `pod.protocol`.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        let mut bytes = [0; 16_384];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.decoder.feed(&bytes[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(self.silent());
                }
                Err(error) => return Err(self.broken().because(&error)),
            }
        }
    }

    /// Sends a request that is answered at once, and waits for the answer.
    ///
    /// # Errors
    ///
    /// `pod.unreachable`, or what the supervisor reports.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.request(request, &[])?;
        let patience = Some(Duration::from_millis(DEADLINE_MS));
        let set = self.stream.set_read_timeout(patience);
        set.map_err(|error| self.broken().because(&error))?;
        loop {
            match self.take()? {
                Some(Reply::Refused(report)) => return Err(CommandError::reported(report.tamed())),
                Some(reply) => return Ok(reply),
                None if self.receive()? => {}
                None => return Err(self.broken()),
            }
        }
    }

    /// Returns a pidfd of the supervisor.
    ///
    /// # Errors
    ///
    /// `pod.unreachable` if it is not in sight, `storage` if it has just gone.
    pub(crate) fn supervisor(&self) -> Result<OwnedFd> {
        let tell = || format!("cannot tell who supervises pod `{}`", self.id);
        // 0 for a process that another pid namespace holds.
        let peer = getsockopt(&self.stream, PeerCredentials).context(tell)?.pid();
        let unseen = || CommandError::new("pod.unreachable", tell());
        let pid = Some(peer).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(unseen)?;
        pidfd_open(pid, PidfdFlags::empty())
            .context(|| format!("cannot open the supervisor of pod `{}`", self.id))
    }

    /// Makes the error of a supervisor that has not answered in time.
    pub(crate) fn silent(&self) -> CommandError {
        let sentence = format!("the supervisor of pod `{}` does not answer", self.id);
        CommandError::new("pod.unreachable", sentence)
            .hint(format!("`pod stop -t 0 {}` ends the pod", self.id.short()))
    }

    fn broken(&self) -> CommandError {
        CommandError::new("pod.protocol", format!("the supervisor of pod `{}` broke off", self.id))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
