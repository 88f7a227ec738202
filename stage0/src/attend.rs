//! Attending to an app or a command: a client of the supervisor that copies, passes on signals and
//! sizes, and waits for the end.
//!
//! One loop for `exec`, `attach` and `run`; they differ in what signals mean ([`Manner`]). It
//! never blocks on anything but its one wait, so that a signal is always heard.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod_abi::control::{Reply, Request, SignalTarget};
use pod_abi::exit::{Ended, by_signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::control::Connection;
use crate::error::{CommandError, Context as _, Result};
use crate::pump::{Pump, Spot, Turn};
use crate::terminal::{self, Raw};

/// Signals that mean something while we attend.
const HEARD: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// How long a supervisor may take to start a command. It is a `clone` and an `execve` away; a
/// minute is a stopped or hopelessly loaded one, and our signals are blocked as long as we wait.
const START: Duration = Duration::from_secs(60);

/// What signals to this process mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They are the command's; when we go, it goes.
    Command,
    /// They are the app's; a second wish for the end ends its pod.
    Foreground,
    /// They are the app's.
    Guest,
    /// They end us alone: the app hears its terminal.
    OnTerminal,
}

/// How attending has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The app, or command, has ended.
    Ended(Ended),
    /// The user has typed the keys to leave.
    Detached,
    /// A signal of this number has ended us, and nothing else.
    Left(u8),
    /// The pod has ended, whatever has become of the app.
    PodEnded,
}

/// The signals of this process, as a descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    /// Whether this process was started from a terminal. Once that is gone, it can no longer be
    /// told.
    from_terminal: bool,
}

impl Signals {
    /// Blocks the signals that mean something. To be called after the last process was started,
    /// which would inherit that.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn block() -> Result<Self> {
        let set: SigSet = HEARD.into_iter().collect();
        set.thread_block().context(|| "cannot block signals".to_owned())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor =
            SignalFd::with_flags(&set, flags).context(|| "cannot receive signals".to_owned())?;
        let from_terminal =
            stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
        Ok(Self { descriptor, from_terminal })
    }

    /// Returns the next signal, if one has come.
    pub(crate) fn next(&self) -> Option<Signal> {
        let info = self.descriptor.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
    }

    /// Returns what is to be waited for.
    pub(crate) fn polled(&self) -> PollFd<'_> {
        PollFd::new(&self.descriptor, PollFlags::IN)
    }
}

/// A client at work.
#[derive(Debug)]
pub(crate) struct Attendance<'a> {
    /// The connection to the supervisor, which was asked already.
    pub(crate) connection: &'a mut Connection,
    /// The signals of this process.
    pub(crate) signals: &'a Signals,
    /// What is copied.
    pub(crate) pump: Pump,
    /// What signals mean.
    pub(crate) manner: Manner,
    /// Whom they go to.
    pub(crate) target: SignalTarget,
    /// Whether the other side has a terminal, which is to be as large as the caller's.
    pub(crate) on_terminal: bool,
    /// The caller's terminal, if it is the app's.
    pub(crate) raw: Option<Raw>,
    /// The wishes for the end so far.
    pub(crate) wishes: Wishes,
}

/// How often the end of a pod in the foreground was wished for, and by which signal last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    count: u32,
    signal: u8,
}

impl Wishes {
    /// Counts one more, and returns what the supervisor is asked: nothing at first, for the first
    /// is the app's to hear.
    pub(crate) fn add(&mut self, signal: Signal) -> Option<Request> {
        self.count += 1;
        self.signal = signal as u8;
        match self.count {
            1 => None,
            2 => Some(Request::Shutdown { grace_ms: None }),
            _ => Some(Request::Shutdown { grace_ms: Some(0) }),
        }
    }

    /// Counts the first as said: there is no app any more that could hear it.
    pub(crate) fn unheard(&mut self) {
        self.count = self.count.max(1);
    }

    /// Returns the status of a foreground that was ended by signals, if it was.
    pub(crate) fn status(self) -> Option<u8> {
        (self.count > 1).then(|| by_signal(self.signal))
    }
}

impl Attendance<'_> {
    /// Attends until the end. The caller's terminal is as it was when this returns.
    ///
    /// # Errors
    ///
    /// What the supervisor reports, `pod.unreachable`, and what the caller's streams say.
    pub(crate) fn attend(&mut self) -> Result<Outcome> {
        let outcome = self.attend_to_the_end();
        self.raw = None;
        outcome
    }

    fn attend_to_the_end(&mut self) -> Result<Outcome> {
        let asked = Instant::now();
        let mut started = false;
        loop {
            while let Some(reply) = self.connection.take()? {
                match reply {
                    Reply::ExecEnded { exit } | Reply::AppEnded { exit } => {
                        self.finish()?;
                        return Ok(Outcome::Ended(exit));
                    }
                    // What is refused later is a signal or a size, which came too late.
                    Reply::Refused(report) if !started => {
                        return Err(CommandError::reported(report.tamed()));
                    }
                    Reply::Refused(report) if self.manner == Manner::Command => {
                        self.finish()?;
                        return Err(CommandError::reported(report.tamed()));
                    }
                    Reply::ExecStarted | Reply::Attached => started = true,
                    Reply::Refused(_)
                    | Reply::Done
                    | Reply::Status(_)
                    | Reply::Stats(_)
                    | Reply::Processes(_) => {}
                }
            }
            let left = (!started).then(|| START.saturating_sub(asked.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.connection.silent());
            }
            if let Some(outcome) = self.wait(left)? {
                return Ok(outcome);
            }
        }
    }

    /// Waits for something, and deals with it.
    fn wait(&mut self, left: Option<Duration>) -> Result<Option<Outcome>> {
        let spots = self.pump.spots();
        let mut fds = vec![PollFd::new(&*self.connection, PollFlags::IN), self.signals.polled()];
        fds.extend(spots.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        let ready = wait_for(&mut fds, left)?;
        let spots: Vec<(Spot, PollFlags)> =
            spots.iter().map(|(spot, ..)| *spot).zip(ready.iter().skip(2).copied()).collect();
        drop(fds);
        for (spot, events) in spots.into_iter().filter(|(_, events)| !events.is_empty()) {
            match self.pump.turn(spot, events)? {
                Turn::GoesOn => {}
                Turn::InputEnded => self.end_input()?,
                Turn::Detached => return Ok(Some(Outcome::Detached)),
                Turn::HungUp => return Ok(Some(Outcome::Left(Signal::SIGHUP as u8))),
            }
        }
        while let Some(signal) = self.signals.next() {
            if let Some(outcome) = self.obey(signal)? {
                return Ok(Some(outcome));
            }
        }
        if ready.first().is_some_and(|events| !events.is_empty()) && !self.connection.receive()? {
            self.finish()?;
            return Ok(Some(Outcome::PodEnded));
        }
        Ok(None)
    }

    /// Tells that our input has ended because the caller's has, and not because we have.
    fn end_input(&mut self) -> Result<()> {
        match self.manner {
            Manner::Foreground | Manner::OnTerminal | Manner::Guest => {
                self.connection.request(&Request::EndInput, &[])
            }
            Manner::Command => Ok(()),
        }
    }

    fn obey(&mut self, signal: Signal) -> Result<Option<Outcome>> {
        match signal {
            Signal::SIGWINCH => self.resize()?,
            Signal::SIGCONT => {
                if let Some(raw) = &self.raw {
                    raw.again()?;
                    self.resize()?;
                }
            }
            signal => return self.pass_on(signal),
        }
        Ok(None)
    }

    fn resize(&mut self) -> Result<()> {
        match terminal::size().filter(|_| self.on_terminal) {
            Some(size) => self.connection.request(&Request::Resize { size }, &[]),
            None => Ok(()),
        }
    }

    fn pass_on(&mut self, signal: Signal) -> Result<Option<Outcome>> {
        let number = signal as u8;
        let ends = matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT);
        match self.manner {
            Manner::OnTerminal => return Ok(Some(Outcome::Left(number))),
            // The terminal we were started from is gone, which is no wish about the pod.
            Manner::Foreground | Manner::Guest
                if signal == Signal::SIGHUP && self.signals.from_terminal =>
            {
                return Ok(Some(Outcome::Left(number)));
            }
            Manner::Foreground if ends => {
                if let Some(request) = self.wishes.add(signal) {
                    self.connection.request(&request, &[])?;
                    return Ok(None);
                }
            }
            Manner::Command | Manner::Foreground | Manner::Guest => {}
        }
        let request = Request::Signal { target: self.target.clone(), signal: number };
        self.connection.request(&request, &[])?;
        Ok(None)
    }

    /// Shows what was said last, and waits until it is taken or a signal says that it need not be.
    fn finish(&mut self) -> Result<()> {
        self.pump.copy_the_rest()?;
        loop {
            let held = self.pump.held();
            if held.is_empty() {
                return Ok(());
            }
            let mut fds = vec![self.signals.polled()];
            fds.extend(held.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            let ready = wait_for(&mut fds, None)?;
            let spots: Vec<Spot> = held.iter().map(|(spot, ..)| *spot).collect();
            drop(fds);
            while let Some(signal) = self.signals.next() {
                if !matches!(signal, Signal::SIGWINCH | Signal::SIGCONT) {
                    return Ok(());
                }
            }
            for (spot, events) in spots.into_iter().zip(&ready[1..]) {
                if !events.is_empty() {
                    self.pump.turn(spot, *events)?;
                }
            }
            self.pump.copy_the_rest()?;
        }
    }
}

/// Waits until one of `fds` is ready, and returns what each is ready for.
fn wait_for(fds: &mut [PollFd<'_>], left: Option<Duration>) -> Result<Vec<PollFlags>> {
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context(|| "cannot wait for the pod".to_owned()),
    }
    Ok(fds.iter().map(PollFd::revents).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_is_the_apps_the_second_the_pods_and_the_third_is_final() {
        let mut wishes = Wishes::default();
        assert_eq!(wishes.add(Signal::SIGINT), None);
        assert_eq!(wishes.status(), None);
        let stop = |grace_ms| Some(Request::Shutdown { grace_ms });
        assert_eq!(wishes.add(Signal::SIGTERM), stop(None));
        assert_eq!(wishes.add(Signal::SIGTERM), stop(Some(0)));
        assert_eq!(wishes.status(), Some(143));
        let mut late = Wishes::default();
        late.unheard();
        assert_eq!((late.status(), late.add(Signal::SIGINT)), (None, stop(None)));
    }
}
