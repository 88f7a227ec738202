//! Changing limits of the living pod, counting what it uses, and making it stand still.

use std::os::fd::AsFd;

use pod_abi::control::Reply;
use pod_abi::inner::ToInit;
use pod_abi::isolators::Resources;
use pod_abi::stats::{AppUsage, PodStats};
use pod_abi::status::Event;
use pod_abi::{AppName, Report};

use super::Living;
use crate::error::Failure;
use crate::wall::Wall;
use crate::{limits, records};

impl<W: Wall> Living<'_, W> {
    /// Changes limits, and writes them down for all starts to come; both or neither.
    pub(super) fn limit(&mut self, app: Option<AppName>, resources: &Resources) -> Reply {
        if let Some(busy) = self.busy() {
            return busy;
        }
        let before = self.pod.roster.resources(app.as_ref());
        if let Err(failure) = self.wall.limit(app.as_ref(), resources) {
            return refused(&failure);
        }
        self.watch_memory();
        self.pod.roster.limit(app.as_ref(), resources);
        if let Err(failure) = self.write_limits(app.as_ref(), resources) {
            self.pod.roster.limit(app.as_ref(), &before);
            // The kernel took these values before; should it not take them now, the caller is told
            // that nothing was written down, which is what counts at the next start.
            let _ = self.wall.limit(app.as_ref(), &before);
            return refused(&failure);
        }
        self.records.event(records::now(), Event::LimitsChanged { app });
        Reply::Done
    }

    fn write_limits(&self, app: Option<&AppName>, resources: &Resources) -> Result<(), Failure> {
        let pod = self.inherited.pod.as_fd();
        match app {
            None => limits::write_pod(pod, resources),
            Some(app) => match self.pod.roster.spec(app) {
                Some(spec) => limits::write_app(pod, spec),
                None => Err(Failure::new(format!("the pod has no app `{app}`"))),
            },
        }
    }

    /// Counts what the pod and its apps use.
    pub(super) fn count(&self) -> Reply {
        let mut apps = Vec::new();
        for app in self.pod.roster.names() {
            apps.extend(self.wall.usage(Some(&app)).map(|usage| AppUsage { app, usage }));
        }
        let pod = self.wall.usage(None).unwrap_or_default();
        Reply::Stats(Box::new(PodStats { time: records::now(), pod, apps }))
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
