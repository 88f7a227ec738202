//! The standard streams of a command run in an app.
//!
//! A command gets what it may keep: a program of a hostile image that forks away still holds its
//! descriptors when the command has ended, and a terminal among them would let it read what the
//! caller types next, whichever of the three it is. So the caller's terminal never enters a pod:
//! output to it goes through a pipe that is copied here, and input from it is empty. Files and
//! pipes are handed over as they are.

use std::fs::File;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Context as _, Result};
use crate::ui;

/// The three streams to hand over, and those to copy meanwhile.
#[derive(Debug)]
pub(crate) struct Streams {
    handed: [OwnedFd; 3],
    relays: Vec<Relay>,
}

/// A pipe whose content goes to the caller's terminal.
#[derive(Debug)]
pub(crate) struct Relay {
    pipe: OwnedFd,
    to: fn(&[u8]) -> Result<()>,
}

impl Streams {
    /// Takes the streams of this process.
    ///
    /// # Errors
    ///
    /// `io` when descriptors run out.
    pub(crate) fn of_this_process() -> Result<Self> {
        let mut relays = Vec::new();
        let input = if stdin().is_terminal() {
            File::open("/dev/null").context(|| "cannot open `/dev/null`".to_owned())?.into()
        } else {
            copy_of(stdin().as_fd())?
        };
        let handed = [
            input,
            output(stdout().as_fd(), ui::bytes_out, &mut relays)?,
            output(
                stderr().as_fd(),
                |bytes| {
                    ui::bytes_note(bytes);
                    Ok(())
                },
                &mut relays,
            )?,
        ];
        Ok(Self { handed, relays })
    }

    /// Returns the descriptors for standard input, output and error.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        self.handed.each_ref().map(AsFd::as_fd)
    }

    /// Lets the descriptors go, for the command has them, and returns what is to be copied.
    pub(crate) fn handed_over(self) -> Vec<Relay> {
        self.relays
    }
}

impl Relay {
    /// Copies what is there and does not wait for more; `false` when nothing can come any more.
    ///
    /// # Errors
    ///
    /// What the terminal says.
    pub(crate) fn copy(&self) -> Result<bool> {
        let mut bytes = [0; 8192];
        loop {
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => (self.to)(&bytes[..count])?,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error).context(|| "cannot read a pipe".to_owned()),
            }
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn output(
    stream: BorrowedFd<'_>,
    to: fn(&[u8]) -> Result<()>,
    relays: &mut Vec<Relay>,
) -> Result<OwnedFd> {
    if !stream.is_terminal() {
        return copy_of(stream);
    }
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).context(|| "cannot make a pipe".to_owned())?;
    // Only our end: the command expects its output to wait for it.
    rustix::io::ioctl_fionbio(&read, true).context(|| "cannot set up a pipe".to_owned())?;
    relays.push(Relay { pipe: read, to });
    Ok(write)
}

fn copy_of(stream: BorrowedFd<'_>) -> Result<OwnedFd> {
    stream.try_clone_to_owned().context(|| "cannot copy a standard stream".to_owned())
}
