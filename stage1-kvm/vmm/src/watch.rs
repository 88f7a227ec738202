//! What a thread waits for: one `epoll(7)` instance, and who is to hear of what.
//!
//! The loop gives each device a [`Watch`]: with it the device adds and removes descriptors of its
//! own, under tokens of its own, without knowing who else is waited for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Tokens from here on are the thread's; a device has those below.
pub const TOKENS: u32 = 1 << 31;

/// A device's share of what its thread waits for.
///
/// Readiness is level-triggered unless a device asks otherwise by `EventFlags::ET`. The kernel
/// refuses what is always ready, as regular files are (`EPERM`): the caller decides what then.
#[derive(Clone, Debug)]
pub struct Watch {
    epoll: Arc<OwnedFd>,
    slot: u32,
}

/// Something became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose: [`Watch::of`].
    pub slot: u32,
    /// Under which name it was added.
    pub token: u32,
    /// What it is ready for.
    pub flags: EventFlags,
}

impl Watch {
    /// A new instance, watched on behalf of slot 0.
    ///
    /// # Errors
    ///
    /// `epoll_create1(2)`: no descriptors are left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Arc::new(epoll::create(CreateFlags::CLOEXEC)?), slot: 0 })
    }

    /// The same instance on behalf of another.
    #[must_use]
    pub fn of(&self, slot: u32) -> Self {
        Self { epoll: Arc::clone(&self.epoll), slot }
    }

    /// Waits for `fd` from now on.
    ///
    /// # Errors
    ///
    /// `epoll_ctl(2)`; `EPERM` for a file that is always ready.
    pub fn add(&self, fd: impl AsFd, token: u32, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&*self.epoll, fd, self.data(token), flags)?)
    }

    /// Waits for something else of `fd` from now on.
    ///
    /// # Errors
    ///
    /// `epoll_ctl(2)`; `ENOENT` if it was not waited for.
    pub fn change(&self, fd: impl AsFd, token: u32, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&*self.epoll, fd, self.data(token), flags)?)
    }

    /// Waits for `fd` no more. What was already reported in the same round may still arrive.
    ///
    /// # Errors
    ///
    /// `epoll_ctl(2)`; `ENOENT` if it was not waited for.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&*self.epoll, fd)?)
    }

    /// Waits until something is ready, or the time has passed; none is for ever.
    ///
    /// # Errors
    ///
    /// `epoll_wait(2)`, interruptions left out: they are a round in which nothing was ready.
    pub fn wait(&self, timeout: Option<std::time::Duration>) -> io::Result<Vec<Ready>> {
        // What does not fit is for ever.
        let timeout = timeout.and_then(|left| rustix::time::Timespec::try_from(left).ok());
        let mut events = Vec::with_capacity(ROUND);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&*self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(events.iter().map(|event| ready(event.data, event.flags)).collect())
    }

    fn data(&self, token: u32) -> EventData {
        EventData::new_u64(u64::from(self.slot) << 32 | u64::from(token))
    }
}

/// Events that one wait takes at most; the others are still there in the next.
const ROUND: usize = 64;

fn ready(data: EventData, flags: EventFlags) -> Ready {
    let data = data.u64();
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    Ready { slot: half(data >> 32), token: half(data), flags }
}
