//! The supervisor's end of the stream to PID 1.
//!
//! What comes in is hostile: bounded by the frame's limit, decoded into the one type there is.
//! What goes out never waits longer than a deadline: a PID 1 that does not read is broken.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pod_abi::control::DEADLINE_MS;
use pod_abi::credential::MAX_SOCKETS;
use pod_abi::frame::Decoder;
use pod_abi::inner::FromInit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use crate::error::{During, Failure};
use crate::wall::Parcel;

/// The most read in one turn, in bytes, so that a PID 1 that talks without end does not keep the
/// supervisor from everything else.
const TURN: usize = 64 << 10;

/// The most descriptors of one frame: those of an app with all sockets there can be.
const MAX_FDS: usize = 5 + MAX_SOCKETS;

/// The stream to PID 1.
#[derive(Debug)]
pub(crate) struct Link {
    stream: OwnedFd,
    decoder: Decoder,
}

/// Why nothing more will come.
#[derive(Debug)]
pub(crate) enum Silence {
    /// The other end is closed.
    Closed,
    /// What came is no frame of the protocol.
    Nonsense(Failure),
}

impl Link {
    /// Takes the stream.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self { stream, decoder: Decoder::new() }
    }

    /// Sends a frame, with descriptors beside its first byte.
    pub(crate) fn send(&self, parcel: &Parcel) -> Result<(), Failure> {
        let telling = || "cannot tell the pod's PID 1 what to do";
        let Parcel { bytes, descriptors } = parcel;
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let deadline = Instant::now() + Duration::from_millis(DEADLINE_MS);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Failure::new("too many descriptors for one frame"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut sent = 0;
        while sent < bytes.len() {
            match sendmsg(&self.stream, &[IoSlice::new(&bytes[sent..])], &mut control, flags) {
                Ok(count) => {
                    sent += count;
                    control.clear();
                }
                Err(Errno::INTR) => {}
                // It has ended, which is told by its end and explained by its last words.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(Errno::AGAIN) => self.wait_for_room(deadline).during(telling)?,
                Err(error) => return Err(error).during(telling),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what has come, gives out the messages in it, and tells how many bytes there were.
    /// What came before the silence is given out too.
    pub(crate) fn receive(&mut self, heard: &mut VecDeque<FromInit>) -> Result<usize, Silence> {
        let mut buffer = [0; 4096];
        let mut read = 0;
        for _ in 0..TURN / buffer.len() {
            let count = match recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Silence::Closed),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Silence::Closed),
            };
            read += count;
            self.decoder.feed(&buffer[..count]);
            loop {
                match self.decoder.take() {
                    Ok(Some(message)) => heard.push_back(message),
                    Ok(None) => break,
                    Err(error) => {
                        // SECURITY: the cause quotes what was said.
                        let what = "what the pod's PID 1 says is no message";
                        let report = Failure::of(what, error).report().tamed();
                        return Err(Silence::Nonsense(Failure::from(report)));
                    }
                }
            }
            if count < buffer.len() {
                break;
            }
        }
        Ok(read)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
