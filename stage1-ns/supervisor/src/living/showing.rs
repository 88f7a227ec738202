//! Keeping apps' output and a slow reader in step.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Living;
use crate::events::{Interest, Token};
use crate::signals::Meaning;
use crate::wall::Wall;

/// How long a reader of ours is given for the rest of a pod that was asked to end: enough for one
/// that reads at all.
const LAST_LOOK: Duration = Duration::from_secs(2);

impl<W: Wall> Living<'_, W> {
    /// Keeps the apps' streams out of the epoll as long as the screen takes nothing.
    pub(super) fn pause_or_resume(&mut self) {
        let clogged = self.outputs.is_clogged();
        if clogged == self.paused {
            return;
        }
        self.paused = clogged;
        for (place, source, pipe) in self.outputs.open() {
            if clogged {
                self.events.remove(pipe);
            } else {
                // Lost output at worst; the kernel has no memory for one more entry.
                let _ = self.events.add(pipe, Token::Stream(place, source), Interest::Read);
            }
        }
        self.watch_screen();
    }

    pub(super) fn watch_screen(&mut self) {
        let paused = self.paused;
        let Some(screen) = self.outputs.screen() else { return };
        for stream in screen.both() {
            self.events.remove(stream);
        }
        if paused {
            for stream in screen.clogged() {
                // A file that no epoll takes is always writable and never clogged.
                let _ = self.events.add(stream, Token::Screen, Interest::Write);
            }
        }
    }

    /// Waits until the screen has taken everything, but not for long if somebody has asked for the
    /// end. A signal that would end the pod ends the wait, and so does whoever comes to the control
    /// socket: there is nothing left to ask for but the end. What was not shown is in the log.
    pub(super) fn show_the_rest(&mut self) {
        let deadline = self.stopping.map(|_| Instant::now() + LAST_LOOK);
        while let Some(screen) = self.outputs.screen()
            && screen.is_clogged()
        {
            let knock = PollFd::new(&self.control, PollFlags::IN);
            let signals = PollFd::new(&self.signals, PollFlags::IN);
            let screens =
                screen.clogged().map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::OUT));
            let mut polled: Vec<_> = [knock, signals].into_iter().chain(screens).collect();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polled, left.as_ref()) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if polled.first().is_some_and(|knock| !knock.revents().is_empty()) {
                return;
            }
            while let Some(meaning) = self.signals.next() {
                if matches!(meaning, Meaning::End(_)) {
                    return;
                }
            }
            screen.flush();
        }
    }
}
