//! One connection to the control socket.
//!
//! Bytes and descriptors in, requests out; replies in, bytes out. What a request means is decided
//! elsewhere. A connection that breaks the rules is closed, never argued with.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pod_abi::control::{DEADLINE_MS, Hello, Reply, Request};
use pod_abi::credential::MAX_ADDED_CREDENTIALS;
use pod_abi::frame::{self, Decoder};
use pod_abi::{AppName, Report, version};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};

/// How many descriptors standard streams are.
const STREAMS: usize = 3;
/// How many descriptors one request may carry: the directory of layers, and credentials.
const DESCRIPTORS: usize = 1 + MAX_ADDED_CREDENTIALS;

/// The most replies held for a client that does not read, in bytes.
const MAX_HELD: usize = 2 * frame::MAX_FRAME;

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For an app to start.
    Start(AppName),
    /// For an app to end.
    Stop(AppName),
    /// For an app to be gone.
    Remove(AppName),
    /// For a process to end, by the number it has between us and PID 1.
    Exec(u32),
    /// For the app it is attached to to end for good, or for the end of the pod.
    Attached,
}

/// The connection is over: closed by the other side, or to be closed for breaking a rule.
#[derive(Debug)]
pub(crate) struct Over;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: OwnedFd,
    decoder: Decoder,
    descriptors: Vec<OwnedFd>,
    greeted: bool,
    held: Vec<u8>,
    deadline: Option<Instant>,
    /// What it waits for.
    pub(crate) waiting: Option<Waiting>,
    /// Whether the loop waits for room to write to it.
    pub(crate) room_awaited: bool,
}

impl Client {
    /// Takes a fresh connection.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            descriptors: Vec::new(),
            greeted: false,
            held: Vec::new(),
            deadline: Some(deadline()),
            waiting: None,
            room_awaited: false,
        }
    }

    /// Reads once of what has come. [`Client::next`] is to be called until it gives nothing, so
    /// that no more than a frame and a buffer is ever held.
    pub(crate) fn read(&mut self) -> Result<(), Over> {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg(&self.stream, slices, &mut control, flags) {
            Ok(message) => message,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Over),
        };
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary {
                self.descriptors.extend(descriptors);
            }
        }
        let broken = message.bytes == 0
            || message.flags.contains(ReturnFlags::CTRUNC)
            || self.descriptors.len() > DESCRIPTORS;
        if broken {
            return Err(Over);
        }
        self.decoder.feed(&buffer[..message.bytes]);
        Ok(())
    }

    /// Gives out the next request, with its descriptors.
    pub(crate) fn next(&mut self) -> Result<Option<(Request, Vec<OwnedFd>)>, Over> {
        if !self.greeted {
            let Some(Hello { version }) = self.decoder.take().map_err(|_| Over)? else {
                return self.wait();
            };
            if version != version::CONTROL {
                let what = format!(
                    "the pod's supervisor speaks version {} of the control protocol, not {version}",
                    version::CONTROL
                );
                let report = Report::new("control.version", what)
                    .hint("use the `pod` that started this pod, or restart the pod");
                self.reply(&Reply::Refused(Box::new(report)))?;
                return Err(Over);
            }
            self.greeted = true;
        }
        let Some(request) = self.decoder.take::<Request>().map_err(|_| Over)? else {
            return self.wait();
        };
        let expected = match &request {
            Request::AddApp { app } => app.spec.credentials.len().saturating_add(1),
            Request::Exec { .. } | Request::Attach { .. } | Request::Copy { .. } => STREAMS,
            _ => 0,
        };
        let descriptors = std::mem::take(&mut self.descriptors);
        if descriptors.len() != expected {
            return Err(Over);
        }
        self.deadline = None;
        Ok(Some((request, descriptors)))
    }

    fn wait(&mut self) -> Result<Option<(Request, Vec<OwnedFd>)>, Over> {
        let between = self.greeted && !self.decoder.is_mid_frame() && self.held.is_empty();
        if between {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(deadline());
        }
        Ok(None)
    }

    /// Answers.
    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), Over> {
        let bytes = frame::encode(reply).map_err(|_| Over)?;
        if self.held.len() + bytes.len() > MAX_HELD {
            return Err(Over);
        }
        self.held.extend_from_slice(&bytes);
        self.flush()
    }

    /// Sends what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) -> Result<(), Over> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut sent = 0;
        while sent < self.held.len() {
            match send(&self.stream, &self.held[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Over),
            }
        }
        self.held.drain(..sent);
        if self.held.is_empty() {
            self.held = Vec::new();
        } else if self.deadline.is_none() || sent > 0 {
            self.deadline = Some(deadline());
        }
        Ok(())
    }

    /// Tells whether there is something to be sent.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns when the connection is closed unless something happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(DEADLINE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, Client) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (theirs, Client::new(ours.into()))
    }

    #[test]
    fn a_request_comes_after_a_greeting() {
        let (mut peer, mut client) = pair();
        let hello = frame::encode(&Hello { version: version::CONTROL }).unwrap();
        let request = frame::encode(&Request::Ps).unwrap();
        peer.write_all(&[hello, request].concat()).unwrap();
        client.read().unwrap();
        let (request, descriptors) = client.next().unwrap().unwrap();
        assert_eq!(request, Request::Ps);
        assert!(descriptors.is_empty());
        assert!(client.next().unwrap().is_none());
        assert!(client.deadline().is_none());
    }

    #[test]
    fn half_a_frame_sets_a_deadline() {
        let (mut peer, mut client) = pair();
        peer.write_all(&frame::encode(&Hello { version: version::CONTROL }).unwrap()).unwrap();
        peer.write_all(&[9, 0, 0]).unwrap();
        client.read().unwrap();
        assert!(client.next().unwrap().is_none());
        assert!(client.deadline().is_some());
    }

    #[test]
    fn another_version_is_refused_in_words() {
        let (mut peer, mut client) = pair();
        peer.write_all(&frame::encode(&Hello { version: 999 }).unwrap()).unwrap();
        client.read().unwrap();
        assert!(client.next().is_err());
        drop(client);
        let mut text = Vec::new();
        peer.read_to_end(&mut text).unwrap();
        let mut decoder = Decoder::new();
        decoder.feed(&text);
        assert!(matches!(decoder.take::<Reply>().unwrap(), Some(Reply::Refused(_))));
    }

    #[test]
    fn an_exec_without_descriptors_is_cut_off() {
        let (mut peer, mut client) = pair();
        peer.write_all(&frame::encode(&Hello { version: version::CONTROL }).unwrap()).unwrap();
        peer.write_all(&4_u32.to_le_bytes()).unwrap();
        peer.write_all(b"null").unwrap();
        client.read().unwrap();
        assert!(client.next().is_err());
    }
}
