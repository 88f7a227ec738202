//! Copying between the caller's streams and pipes of ours, never waiting for either.
//!
//! The caller's streams belong to the shell as well: whether they block is not ours to change. So
//! standard input is read only when there is something to read, and what is written goes through
//! an opening of our own, or in pieces that are taken at once. Nothing is read before what was
//! read last is taken, so that no more than one reading of each stream is ever held.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, read, write};

use crate::error::{CommandError, Context as _, Result};
use crate::keys::{DetachKeys, Detector};

/// The most read at once, in bytes.
const AT_ONCE: usize = 16 << 10;

/// The most written at once, in bytes: `PIPE_BUF`, so that a pipe that polls as writable takes it
/// without blocking (`pipe(7)`).
const PIECE: usize = 4096;

/// What a pipe holds, in bytes, twice: reads may come in half the size asked for (`pipe(7)`).
const CAPACITY: usize = 128 << 10;

/// All that is copied for one client.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    /// What comes from standard input.
    pub(crate) input: Option<Feed>,
    /// What goes to standard output and error.
    pub(crate) relays: Vec<Relay>,
}

/// What can happen to a stream of a [`Pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Standard input has something.
    Typed,
    /// The pipe behind standard input takes more.
    Fed,
    /// A pipe has something to show.
    Said(usize),
    /// Who reads what we show takes more.
    Shown(usize),
}

/// What copying has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on.
    GoesOn,
    /// Standard input has ended, and all of it is passed on.
    InputEnded,
    /// The keys to detach were typed.
    Detached,
    /// The caller's terminal is gone.
    HungUp,
}

impl Pump {
    /// Returns what is to be waited for.
    pub(crate) fn spots(&self) -> Vec<(Spot, BorrowedFd<'_>, PollFlags)> {
        let mut spots = Vec::new();
        if let Some(feed) = &self.input {
            if feed.held.is_empty() {
                spots.push((Spot::Typed, rustix::stdio::stdin(), PollFlags::IN));
            } else {
                spots.push((Spot::Fed, feed.to.as_fd(), PollFlags::OUT));
            }
        }
        for (at, relay) in self.relays.iter().enumerate() {
            if !relay.outlet.held.is_empty() {
                spots.push((Spot::Shown(at), relay.outlet.stream.as_fd(), PollFlags::OUT));
            } else if let Some(pipe) = &relay.pipe {
                spots.push((Spot::Said(at), pipe.as_fd(), PollFlags::IN));
            }
        }
        spots
    }

    /// Copies at a spot that is ready.
    ///
    /// # Errors
    ///
    /// The quiet one if the reader of standard output has gone; `output.write` for a full disk.
    pub(crate) fn turn(&mut self, spot: Spot, events: PollFlags) -> Result<Turn> {
        match spot {
            Spot::Typed => return self.read_input(events.contains(PollFlags::HUP)),
            Spot::Fed => return Ok(self.feed()),
            Spot::Said(at) => {
                if let Some(relay) = self.relays.get_mut(at) {
                    relay.copy()?;
                }
            }
            Spot::Shown(at) => {
                if let Some(relay) = self.relays.get_mut(at) {
                    relay.outlet.flush()?;
                }
            }
        }
        Ok(Turn::GoesOn)
    }

    fn read_input(&mut self, hung_up: bool) -> Result<Turn> {
        let Some(feed) = &mut self.input else { return Ok(Turn::GoesOn) };
        let mut bytes = [0; AT_ONCE];
        let count = match read(stdin(), &mut bytes) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Turn::GoesOn),
            Err(Errno::IO) => return Ok(Turn::HungUp),
            Err(error) => {
                return Err(error).context(|| "cannot read standard input".to_owned());
            }
            Ok(count) => count,
        };
        if count == 0 {
            // A terminal that is gone ends as well, and that is not what its user has typed.
            let gone = hung_up && stdin().is_terminal();
            if !gone {
                self.input = None;
            }
            return Ok(if gone { Turn::HungUp } else { Turn::InputEnded });
        }
        if feed.detector.feed(&bytes[..count], &mut feed.held) {
            // What was typed before is still the app's.
            let _: Turn = self.feed();
            return Ok(Turn::Detached);
        }
        Ok(self.feed())
    }

    fn feed(&mut self) -> Turn {
        let Some(feed) = &mut self.input else { return Turn::GoesOn };
        let mut done = 0;
        while done < feed.held.len() {
            match write(&feed.to, &feed.held[done..]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The other side takes no more; what is typed from here on is nobody's.
                Err(_) => {
                    self.input = None;
                    return Turn::GoesOn;
                }
            }
        }
        feed.held.drain(..done);
        Turn::GoesOn
    }

    /// Copies what was there when the other side ended, and does not wait for more. What its
    /// children write later is nobody's, so no more is read than a pipe holds.
    ///
    /// # Errors
    ///
    /// As [`Pump::turn`].
    pub(crate) fn copy_the_rest(&mut self) -> Result<()> {
        for relay in &mut self.relays {
            while relay.rest > 0 && relay.outlet.held.is_empty() && relay.copy()? {
                relay.rest = relay.rest.saturating_sub(AT_ONCE);
            }
        }
        Ok(())
    }

    /// Returns what is read but not taken yet.
    pub(crate) fn held(&self) -> Vec<(Spot, BorrowedFd<'_>, PollFlags)> {
        let shown = |spot: &Spot| matches!(spot, Spot::Shown(_));
        self.spots().into_iter().filter(|(spot, ..)| shown(spot)).collect()
    }
}

/// Standard input, on its way to a pipe.
#[derive(Debug)]
pub(crate) struct Feed {
    to: OwnedFd,
    held: Vec<u8>,
    detector: Detector,
}

impl Feed {
    /// Feeds a pipe that does not block, but for `keys`.
    pub(crate) fn new(to: OwnedFd, keys: DetachKeys) -> Self {
        Self { to, held: Vec::new(), detector: Detector::new(keys) }
    }
}

/// A pipe whose content is shown to the caller.
#[derive(Debug)]
pub(crate) struct Relay {
    pipe: Option<OwnedFd>,
    outlet: Outlet,
    /// How many bytes are still read once the other side has ended.
    rest: usize,
}

impl Relay {
    /// Shows what comes out of a pipe that does not block.
    pub(crate) fn new(pipe: OwnedFd, outlet: Outlet) -> Self {
        Self { pipe: Some(pipe), outlet, rest: CAPACITY }
    }

    /// Reads once, and shows it; `false` if there is nothing now.
    fn copy(&mut self) -> Result<bool> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        let mut bytes = [0; AT_ONCE];
        match read(pipe, &mut bytes) {
            Ok(0) => {
                self.pipe = None;
                Ok(false)
            }
            Ok(count) => {
                self.outlet.held.extend_from_slice(&bytes[..count]);
                self.outlet.flush()?;
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error).context(|| "cannot read a pipe".to_owned()),
        }
    }
}

/// Standard output or error.
#[derive(Debug)]
pub(crate) struct Outlet {
    stream: OwnedFd,
    blocks: bool,
    held: Vec<u8>,
}

impl Outlet {
    /// Opens standard output.
    ///
    /// # Errors
    ///
    /// `storage` when descriptors run out.
    pub(crate) fn stdout() -> Result<Self> {
        Self::of(stdout().as_fd())
    }

    /// Opens standard error.
    ///
    /// # Errors
    ///
    /// `storage` when descriptors run out.
    pub(crate) fn stderr() -> Result<Self> {
        Self::of(stderr().as_fd())
    }

    fn of(stream: BorrowedFd<'_>) -> Result<Self> {
        let tell = || "cannot copy a standard stream".to_owned();
        let fifo =
            fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if fifo || stream.is_terminal() {
            let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            // Who may not open it anew writes to it as it is.
            if let Ok(stream) = openat(CWD, path, flags, Mode::empty()) {
                return Ok(Self { stream, blocks: false, held: Vec::new() });
            }
        }
        let stream = stream.try_clone_to_owned().context(tell)?;
        Ok(Self { stream, blocks: true, held: Vec::new() })
    }

    /// Writes what is held, as far as it is taken.
    fn flush(&mut self) -> Result<()> {
        let mut done = 0;
        while done < self.held.len() && (!self.blocks || takes_more(&self.stream)) {
            let end = self.held.len().min(done + PIECE);
            match write(&self.stream, &self.held[done..end]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The terminal is gone, which is told by its signal too.
                Err(Errno::IO) => done = self.held.len(),
                Err(Errno::PIPE) => return Err(CommandError::output_closed()),
                Err(error) => {
                    let what = "cannot write what the app has written";
                    return Err(CommandError::new("output.write", what).because(&error));
                }
            }
        }
        self.held.drain(..done);
        Ok(())
    }
}

fn takes_more(stream: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}
