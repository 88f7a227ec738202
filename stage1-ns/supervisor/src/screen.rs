//! What the caller sees: apps' output on the supervisor's own standard streams.
//!
//! One app is passed through byte for byte; of several, each line bears its app's name. A reader
//! that is slow slows the apps down, as it would without us: what is not taken is held here, and
//! apps are not read until it is ([`Screen::is_clogged`]). Nothing else waits for it: control,
//! signals and restarts go on.
//!
//! A reader that has closed its end of a pipe is told to the apps as a shell would
//! ([`Screen::is_hung_up`]): `pod run IMAGE yes | head` ends. A terminal that is gone is
//! forgotten, and logging goes on alone.

use std::io::{self, IsTerminal, Stderr, Stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, write};

use crate::stream::Source;

/// The most written at once, in bytes: `PIPE_BUF`, so that a pipe that polls as writable takes
/// it without blocking (`pipe(7)`).
const AT_ONCE: usize = 4096;

/// The supervisor's own standard output and error.
#[derive(Debug)]
pub(crate) struct Screen {
    stdout: Sink<Way<Stdout>>,
    stderr: Sink<Way<Stderr>>,
}

impl Screen {
    /// Takes the standard streams of this process.
    pub(crate) fn new() -> Self {
        Self { stdout: Sink::new(Way::to(io::stdout())), stderr: Sink::new(Way::to(io::stderr())) }
    }

    /// Shows bytes.
    pub(crate) fn show(&mut self, source: Source, bytes: &[u8]) {
        match source {
            Source::Stdout => self.stdout.push(bytes),
            Source::Stderr => self.stderr.push(bytes),
        }
    }

    /// Shows one line, or piece of one, of an app under its name.
    pub(crate) fn show_line(&mut self, source: Source, app: &str, text: &[u8]) {
        let mut line = Vec::with_capacity(app.len() + text.len() + 4);
        line.extend_from_slice(app.as_bytes());
        line.extend_from_slice(b" | ");
        line.extend_from_slice(text);
        line.push(b'\n');
        self.show(source, &line);
    }

    /// Writes what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        self.stdout.flush();
        self.stderr.flush();
    }

    /// Tells whether the reader of a stream has closed its end of a pipe.
    pub(crate) fn is_hung_up(&self, source: Source) -> bool {
        match source {
            Source::Stdout => self.stdout.state == State::HungUp,
            Source::Stderr => self.stderr.state == State::HungUp,
        }
    }

    /// Tells whether something is held.
    pub(crate) fn is_clogged(&self) -> bool {
        self.stdout.is_clogged() || self.stderr.is_clogged()
    }

    /// Returns both descriptors.
    pub(crate) fn both(&self) -> [BorrowedFd<'_>; 2] {
        [self.stdout.stream.as_fd(), self.stderr.stream.as_fd()]
    }

    /// Returns the descriptors something is held for.
    pub(crate) fn clogged(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let stdout = self.stdout.is_clogged().then(|| self.stdout.stream.as_fd());
        let stderr = self.stderr.is_clogged().then(|| self.stderr.stream.as_fd());
        stdout.into_iter().chain(stderr)
    }
}

/// How a standard stream is written to.
#[derive(Debug)]
enum Way<S> {
    /// As it was inherited.
    Inherited(S),
    /// Through an opening of our own that does not block. A terminal that polls as writable may
    /// have room for a single byte, and a write of more waits for whoever draws it. The one that
    /// was inherited is shared with the caller's shell, which expects it to block.
    Reopened(OwnedFd),
}

impl<S: AsFd> Way<S> {
    fn to(stream: S) -> Self {
        if !stream.as_fd().is_terminal() {
            return Self::Inherited(stream);
        }
        let path = format!("/proc/self/fd/{}", stream.as_fd().as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_or(Self::Inherited(stream), Self::Reopened)
    }
}

impl<S: AsFd> AsFd for Way<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Inherited(stream) => stream.as_fd(),
            Self::Reopened(stream) => stream.as_fd(),
        }
    }
}

#[derive(Debug)]
struct Sink<S> {
    stream: S,
    held: Vec<u8>,
    state: State,
}

/// What has become of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It reads, or may.
    Open,
    /// It has closed its end of a pipe.
    HungUp,
    /// It cannot be written to.
    Gone,
}

impl<S: AsFd> Sink<S> {
    fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), state: State::Open }
    }

    fn is_clogged(&self) -> bool {
        !self.held.is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.state == State::Open {
            self.held.extend_from_slice(bytes);
            self.flush();
        }
    }

    fn flush(&mut self) {
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
    fn a_terminal_nobody_draws_holds_nothing_up() {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut sink = Sink::new(Way::to(File::from(terminal.slave)));
        for _ in 0..50 {
            sink.push(&[b'x'; 4000]);
        }
        assert!(sink.is_clogged());
        File::from(terminal.master).read_exact(&mut [0; 8000]).unwrap();
        assert_eq!(sink.state, State::Open);
    }

    #[test]
    fn a_reader_that_hangs_up_is_noticed_and_holds_nothing_up() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let mut sink = Sink::new(write);
        sink.push(b"x");
        assert!(sink.state == State::HungUp && !sink.is_clogged());
    }
}
