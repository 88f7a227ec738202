//! One descriptor that becomes readable when a guest, or what it needs, wants to be heard, or when
//! a time is over that it was given.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_gettime, timerfd_settime,
};
use supervisor::{During, Failure};

/// The descriptor: an epoll over the others, so that one can leave it for good.
#[derive(Debug)]
pub(crate) struct Alarm {
    epoll: OwnedFd,
    bell: OwnedFd,
    timer: OwnedFd,
}

impl Alarm {
    /// Makes one that watches nothing yet.
    pub(crate) fn new() -> Result<Self, Failure> {
        let making = || "cannot make an alarm, epoll_create1()";
        let epoll = epoll::create(CreateFlags::CLOEXEC).during(making)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).during(making)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).during(making)?;
        let alarm = Self { epoll, bell, timer };
        alarm.watch(&alarm.bell)?;
        alarm.watch(&alarm.timer)?;
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

    /// Rings after a time, of which [`Alarm::has_rung_late`] tells; nothing happens if it is to
    /// already.
    pub(crate) fn ring_after(&self, time: Duration) {
        if timerfd_gettime(&self.timer)
            .is_ok_and(|left| (left.it_value.tv_sec, left.it_value.tv_nsec) != (0, 0))
        {
            return;
        }
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec::try_from(time).unwrap_or(none);
        let once = Itimerspec { it_interval: none, it_value };
        // A time that is one and a timer that is one cannot be refused.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }

    /// Tells whether the time of [`Alarm::ring_after`] is over, once.
    pub(crate) fn has_rung_late(&self) -> bool {
        rustix::io::read(&self.timer, &mut [0; 8][..]).is_ok()
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
