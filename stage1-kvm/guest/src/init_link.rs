//! The socket of stage2-init: frames and descriptors out, its words in. Never blocks.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::credential::MAX_SOCKETS;
use pod_abi::frame::{Decoder, encode};
use pod_abi::inner::{FromInit, ToInit};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use supervisor::{During, Failure};

/// The most descriptors of one frame: those of an app with all sockets there can be.
const MAX_FDS: usize = 5 + MAX_SOCKETS;

/// The most read in one turn, in bytes, so that a stage2-init that talks without end does not keep
/// the guest from everything else.
const TURN: usize = 64 << 10;

/// The socket.
#[derive(Debug)]
pub(crate) struct InitLink {
    stream: OwnedFd,
    decoder: Decoder,
    waiting: VecDeque<Parcel>,
}

#[derive(Debug)]
struct Parcel {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

impl InitLink {
    /// Takes the socket.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self { stream, decoder: Decoder::new(), waiting: VecDeque::new() }
    }

    /// Tells whether all that was sent has been taken.
    pub(crate) fn is_free(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a frame with what goes along with it; the rest waits for [`InitLink::flush`].
    pub(crate) fn send(
        &mut self,
        message: &ToInit,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let bytes = encode(message)
            .map_err(|error| Failure::of("a frame for the pod's PID 1 is none", error))?;
        self.waiting.push_back(Parcel { bytes, sent: 0, descriptors });
        self.flush()
    }

    /// Sends what waits, as far as stage2-init takes it. One that has ended takes everything.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        while let Some(parcel) = self.waiting.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors: Vec<BorrowedFd<'_>> =
                parcel.descriptors.iter().map(AsFd::as_fd).collect();
            // They travel beside the first byte.
            if !descriptors.is_empty()
                && !control.push(SendAncillaryMessage::ScmRights(&descriptors))
            {
                return Err(Failure::new("too many descriptors for one frame"));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let rest = [IoSlice::new(&parcel.bytes[parcel.sent..])];
            match sendmsg(&self.stream, &rest, &mut control, flags) {
                Ok(count) => {
                    parcel.sent += count;
                    parcel.descriptors.clear();
                    if parcel.sent == parcel.bytes.len() {
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // It has ended, which is told by its end and explained by its last words.
                Err(Errno::PIPE | Errno::CONNRESET) => self.waiting.clear(),
                Err(error) => {
                    return Err(error).during(|| "cannot tell the pod's PID 1, sendmsg()");
                }
            }
        }
        Ok(())
    }

    /// Reads what has come, up to one turn, and gives it out; tells whether there may be more.
    pub(crate) fn receive(&mut self, heard: &mut VecDeque<FromInit>) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        for _ in 0..TURN / buffer.len() {
            match recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(false),
                Ok((count, _)) => self.decoder.feed(&buffer[..count]),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).during(|| "cannot hear the pod's PID 1, recv()"),
            }
            while let Some(word) = self
                .decoder
                .take()
                .map_err(|error| Failure::of("what the pod's PID 1 says is no message", error))?
            {
                heard.push_back(word);
            }
        }
        Ok(true)
    }
}

impl AsFd for InitLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
