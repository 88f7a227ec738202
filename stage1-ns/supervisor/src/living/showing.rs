//! Keeping apps' output and a slow reader in step.

use rustix::event::{PollFd, PollFlags, poll};

use super::Living;
use crate::events::{Interest, Token};
use crate::wall::Wall;

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

    /// Waits until the screen has taken everything, or a signal ends the wait.
    pub(super) fn show_the_rest(&mut self) {
        while let Some(screen) = self.outputs.screen()
            && screen.is_clogged()
        {
            let signals = PollFd::new(&self.signals, PollFlags::IN);
            let mut polled: Vec<_> = std::iter::once(signals)
                .chain(
                    screen.clogged().map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::OUT)),
                )
                .collect();
            let interrupted = poll(&mut polled, None).is_err()
                || polled.first().is_some_and(|signals| !signals.revents().is_empty());
            if interrupted {
                return;
            }
            screen.flush();
        }
    }
}
