//! Doing what the host asks for on WALL: one question, one answer.

use std::os::fd::{AsFd, OwnedFd};

use pod_abi::AppName;
use pod_abi::guest::{
    Addition, Answer, AppStreams, FromGuest, TerminalStreams, ToGuest, Token, port,
};
use pod_abi::inner::AppFds;
use supervisor::{Added, AppStdio, Failure, Master, Wall};

use super::{Agent, App, Inner, processes};
use crate::configure;
use crate::events::Token as Event;
use crate::init_link::InitLink;
use crate::limits;
use crate::machine::Machine;
use crate::network;
use crate::stream::{Stream, Way};
use crate::streams::too_many;
use crate::wire::Wire;

/// The most streams of one app.
const OF_AN_APP: usize = 3;

impl<M: Machine> Agent<'_, M> {
    /// Takes the questions that have come, and answers each.
    pub(super) fn hear_wall(&mut self) -> Result<(), Failure> {
        self.wall.flush()?;
        let mut more = true;
        loop {
            while let Some(question) = self.wall.take()? {
                let answer = match self.answer(question) {
                    Ok(answer) => FromGuest::Answer(answer),
                    Err(failure) => FromGuest::Refused(Box::new(failure.report())),
                };
                self.wall.say(&answer)?;
                self.watch_memory()?;
            }
            if !more {
                return Ok(());
            }
            more = self.wall.read()?;
        }
    }

    fn answer(&mut self, question: ToGuest) -> Result<Answer, Failure> {
        match question {
            ToGuest::App(_) | ToGuest::Configure(_) => {
                Err(Failure::new("this guest has a pod already"))
            }
            ToGuest::Credential(secret) => self.secrets.add(&secret).map(|()| Answer::Done),
            ToGuest::Raise => self.raise().map(|()| Answer::Done),
            ToGuest::AddApps(streams) => self.add_apps(streams).map(Answer::Added),
            ToGuest::AddApp(addition) => {
                self.add_app(*addition).map(|fds| Answer::Added(vec![fds]))
            }
            ToGuest::RemoveApp(app) => {
                self.remove_app(&app);
                Ok(Answer::Done)
            }
            ToGuest::Settle => {
                self.namespaces.settle();
                self.secrets.clear();
                Ok(Answer::Done)
            }
            ToGuest::Limit(app, limits) => {
                self.namespaces.limit(app.as_ref(), &limits).map(|()| Answer::Done)
            }
            ToGuest::Usage(app) => Ok(Answer::Usage(Box::new(self.namespaces.usage(app.as_ref())))),
            ToGuest::Processes(app) => {
                let members = self.namespaces.members(app.as_ref())?;
                processes::list(&members).map(|listing| Answer::Processes(Box::new(listing)))
            }
            ToGuest::Pause => self.namespaces.pause().map(|()| Answer::Done),
            ToGuest::Resume => self.namespaces.resume().map(|()| Answer::Done),
        }
    }

    fn raise(&mut self) -> Result<(), Failure> {
        if self.inner.is_some() {
            return Err(Failure::new("the pod has a PID 1 already"));
        }
        let host = Wire::new(self.machine.connect(port::INNER)?, &[]);
        let born = limits::as_an_app_has_them(|| self.namespaces.raise(&network::NoNetworks))?;
        let pid = born.pid.ok_or_else(|| Failure::new("PID 1 of the pod has no number"))?;
        network::attach(self.links, pid)?;
        let init = InitLink::new(born.channel);
        self.events.add(&host, Event::Inner)?;
        self.events.add(&init, Event::Init)?;
        self.events.add(&born.end, Event::End)?;
        let (_end, unheard, concluded) = (born.end, false, false);
        self.inner = Some(Inner { host, init, _end, unheard, concluded });
        Ok(())
    }

    fn add_apps(&mut self, streams: Vec<AppStreams>) -> Result<Vec<AppFds>, Failure> {
        let apps = &self.order.apps;
        if streams.len() != apps.len() {
            return Err(Failure::new("there are not as many streams as apps"));
        }
        if !self.streams.have_room(OF_AN_APP * apps.len()) {
            return Err(too_many());
        }
        let added = self.namespaces.add_apps(apps)?;
        let each = apps.iter().zip(added).zip(streams);
        each.map(|((app, added), streams)| {
            self.take_in(&app.spec.name, app.layers.clone(), added, streams)
        })
        .collect()
    }

    fn add_app(&mut self, addition: Addition) -> Result<AppFds, Failure> {
        let Addition { app, layers, streams } = addition;
        if !self.streams.have_room(OF_AN_APP) {
            return Err(too_many());
        }
        if self.apps.contains_key(&app.spec.name) {
            return Err(Failure::new(format!("there is an app `{}` already", app.spec.name)));
        }
        self.laid.mount_layers(self.machine, &layers)?;
        configure::forsake_app_directory(&app.spec.name)?;
        configure::make_app_directory(&app.spec.name)?;
        let names: Vec<_> = app.spec.credentials.iter().map(|one| one.name.clone()).collect();
        let credentials = self.secrets.promise(&names)?;
        let added = self.namespaces.add_app(&app, self.layers.as_fd(), credentials);
        self.secrets.clear();
        self.take_in(&app.spec.name, app.layers.clone(), added?, streams)
    }

    /// Keeps what belongs to an app that was laid out, and connects its streams.
    fn take_in(
        &mut self,
        name: &AppName,
        layers: Vec<String>,
        added: Added,
        streams: AppStreams,
    ) -> Result<AppFds, Failure> {
        let Added { fds, descriptors, stdio } = added;
        let streams = match (stdio, streams) {
            (
                AppStdio::Streams { input, stdout, stderr },
                AppStreams::Pipes { input: fed, stdout: out, stderr: err },
            ) if input.is_some() == fed.is_some() => {
                let mut numbers = Vec::new();
                if let (Some(pipe), Some(token)) = (input, fed) {
                    numbers.push(self.connect_pipe(pipe, token, Way::In)?);
                }
                numbers.push(self.connect_pipe(stdout, out, Way::Out)?);
                numbers.push(self.connect_pipe(stderr, err, Way::Out)?);
                numbers
            }
            (AppStdio::Terminal { master }, AppStreams::Terminal(streams)) => {
                vec![self.connect_terminal(master, streams)?]
            }
            _ => {
                let what = format!("app `{name}` has other streams than it was given");
                return Err(Failure::new(what));
            }
        };
        self.apps.insert(name.clone(), App { fds, descriptors, streams, layers });
        Ok(fds)
    }

    /// Forgets an app that does not run. What is left of its streams flows on to its end.
    fn remove_app(&mut self, name: &AppName) {
        self.namespaces.remove_app(name);
        self.apps.remove(name);
        // Tried again when an app of this name comes.
        let _ = configure::forsake_app_directory(name);
        let used = self.apps.values().flat_map(|app| app.layers.iter().cloned()).collect();
        self.laid.keep_layers(self.machine, &used);
    }

    pub(super) fn connect_pipe(
        &mut self,
        pipe: OwnedFd,
        token: Token,
        way: Way,
    ) -> Result<u32, Failure> {
        let socket = self.machine.connect(port::STREAM)?;
        self.streams.add(&self.events, Stream::of_pipe(socket, token, pipe, way))
    }

    pub(super) fn connect_terminal(
        &mut self,
        master: Master,
        streams: TerminalStreams,
    ) -> Result<u32, Failure> {
        // It was made in this size, or is an app's, which has been seen by nobody.
        let _ = master.resize(streams.size);
        let control = Wire::new(self.machine.connect(port::STREAM)?, &streams.control.0);
        let socket = self.machine.connect(port::STREAM)?;
        let stream = Stream::of_terminal(socket, streams.data, master, control);
        self.streams.add(&self.events, stream)
    }
}
