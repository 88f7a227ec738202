//! Serving the clients of the control socket.

use std::os::fd::OwnedFd;

use pod_abi::Report;
use pod_abi::control::{Reply, Request};
use pod_abi::inner::{Target, ToInit};

use super::{Living, Stopping};
use crate::client::{Over, Waiting};
use crate::control::Replied;
use crate::events::{Interest, Token};
use crate::requests::{self, Answer};
use crate::signals::SIGKILL;
use crate::wall::Wall;

impl<W: Wall> Living<'_, W> {
    /// Replies to those who wait for `waiting`, and tells whether there was anybody.
    ///
    /// What they have waited for is in the record before: they look at it next.
    pub(super) fn reply(&mut self, waiting: &Waiting, reply: &Reply) -> bool {
        if self.control.is_awaited(waiting) {
            self.record();
        }
        let replied = self.control.reply(waiting, reply);
        for Replied { number, over } in &replied {
            if *over {
                self.hang_up(*number);
            } else {
                self.await_room(*number);
            }
        }
        !replied.is_empty()
    }

    pub(super) fn kill_exec(&mut self, id: u32) {
        self.tell(&ToInit::Signal { target: Target::Exec(id), signal: SIGKILL });
    }

    pub(super) fn accept(&mut self) {
        while let Some(number) = self.control.accept() {
            if let Some(client) = self.control.client(number)
                && self.events.add(client, Token::Client(number), Interest::Read).is_err()
            {
                self.control.close(number);
            }
        }
        if self.control.is_full() {
            self.events.remove(&self.control);
        }
    }

    pub(super) fn serve(&mut self, number: u32) {
        let Some(client) = self.control.client(number) else { return };
        let mut over = client.flush().is_err() || client.read().is_err();
        while !over {
            let Some(client) = self.control.client(number) else { return };
            match client.next() {
                Ok(Some((request, descriptors))) => {
                    over = self.fulfil(number, request, descriptors).is_err();
                }
                Ok(None) => break,
                Err(Over) => over = true,
            }
        }
        if over {
            self.hang_up(number);
        } else {
            self.await_room(number);
        }
    }

    pub(super) fn fulfil(
        &mut self,
        number: u32,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Over> {
        let client = self.control.client(number).ok_or(Over)?;
        let reply = match requests::answer(&mut self.pod, client.waiting.as_ref(), request)? {
            Answer::Reply(reply) => reply,
            Answer::Wait(message, waiting) => {
                client.waiting = Some(waiting);
                self.tell_with(&message, descriptors);
                return Ok(());
            }
            Answer::Done(message) => {
                self.tell(&message);
                Reply::Done
            }
            Answer::Stop(grace_ms) => {
                self.stop(Stopping::Request, grace_ms);
                Reply::Done
            }
            Answer::OnTerminal(wanted) => {
                match self.start_on_terminal(number, wanted, &descriptors) {
                    Ok(()) => return Ok(()),
                    Err(report) => Reply::Refused(report),
                }
            }
            Answer::Add(app) => self.add_app(&app, descriptors),
            Answer::Attach(wanted) => return self.attach(number, &wanted, &descriptors),
            Answer::EndInput => {
                self.outputs.end_input(number);
                Reply::Done
            }
            Answer::Resize(size) if self.outputs.resize(number, size) => Reply::Done,
            Answer::Resize(_) => {
                let what = "there is no terminal to change the size of";
                Reply::Refused(Box::new(Report::new("terminal.none", what)))
            }
            Answer::Limit(app, changes) => self.limit(app.as_ref(), &changes),
            Answer::Count => self.count(),
            Answer::List(app) => self.list(app.as_ref()),
            Answer::Pause => self.pause(),
            Answer::Resume => self.resume(),
            Answer::Kill => {
                self.kill();
                Reply::Done
            }
        };
        self.record();
        self.control.client(number).ok_or(Over)?.reply(&reply)
    }

    /// Waits for room to write to a client exactly as long as something is held for it.
    pub(super) fn await_room(&mut self, number: u32) {
        let Some(client) = self.control.client(number) else { return };
        let held_up = client.is_held_up();
        if client.room_awaited == held_up {
            return;
        }
        client.room_awaited = held_up;
        let interest = if held_up { Interest::Both } else { Interest::Read };
        // The entry is there, so it can be changed.
        let _ = self.events.change(&*client, Token::Client(number), interest);
    }

    /// Closes a connection, and kills what it has started.
    pub(super) fn hang_up(&mut self, number: u32) {
        let was_full = self.control.is_full();
        let Some(client) = self.control.close(number) else { return };
        self.events.remove(&client);
        if was_full {
            // If this fails nobody can connect any more; the pod itself goes on.
            let _ = self.events.add(&self.control, Token::Listener, Interest::Read);
        }
        self.outputs.detach(number);
        if let Some(Waiting::Exec(id)) = client.waiting {
            self.kill_exec(id);
        }
    }
}
