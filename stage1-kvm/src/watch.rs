//! Waiting for a guest, with everything beside that can end the wait.
//!
//! Whoever waits for a guest alone waits for ever for one that is gone. So each wait here ends by
//! what was waited for, by the end of a process the guest needs, by a person who does not want to
//! wait any longer, or by a deadline.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What ends a wait beside what is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Watch<'w> {
    /// The monitor's process.
    pub(crate) monitor: BorrowedFd<'w>,
    /// The processes of servers of volumes.
    pub(crate) servers: Vec<BorrowedFd<'w>>,
    /// Signals that ask for the pod's end.
    pub(crate) signals: Option<BorrowedFd<'w>>,
    /// What a question becomes in whose wait they come.
    pub(crate) interrupted: Interrupted,
    /// When the wait is over.
    pub(crate) deadline: Instant,
}

/// What becomes of a question when the pod is asked to end before its answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// Nothing: its machine ends, for no app runs in it yet.
    Void,
    /// Its answer is owed: the machine goes on, for its apps are to end in order.
    Owed,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// What was waited for has come.
    Come,
    /// The monitor has ended.
    Ended,
    /// A server has ended: its number in the row.
    ServerEnded(usize),
    /// The pod is to end.
    Interrupted,
    /// The deadline is over.
    Late,
}

impl Watch<'_> {
    /// Returns the same with another deadline.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Returns the same, deaf to signals.
    pub(crate) fn deaf(&self) -> Self {
        Self { signals: None, ..self.clone() }
    }

    /// Waits for `interest` in a descriptor. What has come counts before what has ended.
    pub(crate) fn wait(&self, awaited: impl AsFd, interest: PollFlags) -> Waited {
        loop {
            let mut polled = vec![
                PollFd::from_borrowed_fd(awaited.as_fd(), interest),
                PollFd::from_borrowed_fd(self.monitor, PollFlags::IN),
            ];
            let signals = self.signals.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let first_server = 2 + usize::from(signals.is_some());
            polled.extend(signals);
            let servers = self.servers.iter();
            polled.extend(servers.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
            match poll(&mut polled, Some(&timeout)) {
                Err(Errno::INTR) => continue,
                Err(_) | Ok(0) => return Waited::Late,
                Ok(_) => {}
            }
            let is_up = |at: usize| polled.get(at).is_some_and(|one| !one.revents().is_empty());
            if is_up(0) {
                return Waited::Come;
            }
            if is_up(1) {
                return Waited::Ended;
            }
            if first_server == 3 && is_up(2) {
                return Waited::Interrupted;
            }
            if let Some(server) = (0..self.servers.len()).find(|at| is_up(first_server + at)) {
                return Waited::ServerEnded(server);
            }
        }
    }
}
