//! The standard streams of a command run in an app, or of an app one is attached to.
//!
//! A command gets what it may keep: a program of a hostile image that forks away still holds its
//! descriptors when the command has ended, and a terminal among them would let it read what the
//! caller types next, whichever of the three it is. So the caller's terminal never enters a pod:
//! what comes from it and what goes to it passes through pipes that are copied here ([`Pump`]).
//! Files and pipes are handed to a command as they are.

use std::fs::File;
use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Context as _, Result};
use crate::keys::DetachKeys;
use crate::pump::{Feed, Outlet, Pump, Relay};

/// The three streams to hand over, and what is to be copied meanwhile.
#[derive(Debug)]
pub(crate) struct Streams {
    handed: [OwnedFd; 3],
    pump: Pump,
}

/// What is made of the caller's standard input.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Nothing; the other side reads an end at once.
    None,
    /// It is passed on, but for keys that mean us.
    Passed(DetachKeys),
}

impl Streams {
    /// Makes the streams of a command: what is no terminal is handed over as it is.
    ///
    /// # Errors
    ///
    /// `storage` when descriptors run out.
    pub(crate) fn of_a_command(input: Input) -> Result<Self> {
        let mut pump = Pump::default();
        let stdin = match input {
            Input::Passed(_) if !stdin().is_terminal() => copy_of(stdin().as_fd())?,
            Input::Passed(keys) => passed(keys, &mut pump)?,
            Input::None => nothing()?,
        };
        let handed = [
            stdin,
            if stdout().is_terminal() {
                shown(Outlet::stdout()?, &mut pump)?
            } else {
                copy_of(stdout().as_fd())?
            },
            if std::io::stderr().is_terminal() {
                shown(Outlet::stderr()?, &mut pump)?
            } else {
                copy_of(std::io::stderr().as_fd())?
            },
        ];
        Ok(Self { handed, pump })
    }

    /// Makes the streams of a client that is attached, or whose command has a terminal: pipes, all
    /// of them.
    ///
    /// # Errors
    ///
    /// `storage` when descriptors run out.
    pub(crate) fn of_a_client(input: Input) -> Result<Self> {
        let mut pump = Pump::default();
        let stdin = match input {
            Input::Passed(keys) => passed(keys, &mut pump)?,
            Input::None => pipe()?.0,
        };
        let handed =
            [stdin, shown(Outlet::stdout()?, &mut pump)?, shown(Outlet::stderr()?, &mut pump)?];
        Ok(Self { handed, pump })
    }

    /// Returns the descriptors for standard input, output and error.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        self.handed.each_ref().map(AsFd::as_fd)
    }

    /// Lets the descriptors go, for the other side has them, and returns what is to be copied.
    pub(crate) fn handed_over(self) -> Pump {
        self.pump
    }
}

fn passed(keys: DetachKeys, pump: &mut Pump) -> Result<OwnedFd> {
    let (read, write) = pipe()?;
    unblocked(&write)?;
    pump.input = Some(Feed::new(write, keys));
    Ok(read)
}

fn shown(outlet: Outlet, pump: &mut Pump) -> Result<OwnedFd> {
    let (read, write) = pipe()?;
    // Only our end: the command expects its output to wait for it.
    unblocked(&read)?;
    pump.relays.push(Relay::new(read, outlet));
    Ok(write)
}

fn nothing() -> Result<OwnedFd> {
    Ok(File::open("/dev/null").context(|| "cannot open `/dev/null`".to_owned())?.into())
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context(|| "cannot make a pipe".to_owned())
}

fn unblocked(pipe: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(pipe, true).context(|| "cannot set up a pipe".to_owned())
}

fn copy_of(stream: BorrowedFd<'_>) -> Result<OwnedFd> {
    stream.try_clone_to_owned().context(|| "cannot copy a standard stream".to_owned())
}
