//! PID 1's end of the inner channel: frames and descriptors in, frames out.
//!
//! Never blocks: what the supervisor does not take yet waits here, for a blocked PID 1 reaps
//! nothing and stops nothing. Descriptors arrive beside the first byte of the frame they belong
//! to; as each frame says how many it has, they are kept in one queue.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::credential::MAX_SOCKETS;
use pod_abi::frame::{Decoder, FrameError, encode};
use pod_abi::inner::{FromInit, ToInit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg,
    sendmsg,
};

/// The most descriptors taken with one read: those of an app with all sockets there can be, which
/// are the most of one frame.
const MAX_FDS: usize = 5 + MAX_SOCKETS;
/// Bytes of one read.
const CHUNK: usize = 4096;
/// The most bytes that wait to be sent. A supervisor that does not read for so long is no longer
/// one.
const MAX_WAITING: usize = 1 << 20;

/// Why the channel is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The supervisor has closed it, or is gone.
    #[error("the supervisor is gone")]
    Closed,
    /// The channel itself failed.
    #[error("cannot {0} the inner channel")]
    Io(&'static str, #[source] io::Error),
    /// What came is no message.
    #[error("what came through the inner channel is no message")]
    Frame(#[source] FrameError),
    /// A frame came with fewer descriptors than it says.
    #[error("descriptors are missing beside a message")]
    MissingDescriptors,
    /// More came than is taken, or waits than is kept.
    #[error("the inner channel overflows")]
    Overflow,
}

/// The channel.
#[derive(Debug)]
pub struct Channel {
    stream: OwnedFd,
    decoder: Decoder,
    descriptors: VecDeque<OwnedFd>,
    waiting: Vec<u8>,
    /// Whether a read left the stream empty.
    drained: bool,
}

impl Channel {
    /// Takes over the stream.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Io`] if it cannot be made non-blocking.
    pub fn new(stream: OwnedFd) -> Result<Self, ChannelError> {
        rustix::io::ioctl_fionbio(&stream, true)
            .map_err(|errno| ChannelError::Io("set up", errno.into()))?;
        Ok(Self {
            stream,
            decoder: Decoder::new(),
            descriptors: VecDeque::new(),
            waiting: Vec::new(),
            drained: false,
        })
    }

    /// Gives out the next message that has come, or `None` if none is whole yet.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; the channel is of no use afterwards.
    pub fn receive(&mut self) -> Result<Option<ToInit>, ChannelError> {
        loop {
            if let Some(message) = self.decoder.take().map_err(ChannelError::Frame)? {
                return Ok(Some(message));
            }
            if self.drained {
                self.drained = false;
                return Ok(None);
            }
            self.read()?;
        }
    }

    /// Gives out the next descriptor that has come.
    ///
    /// # Errors
    ///
    /// [`ChannelError::MissingDescriptors`] if there is none.
    pub fn descriptor(&mut self) -> Result<OwnedFd, ChannelError> {
        self.descriptors.pop_front().ok_or(ChannelError::MissingDescriptors)
    }

    fn read(&mut self) -> Result<(), ChannelError> {
        let mut bytes = [0; CHUNK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = loop {
            match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.drained = true;
                    return Ok(());
                }
                Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
                other => break other.map_err(|errno| ChannelError::Io("read", errno.into()))?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if got.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
            return Err(ChannelError::Overflow);
        }
        if got.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        self.decoder.feed(&bytes[..got.bytes]);
        Ok(())
    }

    /// Sends a message, now or as soon as the supervisor takes it.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; the channel is of no use afterwards.
    pub fn send(&mut self, message: &FromInit) -> Result<(), ChannelError> {
        self.queue(message)?;
        self.flush()
    }

    /// Lets a message wait for the next [`Self::flush`], so that what is decided together arrives
    /// together: the supervisor writes its records once for each arrival.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; the channel is of no use afterwards.
    pub fn queue(&mut self, message: &FromInit) -> Result<(), ChannelError> {
        let frame = encode(message).map_err(ChannelError::Frame)?;
        if self.waiting.len() + frame.len() > MAX_WAITING {
            return Err(ChannelError::Overflow);
        }
        self.waiting.extend_from_slice(&frame);
        Ok(())
    }

    /// Sends what waits, as far as the supervisor takes it.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; the channel is of no use afterwards.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        let flags = SendFlags::NOSIGNAL;
        let mut sent = 0;
        while sent < self.waiting.len() {
            let rest = [IoSlice::new(&self.waiting[sent..])];
            match sendmsg(&self.stream, &rest, &mut SendAncillaryBuffer::default(), flags) {
                Ok(bytes) => sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(ChannelError::Io("write", errno.into())),
            }
        }
        self.waiting.drain(..sent);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(CHUNK);
        }
        Ok(())
    }

    /// Waits until there is something to read, or something that waits can be sent.
    ///
    /// For the moments before and after the loop, when there is nothing else to wait for.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Io`].
    pub fn wait(&self) -> Result<(), ChannelError> {
        let events = if self.is_waiting() { PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::new(&self.stream, events)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(ChannelError::Io("wait for", errno.into())),
        }
    }

    /// Tells whether something waits to be sent.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
