//! What the loop does to find out who is ready: it carries between [`Watches`] and the processes.
//!
//! [`Watches`]: crate::readiness::Watches

use std::os::fd::AsFd;

use pod_abi::app::Process;
use pod_abi::inner::FromInit;
use pod_abi::name::AppName;

use super::{Error, Pid1, doing};
use crate::launch::{Deed, Streams};
use crate::machine::Action;
use crate::processes::Role;
use crate::readiness::{Due, Turn, Word};

impl Pid1<'_> {
    /// Looks after a socket of [`Watches`](crate::readiness::Watches).
    pub(super) fn look(&mut self, data: u64) -> Result<(), Error> {
        let now = self.now();
        if let Some(app) = self.watches.look(data, self.epoll.as_fd(), now) {
            let actions = self.machine.ready(&app);
            self.todo.extend(actions);
        }
        Ok(())
    }

    /// Asks those whose time has come.
    pub(super) fn ask(&mut self) -> Result<(), Error> {
        let Turn { dues, ready, said } = self.watches.tick(self.epoll.as_fd(), self.now());
        for app in ready {
            let actions = self.machine.ready(&app);
            self.todo.extend(actions);
        }
        for (app, word) in said {
            let news = match word {
                Word::Says(word) => FromInit::AppSays { app, word },
                Word::Reloaded => FromInit::AppReady { app },
            };
            self.todo.push_back(Action::Tell(news));
        }
        for due in dues {
            match due {
                Due::Launch { app, args, round } => self.launch_probe(app, args, round)?,
                Due::Kill(app) => {
                    for probe in self.processes.probes_in(&app) {
                        probe.kill_group().map_err(doing("kill a probe"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the answer of a probe that was launched.
    pub(super) fn answer(&mut self, app: &AppName, round: u32, yes: bool) {
        let now = self.now();
        if self.watches.answered(app, round, yes, now) {
            let actions = self.machine.ready(app);
            self.todo.extend(actions);
        }
    }

    /// Runs a command in the app as the app is; nobody sees what it says.
    fn launch_probe(&mut self, app: AppName, args: Vec<String>, round: u32) -> Result<(), Error> {
        let Some(hosted) = self.apps.get(&app) else { return Ok(()) };
        let process = Process { args, ..hosted.spec.process.clone() };
        match self.join(&app, &process, Deed::Execute, Streams::Null)? {
            Ok(launched) => self.take_in(Role::Probe { app, round }, launched),
            // One that cannot be asked says no, and is asked again.
            Err(_) => {
                self.answer(&app, round, false);
                Ok(())
            }
        }
    }
}
