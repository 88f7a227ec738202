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

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::sink::{Sink, State};
use crate::stream::Source;

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
        self.show(source, &under_name(app, text));
    }

    /// Writes what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        self.stdout.flush();
        self.stderr.flush();
    }

    /// Tells whether the reader of a stream has closed its end of a pipe.
    pub(crate) fn is_hung_up(&self, source: Source) -> bool {
        match source {
            Source::Stdout => self.stdout.state() == State::HungUp,
            Source::Stderr => self.stderr.state() == State::HungUp,
        }
    }

    /// Tells whether something is held.
    pub(crate) fn is_clogged(&self) -> bool {
        self.stdout.is_clogged() || self.stderr.is_clogged()
    }

    /// Returns both descriptors, each with whether something is held for it.
    pub(crate) fn both(&self) -> [(Source, BorrowedFd<'_>, bool); 2] {
        [
            (Source::Stdout, self.stdout.as_fd(), self.stdout.is_clogged()),
            (Source::Stderr, self.stderr.as_fd(), self.stderr.is_clogged()),
        ]
    }
}

/// Puts the name of an app before a line, or piece of one, of it.
pub(crate) fn under_name(app: &str, text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(app.len() + text.len() + 4);
    line.extend_from_slice(app.as_bytes());
    line.extend_from_slice(b" | ");
    line.extend_from_slice(text);
    line.push(b'\n');
    line
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_terminal_nobody_draws_holds_nothing_up() {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut sink = Sink::new(Way::to(File::from(terminal.slave)));
        for _ in 0..50 {
            sink.push(&[b'x'; 4000]);
        }
        assert!(sink.is_clogged());
        File::from(terminal.master).read_exact(&mut [0; 8000]).unwrap();
        assert_eq!(sink.state(), State::Open);
    }
}
