//! A descriptor of the host as the end of a stream: reads and writes that never wait.
//!
//! Descriptors here are shared with clients and with other processes, so `O_NONBLOCK` must not be
//! set on them: it would be set for all of these. What does not wait instead:
//!
//! | what it is | read and written by |
//! |---|---|
//! | socket | `recv`, `send` with `MSG_DONTWAIT` |
//! | pipe | `preadv2`, `pwritev2` with `RWF_NOWAIT`; before Linux 6.4 by way of a pipe of our own and `splice(2)` with `SPLICE_F_NONBLOCK` |
//! | terminal, whatever else `epoll(7)` takes | as they are if they came with `O_NONBLOCK`; else a little at a time, right after `poll(2)` |
//! | what `epoll(7)` refuses as always ready (`EPERM`): a regular file, `/dev/null` | as they are |
//!
//! The type of a file does not tell the last two apart: `/proc/kmsg` is a regular file, and waits.
//! What cannot be watched for another reason (no memory is left) has ended at once.
//!
//! Readiness is edge-triggered: it is reported when it begins, and a stream is tried until it says
//! [`Moved::Later`]. So nothing is ever reported again and again that nobody can act upon.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, read, write};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use super::{HostStream, Id, Moved};
use crate::watch::Watch;

/// Bytes that are written at a time to what may wait in the middle: Linux says that a terminal can
/// be written when it holds fewer than 256 (`WAKEUP_CHARS`).
const LITTLE: usize = 256;

/// The offset that stands for a file's own position (`preadv2(2)`).
const OWN_POSITION: u64 = u64::MAX;

/// The end of a stream.
#[derive(Debug)]
pub struct Descriptor {
    fd: OwnedFd,
    kind: Kind,
    watch: Watch,
    watched: bool,
}

#[derive(Debug)]
enum Kind {
    Socket,
    Pipe,
    /// On a kernel without `RWF_NOWAIT` for pipes.
    Relayed(Relay),
    Polled,
    Always,
    /// Its readiness would never be heard of.
    Unwatched,
}

/// A pipe of our own, empty but while bytes pass through it.
#[derive(Debug)]
struct Relay {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Descriptor {
    /// A descriptor whose readiness is reported by `watch`.
    #[must_use]
    pub fn new(fd: OwnedFd, watch: Watch) -> Self {
        let kind = match rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Socket) => Kind::Socket,
            Ok(FileType::Fifo) => Kind::Pipe,
            // Until `epoll(7)` refuses it.
            _ => Kind::Polled,
        };
        Self { fd, kind, watch, watched: false }
    }

    fn try_receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match &self.kind {
            Kind::Socket => Ok(recv(&self.fd, buffer, RecvFlags::DONTWAIT)?.1),
            Kind::Pipe => {
                let vectors = &mut [IoSliceMut::new(buffer)];
                preadv2(&self.fd, vectors, OWN_POSITION, ReadWriteFlags::NOWAIT)
            }
            Kind::Relayed(relay) => relay.receive(self.fd.as_fd(), buffer),
            Kind::Polled => {
                self.await_none(PollFlags::IN)?;
                read(&self.fd, buffer)
            }
            Kind::Always => read(&self.fd, buffer),
            Kind::Unwatched => Err(Errno::NOMEM),
        }
    }

    fn try_send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.kind {
            Kind::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Pipe => {
                let vectors = &[IoSlice::new(bytes)];
                pwritev2(&self.fd, vectors, OWN_POSITION, ReadWriteFlags::NOWAIT)
            }
            Kind::Relayed(relay) => relay.send(self.fd.as_fd(), bytes),
            Kind::Polled => {
                let little = if self.await_none(PollFlags::OUT)? { bytes.len() } else { LITTLE };
                write(&self.fd, &bytes[..bytes.len().min(little)])
            }
            Kind::Always => write(&self.fd, bytes),
            Kind::Unwatched => Err(Errno::NOMEM),
        }
    }

    /// Sees to it that the next call does not wait; says whether none of them does.
    fn await_none(&self, wanted: PollFlags) -> Result<bool, Errno> {
        if fcntl_getfl(&self.fd)?.contains(OFlags::NONBLOCK) {
            return Ok(true);
        }
        let polled = &mut [PollFd::new(&self.fd, wanted)];
        let ready = poll(polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if ready == 0 { Err(Errno::AGAIN) } else { Ok(false) }
    }

    /// Tries again by another way if the kernel does not know the one that was tried. Returns
    /// whether there is another.
    fn goes_another_way(&mut self, errno: Errno) -> bool {
        let unknown = matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS);
        if !matches!(self.kind, Kind::Pipe) || !unknown {
            return false;
        }
        let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            return false;
        };
        self.kind = Kind::Relayed(Relay { reader, writer });
        true
    }

    fn moved(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<usize, Errno>) -> Moved {
        loop {
            return match attempt(self) {
                Ok(0) => Moved::Ended,
                Ok(count) => Moved::Some(count),
                Err(Errno::AGAIN) => Moved::Later,
                Err(Errno::INTR) => continue,
                Err(errno) if self.goes_another_way(errno) => continue,
                Err(_) => Moved::Ended,
            };
        }
    }
}

impl Relay {
    fn receive(&self, from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        let flags = SpliceFlags::NONBLOCK;
        let count = splice(from, None, &self.writer, None, buffer.len(), flags)?;
        let mut done = 0;
        while done < count {
            match read(&self.reader, &mut buffer[done..count]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn send(&self, to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        let put = write(&self.writer, bytes)?;
        let mut done = 0;
        let result = loop {
            if done == put {
                break Ok(done);
            }
            match splice(&self.reader, None, to, None, put - done, SpliceFlags::NONBLOCK) {
                Ok(0) | Err(Errno::AGAIN) if done > 0 => break Ok(done),
                Ok(0) => break Err(Errno::AGAIN),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno),
            }
        };
        // What the other pipe did not take is still ours to be written, from where it came.
        let mut scrap = [0; 4096];
        while read(&self.reader, &mut scrap).is_ok_and(|count| count > 0) {}
        result
    }
}

impl HostStream for Descriptor {
    fn watch(&mut self, id: Id) {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        match self.watch.add(&self.fd, id.0, flags) {
            Ok(()) => self.watched = true,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
                self.kind = Kind::Always;
            }
            Err(_) => self.kind = Kind::Unwatched,
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Moved {
        self.moved(|this| this.try_receive(buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> Moved {
        self.moved(|this| this.try_send(bytes))
    }

    fn end_sending(&mut self) {
        if matches!(self.kind, Kind::Socket) {
            // It fails if the other side is gone: then it knows.
            let _ = shutdown(&self.fd, Shutdown::Write);
        }
    }

    fn end_receiving(&mut self) {
        if matches!(self.kind, Kind::Socket) {
            // As above.
            let _ = shutdown(&self.fd, Shutdown::Read);
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.watched {
            // Others may hold the same open file: closing ours would not end the watch.
            let _ = self.watch.remove(&self.fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn descriptor(fd: OwnedFd) -> Descriptor {
        let mut descriptor = Descriptor::new(fd, Watch::new().unwrap());
        descriptor.watch(Id(0));
        descriptor
    }

    /// As on a kernel that knows no `RWF_NOWAIT` for pipes.
    fn relayed(fd: OwnedFd) -> Descriptor {
        let mut descriptor = descriptor(fd);
        assert!(descriptor.goes_another_way(Errno::OPNOTSUPP));
        assert!(!descriptor.goes_another_way(Errno::OPNOTSUPP), "there is only one other");
        descriptor
    }

    #[test]
    fn no_way_to_use_a_pipe_waits() {
        for make in [descriptor, relayed] {
            let (reader, writer) = pipe().unwrap();
            let (mut input, mut output) = (make(reader), make(writer));
            let bytes: Vec<u8> = (0..100_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut arrived: Vec<u8> = Vec::new();
            let mut buffer = [0; 3000];
            assert_eq!(input.receive(&mut buffer), Moved::Later);
            let mut sent = 0;
            while arrived.len() < bytes.len() {
                while let Moved::Some(count) = output.send(&bytes[sent..])
                    && sent < bytes.len()
                {
                    sent += count;
                }
                while let Moved::Some(count) = input.receive(&mut buffer) {
                    arrived.extend(&buffer[..count]);
                }
            }
            assert!(arrived == bytes);
            drop(output);
            assert_eq!(input.receive(&mut buffer), Moved::Ended);
            let (reader, writer) = pipe().unwrap();
            let mut output = make(writer);
            drop(reader);
            assert_eq!(output.send(b"to nobody"), Moved::Ended);
        }
    }

    #[test]
    fn a_terminal_is_used_as_far_as_it_is_ready() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, open, rustix::fs::Mode::empty()).unwrap();
        let mut slave = descriptor(slave);
        let mut buffer = [0; 100];
        assert_eq!(slave.receive(&mut buffer), Moved::Later);
        assert_eq!(slave.send(&[b'x'; 1000]), Moved::Some(LITTLE));
        assert_eq!(write(&master, b"line\n"), Ok(5));
        assert_eq!(slave.receive(&mut buffer), Moved::Some(5));
        drop(master);
        assert_eq!(slave.receive(&mut buffer), Moved::Ended);
        assert_eq!(slave.send(b"x"), Moved::Ended);
    }

    #[test]
    fn what_is_neither_pipe_nor_terminal_may_wait_all_the_same() {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let others = event.try_clone().unwrap();
        let mut input = descriptor(event);
        assert_eq!(input.receive(&mut [0; 8]), Moved::Later);
        write(&others, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!(input.receive(&mut [0; 8]), Moved::Some(8));
        assert_eq!(input.receive(&mut [0; 8]), Moved::Later);
    }

    #[test]
    fn what_cannot_be_watched_has_ended_and_is_not_waited_for() {
        let (reader, _writer) = pipe().unwrap();
        let mut input = descriptor(reader);
        // It is watched already: `EEXIST` stands for all that is not `EPERM`.
        input.watch(Id(1));
        assert_eq!(input.receive(&mut [0; 8]), Moved::Ended);
        assert_eq!(input.send(b"bytes"), Moved::Ended);
    }

    #[test]
    fn the_flags_of_a_descriptor_stay_as_they_are() {
        let (reader, writer) = pipe().unwrap();
        let shared = reader.try_clone().unwrap();
        let mut input = descriptor(reader);
        assert_eq!(input.receive(&mut [0; 8]), Moved::Later);
        assert!(!fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
        drop(writer);
    }
}
