//! The one place that waits: an epoll over everything the supervisor listens to.
//!
//! Each descriptor is registered under a [`Token`] that says what it is; the number the kernel
//! keeps is only ever made and read here.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::stream::Source;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Token {
    /// The signals of this process.
    Signals,
    /// The stream to PID 1.
    Channel,
    /// The end of everything behind the wall.
    End,
    /// The control socket.
    Listener,
    /// A reader of ours that takes more again.
    Screen(Source),
    /// A client, by its number.
    Client(u32),
    /// A stream of an app, by the app's place.
    Stream(u32, Source),
    /// The input of an app, by the app's place.
    Input(u32),
    /// What an attached client says, by its number.
    Feed(u32),
    /// Where an attached client hears, by its number.
    Outlet(u32, Source),
    /// What tells that memory may have run out in an app.
    Memory,
    /// The end of the child that tells machined.
    Registrar,
}

impl Token {
    fn number(self) -> u64 {
        let (kind, which) = match self {
            Self::Signals => (0, 0),
            Self::Channel => (1, 0),
            Self::End => (2, 0),
            Self::Listener => (3, 0),
            Self::Screen(Source::Stdout) => (4, 0),
            Self::Screen(Source::Stderr) => (4, 1),
            Self::Client(client) => (5, client),
            Self::Stream(app, Source::Stdout) => (6, app),
            Self::Stream(app, Source::Stderr) => (7, app),
            Self::Input(app) => (8, app),
            Self::Feed(client) => (9, client),
            Self::Outlet(client, Source::Stdout) => (10, client),
            Self::Outlet(client, Source::Stderr) => (11, client),
            Self::Memory => (12, 0),
            Self::Registrar => (13, 0),
        };
        (kind << 32) | u64::from(which)
    }

    fn from_number(number: u64) -> Option<Self> {
        let which = u32::try_from(number & 0xffff_ffff).ok()?;
        Some(match number >> 32 {
            0 => Self::Signals,
            1 => Self::Channel,
            2 => Self::End,
            3 => Self::Listener,
            4 if which == 0 => Self::Screen(Source::Stdout),
            4 => Self::Screen(Source::Stderr),
            5 => Self::Client(which),
            6 => Self::Stream(which, Source::Stdout),
            7 => Self::Stream(which, Source::Stderr),
            8 => Self::Input(which),
            9 => Self::Feed(which),
            10 => Self::Outlet(which, Source::Stdout),
            11 => Self::Outlet(which, Source::Stderr),
            12 => Self::Memory,
            13 => Self::Registrar,
            _ => return None,
        })
    }
}

/// Whether a descriptor is waited for to be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::Both => EventFlags::IN | EventFlags::OUT,
        }
    }
}

/// The epoll.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: OwnedFd,
}

impl Events {
    /// Makes an empty one.
    pub(crate) fn new() -> rustix::io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Waits for `source` from now on.
    pub(crate) fn add(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(token.number()), interest.flags())
    }

    /// Changes what `source` is waited for.
    pub(crate) fn change(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> rustix::io::Result<()> {
        epoll::modify(&self.epoll, source, EventData::new_u64(token.number()), interest.flags())
    }

    /// Waits no more for `source`.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // It may not have been waited for; then there is nothing to undo.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits until something happens or `deadline` is over, and returns what.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> rustix::io::Result<Vec<Token>> {
        let mut space = [MaybeUninit::<Event>::uninit(); 16];
        let timeout = deadline.map(|deadline| {
            // Rounded up: a wait that ends a moment before its deadline would spin until then.
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left + Duration::from_millis(1)).unwrap_or(FOR_LONG)
        });
        match epoll::wait(&self.epoll, &mut space[..], timeout.as_ref()) {
            Ok((events, _)) => {
                Ok(events.iter().filter_map(|event| Token::from_number(event.data.u64())).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

const FOR_LONG: Timespec = Timespec { tv_sec: 3600, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_its_number() {
        for token in [
            Token::Signals,
            Token::Channel,
            Token::End,
            Token::Listener,
            Token::Memory,
            Token::Registrar,
            Token::Screen(Source::Stdout),
            Token::Screen(Source::Stderr),
            Token::Input(3),
            Token::Feed(4),
            Token::Outlet(5, Source::Stdout),
            Token::Outlet(6, Source::Stderr),
            Token::Client(u32::MAX),
            Token::Stream(63, Source::Stdout),
            Token::Stream(0, Source::Stderr),
        ] {
            assert_eq!(Token::from_number(token.number()), Some(token));
        }
    }
}
