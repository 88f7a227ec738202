//! A stream of frames to the host: messages in, messages out, never blocking.
//!
//! The host is trusted, but both ways are bounded all the same: a frame by the protocol, what waits
//! to be sent by [`MAX_WAITING`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::frame::{Decoder, encode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;
use supervisor::{During, Failure};

use crate::reach::{Reach, reach};

/// The most bytes that wait to be sent: a host that does not read for so long is no longer one.
const MAX_WAITING: usize = 4 << 20;

/// Bytes of one read.
const CHUNK: usize = 16 << 10;

/// The most read in one turn, in bytes, so that other streams have theirs.
const TURN: usize = 256 << 10;

/// A stream of frames.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: OwnedFd,
    decoder: Decoder,
    waiting: Vec<u8>,
    /// Whether the host has not taken it yet.
    connecting: bool,
    /// Whether the host has closed its end.
    closed: bool,
}

impl Wire {
    /// Takes a stream, which must not block and may not be connected yet. `greeting` is sent before
    /// any frame.
    pub(crate) fn new(stream: OwnedFd, greeting: &[u8]) -> Self {
        let (decoder, waiting) = (Decoder::new(), greeting.to_vec());
        Self { stream, decoder, waiting, connecting: true, closed: false }
    }

    /// Tells whether the stream is there; one that was refused is closed.
    pub(crate) fn is_there(&mut self) -> bool {
        if self.connecting {
            let reach = reach(&self.stream);
            self.connecting = reach == Reach::Asking;
            self.closed |= reach == Reach::Refused;
        }
        !self.connecting && !self.closed
    }

    /// Reads what has come, up to one turn; tells whether there may be more.
    ///
    /// # Errors
    ///
    /// Those of `recv(2)`.
    pub(crate) fn read(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; CHUNK];
        if !self.is_there() {
            return Ok(false);
        }
        for _ in 0..TURN / CHUNK {
            match recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET | Errno::NOTCONN) => {
                    self.closed = true;
                    return Ok(false);
                }
                Ok((count, _)) => self.decoder.feed(&buffer[..count]),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).during(|| "cannot hear the host, recv()"),
            }
        }
        Ok(true)
    }

    /// Gives out the next message that has come, if one has come whole.
    ///
    /// # Errors
    ///
    /// If what came is no message of this kind; the stream is of no use afterwards.
    pub(crate) fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, Failure> {
        self.decoder.take().map_err(|error| Failure::of("what the host says is no message", error))
    }

    /// Tells whether the host has closed its end; what came before may still be taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends a message, as far as the host takes it; the rest waits for [`Wire::flush`].
    ///
    /// # Errors
    ///
    /// If too much waits, or the stream is broken.
    pub(crate) fn say(&mut self, message: &impl Serialize) -> Result<(), Failure> {
        let frame =
            encode(message).map_err(|error| Failure::of("a frame for the host is none", error))?;
        if self.waiting.len() + frame.len() > MAX_WAITING {
            return Err(Failure::new("the host does not read what it is told"));
        }
        self.waiting.extend_from_slice(&frame);
        self.flush()
    }

    /// Sends what waits, as far as the host takes it.
    ///
    /// # Errors
    ///
    /// Those of `send(2)`.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let mut sent = 0;
        if !self.is_there() {
            return Ok(());
        }
        while sent < self.waiting.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.stream, &self.waiting[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    self.closed = true;
                    self.waiting.clear();
                    return Ok(());
                }
                Err(error) => return Err(error).during(|| "cannot tell the host, send()"),
            }
        }
        self.waiting.drain(..sent);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(0);
        }
        Ok(())
    }

    /// Tells whether something waits to be sent.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
