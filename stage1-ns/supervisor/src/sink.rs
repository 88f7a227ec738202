//! A stream that is written to without ever waiting for whoever reads it.
//!
//! What is not taken is held; whoever fills a sink looks at [`Sink::is_clogged`] and stops, so
//! that no more than one reading of something is ever held.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

/// The most written at once, in bytes: `PIPE_BUF`, so that a pipe that polls as writable takes
/// it without blocking (`pipe(7)`).
const AT_ONCE: usize = 4096;

/// A stream that is written to, and what it has not taken yet.
#[derive(Debug)]
pub(crate) struct Sink<S> {
    stream: S,
    held: Vec<u8>,
    state: State,
}

/// What has become of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It reads, or may.
    Open,
    /// It has closed its end of a pipe.
    HungUp,
    /// It cannot be written to.
    Gone,
}

impl<S: AsFd> Sink<S> {
    /// Takes a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), state: State::Open }
    }

    /// Tells whether something is held.
    pub(crate) fn is_clogged(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns what has become of the reader.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Writes bytes, and holds what is not taken.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.state == State::Open {
            self.held.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Writes what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        let mut done = 0;
        while done < self.held.len() && self.takes_more() {
            let end = self.held.len().min(done + AT_ONCE);
            match write(&self.stream, &self.held[done..end]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    self.state = if error == Errno::PIPE { State::HungUp } else { State::Gone };
                    done = self.held.len();
                }
            }
        }
        self.held.drain(..done);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    fn takes_more(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl<S: AsFd> AsFd for Sink<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn what_a_slow_reader_does_not_take_is_held_and_comes_later() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut sink = Sink::new(write);
        let text = vec![b'x'; 200_000];
        sink.push(&text);
        assert!(sink.is_clogged());
        let mut reader = File::from(read);
        let mut got = 0;
        while got < text.len() {
            let mut piece = [0; 8192];
            got += reader.read(&mut piece).unwrap();
            sink.flush();
        }
        assert!(!sink.is_clogged());
    }

    #[test]
    fn a_reader_that_hangs_up_is_noticed_and_holds_nothing_up() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let mut sink = Sink::new(write);
        sink.push(b"x");
        assert!(sink.state() == State::HungUp && !sink.is_clogged());
    }
}
