//! The supervisor's end of the helm: what the monitor is told, and what it tells of the end.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pod_abi::guest::{Extent, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketFlags, SocketType, recv, sendmsg, shutdown, socketpair,
};
use supervisor::{During, Failure};
use vmm::helm::{Direction, End, FromVmm, MAX_PACKET, ToVmm};

use crate::token;

/// How long a monitor may take to read what it is told. It does nothing that waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most packets that are read in wait for the one about the end. An honest monitor sends no
/// other; one that its guest has taken over could send some for ever.
const MAX_OTHERS: u32 = 64;

/// The helm.
#[derive(Debug)]
pub(crate) struct Helm {
    socket: OwnedFd,
}

impl Helm {
    /// Makes a helm, and the monitor's end of it.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Failure> {
        let (socket, its) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .during(|| "cannot make a helm, socketpair()")?;
        Ok((Self { socket }, its))
    }

    /// Hands the host's end of a stream over, and returns the name under which the guest gets it.
    pub(crate) fn plug(&self, end: &OwnedFd, direction: Direction) -> Result<Token, Failure> {
        let token = token::new()?;
        self.tell(ToVmm::Plug(token, direction), Some(end.as_fd()))?;
        Ok(token)
    }

    /// Takes back what was handed over under this name, unless the guest has it.
    pub(crate) fn unplug(&self, token: Token) -> Result<(), Failure> {
        self.tell(ToVmm::Unplug(token), None)
    }

    /// Puts a file onto the disk of images.
    pub(crate) fn map(&self, extent: Extent, file: &OwnedFd) -> Result<(), Failure> {
        self.tell(ToVmm::Map(extent), Some(file.as_fd()))
    }

    fn tell(&self, word: ToVmm, along: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let telling = || "cannot tell the pod's virtual machine monitor what to do, sendmsg()";
        let bytes = serde_json::to_vec(&word)
            .map_err(|error| Failure::of("a packet for the monitor is none", error))?;
        let descriptors = along.as_slice();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if along.is_some() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Failure::new("no room for a descriptor"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait(&self.socket, PollFlags::OUT, deadline) => {}
                Err(error) => return Err(error).during(telling),
            }
        }
    }

    /// Asks for the end of the machine: whoever reads no more of what it is told ends, and says so.
    pub(crate) fn let_go(&self) {
        let _ = shutdown(&self.socket, Shutdown::Write); // it may have ended
    }

    /// Waits at most so long for what the monitor says of the machine's end, whatever else it says.
    pub(crate) fn end(&self, patience: Duration) -> Option<End> {
        let deadline = Instant::now() + patience;
        let mut packet = vec![0; MAX_PACKET];
        for _ in 0..MAX_OTHERS {
            match recv(&self.socket, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return None,
                Ok((count, length)) => {
                    let whole = packet.get(..count).filter(|_| length == count)?;
                    if let Ok(FromVmm::Ended(end)) = serde_json::from_slice(whole) {
                        return Some(end);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait(&self.socket, PollFlags::IN, deadline) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// Waits for a descriptor, and tells whether there is reason to try again.
fn wait(socket: &OwnedFd, interest: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(timeout) = Timespec::try_from(left) else { return false };
    let polled = poll(&mut [PollFd::new(socket, interest)], Some(&timeout));
    !left.is_zero() && !matches!(polled, Ok(0))
}
