//! Changing limits of the living pod, counting what it uses, listing who uses it, and making it
//! stand still.

use std::os::fd::AsFd;

use pod_abi::control::Reply;
use pod_abi::inner::ToInit;
use pod_abi::isolators::Resources;
use pod_abi::stats::PodStats;
use pod_abi::status::Event;
use pod_abi::{AppName, Report};

use super::Living;
use crate::error::Failure;
use crate::wall::Wall;
use crate::{limits, records};

impl<W: Wall> Living<'_, W> {
    /// Changes limits, and writes down what they are then, for all starts to come; both or
    /// neither.
    pub(super) fn limit(&mut self, app: Option<&AppName>, changes: &Resources) -> Reply {
        if let Some(busy) = self.busy() {
            return busy;
        }
        match self.try_limit(app, changes) {
            Ok(()) => {
                self.records.event(records::now(), Event::LimitsChanged { app: app.cloned() });
                Reply::Done
            }
            Err(failure) => refused(&failure),
        }
    }

    fn try_limit(&mut self, app: Option<&AppName>, changes: &Resources) -> Result<(), Failure> {
        let pod = self.inherited.pod.as_fd();
        let limits = self.pod.roster.resources(app).overridden_by(changes).settled();
        // Writing is what may fail for others' reasons, such as a full disk; it comes first, and
        // counts last.
        let record = match app {
            None => limits::of_pod(pod, &limits)?,
            Some(app) => {
                let spec = self.pod.roster.spec(app);
                let mut spec = spec
                    .ok_or_else(|| Failure::new(format!("the pod has no app `{app}`")))?
                    .clone();
                spec.resources.clone_from(&limits);
                limits::of_app(pod, &spec)?
            }
        };
        self.wall.limit(app, changes)?;
        self.watch_memory();
        self.pod.roster.limit(app, &limits);
        record.commit()
    }

    /// Counts what the pod and its apps use.
    pub(super) fn count(&self) -> Reply {
        let (pod, apps) = self.wall.usages(self.pod.roster.names());
        Reply::Stats(Box::new(PodStats { time: records::now(), pod, apps }))
    }

    /// Lists the processes of the pod, or of one app.
    pub(super) fn list(&self, app: Option<&AppName>) -> Reply {
        match self.wall.processes(app) {
            Ok(listing) => Reply::Processes(listing.map(Box::new)),
            Err(failure) => refused(&failure),
        }
    }

    /// Makes everything behind the wall stand still.
    pub(super) fn pause(&mut self) -> Reply {
        if let Some(busy) = self.busy() {
            return busy;
        }
        match self.wall.pause() {
            Ok(()) => {
                self.mark_paused(true);
                Reply::Done
            }
            Err(failure) => refused(&failure),
        }
    }

    /// Lets it go on, and passes on what it was sent meanwhile.
    pub(super) fn resume(&mut self) -> Reply {
        match self.go_on() {
            Ok(()) => Reply::Done,
            Err(failure) => refused(&failure),
        }
    }

    /// Lets a paused pod go on; nothing happens to another.
    ///
    /// # Errors
    ///
    /// What could not be done; it is paused still.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        if !self.pod.status.paused {
            return Ok(());
        }
        self.wall.resume()?;
        self.mark_paused(false);
        for (target, signal) in self.pod.standing_signals() {
            self.tell(&ToInit::Signal { target, signal });
        }
        Ok(())
    }

    fn mark_paused(&mut self, paused: bool) {
        self.pod.status.paused = paused;
        self.pod.changed = true;
        let event = if paused { Event::PodPaused } else { Event::PodResumed };
        self.records.event(records::now(), event);
        // Whoever is told that it is done looks at the record next.
        self.record();
    }

    /// Returns the refusal of a pod that begins or ends.
    fn busy(&self) -> Option<Reply> {
        (!self.pod.answered || self.is_busy()).then(|| {
            let what = "the pod begins or ends just now";
            Reply::Refused(Box::new(Report::new("pod.not-up", what)))
        })
    }
}

fn refused(failure: &Failure) -> Reply {
    Reply::Refused(Box::new(failure.report()))
}
