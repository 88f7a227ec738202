//! Signals: what a person or a service manager tells the supervisor by `kill(2)`.
//!
//! All of them are blocked and read from a descriptor, so that nothing interrupts anything. The
//! mask is inherited by children: whoever executes something empties it first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The number of SIGHUP.
pub(crate) const SIGHUP: u8 = 1;

/// The number of SIGKILL.
pub(crate) const SIGKILL: u8 = 9;

/// What a signal means for the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// End the pod in order.
    End(u8),
    /// Pass it on to the apps.
    Forward(u8),
}

const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
const FORWARDED: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// The signals of this process as a descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals that have a meaning and opens their descriptor.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in ENDING.iter().chain(&FORWARDED) {
            set.add(*signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { descriptor: SignalFd::with_flags(&set, flags)? })
    }

    /// Returns the next signal's meaning, if one has come.
    pub(crate) fn next(&self) -> Option<Meaning> {
        let info = self.descriptor.read_signal().ok()??;
        meaning(info.ssi_signo)
    }
}

fn meaning(number: u32) -> Option<Meaning> {
    let is = |signal: &&Signal| number == (**signal as i32).unsigned_abs();
    let byte = u8::try_from(number).ok()?;
    if ENDING.iter().any(|signal| is(&signal)) {
        Some(Meaning::End(byte))
    } else {
        FORWARDED.iter().any(|signal| is(&signal)).then_some(Meaning::Forward(byte))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Returns a descriptor that is readable once somebody wants the pod to end, by a lost terminal as
/// well if `or_hangup`. The signals are blocked and read elsewhere: here they are only seen.
pub(crate) fn ending(or_hangup: bool) -> io::Result<SignalFd> {
    let asks = |signal: &&Signal| or_hangup || **signal != Signal::SIGHUP;
    let set: SigSet = ENDING.iter().filter(asks).copied().collect();
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Into::into)
}

/// Empties the signal mask, as whoever is executed next expects it.
pub(crate) fn restore() -> io::Result<()> {
    SigSet::empty().thread_set_mask().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_with_a_meaning_have_one() {
        assert_eq!(meaning(15), Some(Meaning::End(15)));
        assert_eq!(meaning(2), Some(Meaning::End(2)));
        assert_eq!(meaning(28), Some(Meaning::Forward(28)));
        assert_eq!(meaning(17), None);
        assert_eq!(meaning(300), None);
    }
}
