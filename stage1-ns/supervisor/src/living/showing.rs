//! Keeping apps' output and a slow reader in step.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Living;
use crate::events::Token;
use crate::records;
use crate::signals::Meaning;
use crate::wall::Wall;

/// How long a reader of ours is given for the rest of a pod that was asked to end: enough for one
/// that reads at all.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How long a client that has come to a running pod may take nothing of the rest before it is given
/// up: it is stopped, or hangs, and must not keep a pod that is over. The one that runs the pod is
/// waited for as long as it lives, as a terminal is: somebody reads on tomorrow, in a pager.
const STALLED: Duration = Duration::from_secs(20);

impl<W: Wall> Living<'_, W> {
    /// Has the epoll wait for exactly those streams that may be read or written now: what nobody
    /// takes is not read.
    pub(super) fn watch_streams(&mut self) {
        if !self.outputs.is_stale() {
            return;
        }
        let mut watched = BTreeSet::new();
        for (token, stream, interest) in self.outputs.wanted() {
            match (interest, self.watched.contains(&token)) {
                (Some(_), true) => {
                    watched.insert(token);
                }
                // A file that no epoll takes is always ready and never clogged.
                (Some(interest), false) => {
                    if self.events.add(stream, token, interest).is_ok() {
                        watched.insert(token);
                    }
                }
                (None, true) => self.events.remove(stream),
                (None, false) => {}
            }
        }
        // What has closed has left the epoll with its descriptor.
        self.watched = watched;
    }

    /// Passes on what a stream has, and what follows from that.
    pub(super) fn turn_stream(&mut self, token: Token) {
        let now = records::now();
        match token {
            Token::Stream(place, source) => self.outputs.turn(place, source, now),
            Token::Screen(_) => {
                if let Some(screen) = self.outputs.screen() {
                    screen.flush();
                }
            }
            Token::Input(place) => self.outputs.flush_input(place),
            Token::Feed(number) => self.outputs.feed(number),
            Token::Outlet(number, _) => {
                self.outputs.flush_client(number);
                self.conclude();
            }
            Token::Signals
            | Token::Channel
            | Token::End
            | Token::Listener
            | Token::Memory
            | Token::Registrar
            | Token::Client(_) => {}
        }
        self.outputs.pass_on_hang_up(now);
    }

    /// Tells those whose app, or process, has ended for good, once all it has said is written.
    pub(super) fn conclude(&mut self) {
        let concluded = self.outputs.concluded(records::now());
        if !concluded.is_empty() {
            self.record();
        }
        for (number, finale) in concluded {
            let Some(client) = self.control.client(number) else { continue };
            client.waiting = None;
            if client.reply(&finale).is_err() {
                self.hang_up(number);
            } else {
                self.await_room(number);
            }
        }
    }

    /// Waits until the screen and all attached clients have taken everything, but not for long if
    /// somebody has asked for the end. A signal that would end the pod ends the wait, and so does
    /// whoever comes to the control socket: there is nothing left to ask for but the end. What was
    /// not shown is in the log.
    pub(super) fn show_the_rest(&mut self) {
        let deadline = self.stopping.map(|_| Instant::now() + LAST_LOOK);
        while let Some(left) = self.time_left(deadline) {
            if !self.look_once(left) {
                return;
            }
            while let Some(meaning) = self.signals.next() {
                if matches!(meaning, Meaning::End(_)) {
                    return;
                }
            }
        }
    }

    /// Returns how long to wait for those that have not taken everything; `None` if all have.
    fn time_left(&self, deadline: Option<Instant>) -> Option<Option<Duration>> {
        let held_up = self.outputs.held_up();
        if held_up.is_empty() {
            return None;
        }
        let stays = |token: &Token| match token {
            Token::Outlet(number, _) => self.outputs.runs_the_pod(*number),
            _ => true,
        };
        let stalled = (!held_up.iter().any(|(token, _)| stays(token))).then_some(STALLED);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Some(left.or(stalled))
    }

    /// Waits once, and writes what is taken; `false` if the wait is over.
    fn look_once(&mut self, left: Option<Duration>) -> bool {
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let clients = self.outputs.clients();
        let mut ready = Vec::new();
        {
            let knock = PollFd::new(&self.control, PollFlags::IN);
            let signals = PollFd::new(&self.signals, PollFlags::IN);
            let mut polled = vec![knock, signals];
            let (mut tokens, held_up) = (Vec::new(), self.outputs.held_up());
            for (token, stream) in &held_up {
                tokens.push(*token);
                polled.push(PollFd::from_borrowed_fd(*stream, PollFlags::OUT));
            }
            for number in clients {
                if let Some(client) = self.control.known(number) {
                    tokens.push(Token::Client(number));
                    polled.push(PollFd::new(client, PollFlags::IN));
                }
            }
            match poll(&mut polled, left.as_ref()) {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
            let mut came = polled.iter().map(|one| !one.revents().is_empty());
            if came.next() == Some(true) {
                return false;
            }
            let rest = tokens.into_iter().zip(came.skip(1));
            ready.extend(rest.filter(|(_, came)| *came).map(|(token, _)| token));
        }
        for token in ready {
            match token {
                // Whatever it still asks for, the pod is over; only that it goes away counts.
                Token::Client(number) => {
                    if self.control.client(number).is_some_and(|client| client.read().is_err()) {
                        self.hang_up(number);
                    }
                }
                token => self.turn_stream(token),
            }
        }
        true
    }
}
