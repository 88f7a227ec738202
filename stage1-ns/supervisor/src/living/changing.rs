//! Apps that come to the living pod and go from it.
//!
//! An app comes in this order, and each step is undone if a later one fails: its directory, its
//! tree behind the wall, its streams, PID 1's knowledge of it, and last the list that makes it
//! count. It goes the other way round: PID 1 forgets it first.

use std::os::fd::{AsFd, OwnedFd};

use pod_abi::control::Reply;
use pod_abi::inner::ToInit;
use pod_abi::stage::AppOrder;
use pod_abi::status::Event;
use pod_abi::{AppName, Report};

use super::Living;
use crate::apps;
use crate::client::Waiting;
use crate::error::{During, Failure};
use crate::log::Log;
use crate::records;
use crate::wall::{Added, Wall};

impl<W: Wall> Living<'_, W> {
    /// Adds an app, which the pod admits, without starting it. `descriptors` are the directory its
    /// layers lie beneath, and its credentials.
    pub(super) fn add_app(&mut self, app: &AppOrder, descriptors: Vec<OwnedFd>) -> Reply {
        let mut descriptors = descriptors.into_iter();
        let Some(layers) = descriptors.next() else {
            return refused(&Failure::new("the directory of layers is missing"));
        };
        if self.is_busy() {
            let what = "apps cannot come while their pod begins or ends";
            return refused(&Failure::new(what).code("pod.not-up"));
        }
        match self.try_add(app, &layers, descriptors.collect()) {
            Ok(()) => {
                self.pod.add(app.spec.clone());
                self.watch_memory();
                self.records.event(records::now(), Event::AppAdded { app: app.spec.name.clone() });
                Reply::Done
            }
            Err(failure) => refused(&failure),
        }
    }

    /// Tells whether the pod has not begun to run its apps, or ends.
    pub(super) fn is_busy(&self) -> bool {
        self.held.is_some() || self.stopping.is_some() || self.verdict.is_some()
    }

    fn try_add(
        &mut self,
        app: &AppOrder,
        layers: &OwnedFd,
        credentials: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let (pod, name) = (self.inherited.pod.as_fd(), &app.spec.name);
        apps::make(pod, &app.spec)?;
        let added = self.wall.add_app(app, layers.as_fd(), credentials);
        let told = added.and_then(|added| self.introduce(app, added));
        if told.is_err() {
            self.outputs.remove(name, records::now());
            self.wall.remove_app(name);
            // What stays is in no list.
            let _ = apps::put_aside(pod, name);
        }
        told
    }

    /// Takes the streams of an app that was laid out, tells PID 1, and makes it count.
    fn introduce(&mut self, app: &AppOrder, added: Added) -> Result<(), Failure> {
        let pod = self.inherited.pod.as_fd();
        let AppOrder { spec, .. } = app;
        let log = Log::open(pod, &spec.name, spec.log)?;
        self.outputs
            .add(spec.name.clone(), Some(log), added.stdio)
            .during(|| format!("cannot take the streams of app `{}`", spec.name))?;
        self.outputs.introduce(spec);
        let message = ToInit::AddApp { spec: self.as_told(spec), fds: added.fds };
        self.tell_with(&message, added.descriptors);
        let mut names = self.pod.roster.names();
        names.push(spec.name.clone());
        apps::write_list(pod, names).inspect_err(|_| {
            self.pod.asked_to_remove(&spec.name);
            self.tell(&ToInit::RemoveApp { app: spec.name.clone() });
        })
    }

    /// Follows the word of PID 1 that it has forgotten an app.
    pub(super) fn app_removed(&mut self, name: &AppName) {
        if !self.pod.remove(name) {
            // It never counted: its coming was undone.
            return;
        }
        let now = records::now();
        self.outputs.remove(name, now);
        self.wall.remove_app(name);
        let pod = self.inherited.pod.as_fd();
        let forgotten = apps::write_list(pod, self.pod.roster.names())
            .and_then(|()| apps::put_aside(pod, name));
        self.records.event(now, Event::AppRemoved { app: name.clone() });
        let reply = match forgotten {
            Ok(()) => Reply::Done,
            Err(failure) => {
                let what =
                    format!("app `{name}` is gone, but will be back with the pod's next start");
                let report = Report {
                    causes: vec![failure.report().message],
                    ..Report::new("app.kept", what)
                };
                Reply::Refused(Box::new(report))
            }
        };
        self.reply(&Waiting::Remove(name.clone()), &reply);
    }
}

fn refused(failure: &Failure) -> Reply {
    Reply::Refused(Box::new(failure.report()))
}
