//! One descriptor that becomes readable when a guest, or what it needs, wants to be heard.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use supervisor::{During, Failure};

/// The descriptor: an epoll over the others, so that one can leave it for good.
#[derive(Debug)]
pub(crate) struct Alarm {
    epoll: OwnedFd,
    bell: OwnedFd,
}

impl Alarm {
    /// Makes one that watches nothing yet.
    pub(crate) fn new() -> Result<Self, Failure> {
        let making = || "cannot make an alarm, epoll_create1()";
        let epoll = epoll::create(CreateFlags::CLOEXEC).during(making)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).during(making)?;
        let alarm = Self { epoll, bell };
        alarm.watch(&alarm.bell)?;
        Ok(alarm)
    }

    /// Watches a descriptor from now on.
    pub(crate) fn watch(&self, what: &OwnedFd) -> Result<(), Failure> {
        epoll::add(&self.epoll, what, EventData::new_u64(0), EventFlags::IN)
            .during(|| "cannot watch a guest, epoll_ctl()")
    }

    /// Does not watch it any more: one that has ended would ring for ever.
    pub(crate) fn forget(&self, what: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, what); // it may have been forgotten already
    }

    /// Rings until [`Alarm::quiet`].
    pub(crate) fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes()); // full is loud enough
    }

    /// Ends what [`Alarm::ring`] began.
    pub(crate) fn quiet(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8][..]); // it may not have rung
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
