//! The one place that waits: an epoll over everything the guest listens to.
//!
//! All of it edge-triggered: whoever is told carries on until there is nothing more, or remembers
//! that there is. So nothing is ever registered anew because somebody stands still.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use supervisor::{During, Failure};

/// How many events are taken at once.
const EVENTS: usize = 64;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The stream of questions.
    Wall,
    /// The stream of frames for stage2-init.
    Inner,
    /// The socket of stage2-init.
    Init,
    /// The end of stage2-init.
    End,
    /// Children that have ended.
    Children,
    /// What tells that memory may have run out.
    Memory,
    /// A socket of a stream, by its number.
    Stream(u32),
    /// Our end of an app's pipe or terminal, by the number of its stream.
    Local(u32),
}

impl Token {
    fn number(self) -> u64 {
        let (kind, which) = match self {
            Self::Wall => (0, 0),
            Self::Inner => (1, 0),
            Self::Init => (2, 0),
            Self::End => (3, 0),
            Self::Children => (4, 0),
            Self::Memory => (5, 0),
            Self::Stream(number) => (6, number),
            Self::Local(number) => (7, number),
        };
        (kind << 32) | u64::from(which)
    }

    fn from_number(number: u64) -> Option<Self> {
        let which = u32::try_from(number & 0xffff_ffff).ok()?;
        Some(match number >> 32 {
            0 => Self::Wall,
            1 => Self::Inner,
            2 => Self::Init,
            3 => Self::End,
            4 => Self::Children,
            5 => Self::Memory,
            6 => Self::Stream(which),
            7 => Self::Local(which),
            _ => return None,
        })
    }
}

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// To what.
    pub(crate) token: Token,
    /// Whether it is an error, such as a pipe whose reader has gone.
    pub(crate) error: bool,
}

/// The epoll.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: OwnedFd,
}

impl Events {
    /// Makes an empty one.
    pub(crate) fn new() -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).during(|| "epoll_create1()")?;
        Ok(Self { epoll })
    }

    /// Waits for anything to happen to `source` from now on.
    pub(crate) fn add(&self, source: impl AsFd, token: Token) -> Result<(), Failure> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, source, EventData::new_u64(token.number()), flags)
            .during(|| "cannot wait for a descriptor, epoll_ctl()")
    }

    /// Waits until something happens or `deadline` is over, and returns what.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Vec<Happening>, Failure> {
        let mut space = [MaybeUninit::<Event>::uninit(); EVENTS];
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a wait that ends a moment before its deadline would spin until then.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            Timespec::try_from(left).unwrap_or(FOR_LONG)
        });
        let happening = |event: &Event| {
            let token = Token::from_number(event.data.u64())?;
            let flags = event.flags;
            Some(Happening { token, error: flags.contains(EventFlags::ERR) })
        };
        match epoll::wait(&self.epoll, &mut space[..], timeout.as_ref()) {
            Ok((events, _)) => Ok(events.iter().filter_map(happening).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error).during(|| "cannot wait, epoll_wait()"),
        }
    }
}

const FOR_LONG: Timespec = Timespec { tv_sec: 3600, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_its_number() {
        use Token::{Children, End, Init, Inner, Local, Memory, Stream, Wall};
        for token in [Wall, Inner, Init, End, Children, Memory, Stream(u32::MAX), Local(7)] {
            assert_eq!(Token::from_number(token.number()), Some(token));
        }
    }
}
