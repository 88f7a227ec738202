//! Clients that are attached to an app, or have a process on a terminal of its own.

use std::os::fd::OwnedFd;

use pod_abi::AppName;
use pod_abi::Report;
use pod_abi::control::Reply;
use pod_abi::exit::Ended;
use pod_abi::inner::ToInit;

use super::Living;
use crate::attached::Attached;
use crate::client::{Over, Waiting};
use crate::error::{During, Failure};
use crate::requests::{Attach, OnTerminal};
use crate::terminal::Terminal;
use crate::wall::{AppStdio, Wall};

impl<W: Wall> Living<'_, W> {
    /// Attaches a client, and lets a pod go that was held for it.
    pub(super) fn attach(
        &mut self,
        number: u32,
        wanted: &Attach,
        descriptors: &[OwnedFd],
    ) -> Result<(), Over> {
        // What this client had before has left the epoll first.
        self.watch_streams();
        let reply = match self.connect(wanted, descriptors) {
            Err(report) => Reply::Refused(report),
            Ok(mut attached) => {
                attached.runs_the_pod = self.held.is_some();
                self.outputs.attach(number, attached);
                if let Some(size) = wanted.size {
                    self.outputs.resize(number, size);
                }
                Reply::Attached
            }
        };
        let client = self.control.client(number).ok_or(Over)?;
        if reply == Reply::Attached {
            client.waiting = Some(Waiting::Attached);
        }
        client.reply(&reply)?;
        if reply == Reply::Attached && self.held.take().is_some() {
            self.tell(&ToInit::Run);
        }
        Ok(())
    }

    fn connect(&self, wanted: &Attach, descriptors: &[OwnedFd]) -> Result<Attached, Box<Report>> {
        let place = match &wanted.app {
            None => None,
            Some(app) => Some(self.outputs.place_of(app).ok_or_else(|| {
                Box::new(Report::new("app.unknown", format!("the pod has no app `{app}`")))
            })?),
        };
        if wanted.input && !place.is_some_and(|place| self.outputs.takes_input(place)) {
            let what = "the app takes no input, or none any more";
            let report = Report::new("app.no-input", what)
                .hint("attach with `--no-stdin`; `pod run -i` makes an app that takes input");
            return Err(Box::new(report));
        }
        let mut attached = Attached::new(place, descriptors, wanted.input)?;
        attached.ends_input = wanted.ends_input;
        Ok(attached)
    }

    /// Has a process started on a new terminal, with its client attached to that.
    pub(super) fn start_on_terminal(
        &mut self,
        number: u32,
        wanted: OnTerminal,
        descriptors: &[OwnedFd],
    ) -> Result<(), Box<Report>> {
        let OnTerminal { id, app, process, size } = wanted;
        self.watch_streams();
        let made = self
            .wall
            .terminal(&app, process.user.uid, size)
            .map_err(|failure| Box::new(failure.report()))
            .and_then(|terminal| self.connect_terminal(number, &app, terminal, descriptors));
        let stdio = match made {
            Ok(stdio) => stdio,
            Err(report) => {
                self.pod.forget_exec(id);
                return Err(report);
            }
        };
        if let Some(client) = self.control.client(number) {
            client.waiting = Some(Waiting::Exec(id));
        }
        self.tell_with(&ToInit::Exec { id, app, process, terminal: true }, stdio);
        Ok(())
    }

    /// Attaches a client to a terminal, and returns the other end of it.
    fn connect_terminal(
        &mut self,
        number: u32,
        app: &AppName,
        terminal: Terminal,
        descriptors: &[OwnedFd],
    ) -> Result<Vec<OwnedFd>, Box<Report>> {
        let Terminal { master, slave } = terminal;
        let mut attached = Attached::new(None, descriptors, true)?;
        let short = |failure: Failure| Box::new(failure.report());
        let streams = AppStdio::Terminal { master };
        let place = self.outputs.add(app.clone(), None, streams);
        attached.place = Some(place.during(|| "cannot copy a descriptor").map_err(short)?);
        self.outputs.attach(number, attached);
        Ok(slave)
    }

    /// Tells those attached to an app that has ended for good, and readies its terminal otherwise.
    pub(super) fn app_ended(&mut self, app: &AppName, exit: Ended, for_good: bool) {
        if !for_good {
            self.outputs.refresh(app);
            return;
        }
        let Some(place) = self.outputs.place_of(app) else { return };
        for number in self.outputs.clients_at(place) {
            self.outputs.conclude(number, Reply::AppEnded { exit });
        }
        self.conclude();
    }

    /// Tells the client of a process that it has ended: at once, or once all that it has written
    /// to its terminal is passed on.
    pub(super) fn exec_ended(&mut self, waiting: &Waiting, reply: Reply) {
        let mut waiting_for_it = self.control.waiting(waiting).into_iter();
        match waiting_for_it.find(|number| self.outputs.is_attached(*number)) {
            None => {
                self.reply(waiting, &reply);
            }
            Some(number) => {
                self.outputs.conclude(number, reply);
                self.conclude();
            }
        }
    }
}
