//! What the service manager is told of the pod (`sd_notify(3)`): how it is, that it is ready, that
//! it reloads or ends, that it lives, and how much longer something may take. And what the journal
//! is told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pod_abi::AppName;
use pod_abi::app::{AppSpec, EnvVar};
use pod_abi::inner::{AppWord, ToInit};
use pod_abi::readiness::Readiness;
use pod_abi::stage::Order;
use pod_abi::status::AppState;
use rustix::time::{ClockId, clock_gettime};

use super::Living;
use crate::apps;
use crate::events::{Interest, Token};
use crate::records;
use crate::registrar::Registrar;
use crate::signals::SIGHUP;
use crate::summary;
use crate::wall::Wall;
use crate::watchdog::Watchdog;

/// The most time an app can ask for at once.
const MORE_TIME: Duration = Duration::from_secs(3600);
/// The most time a stop is given beyond what the unit says.
const MAX_STOP: Duration = Duration::from_secs(24 * 3600);
/// What a stop may take beyond the graces of its apps.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// Makes the watchdog of a pod whose unit has one.
pub(super) fn watchdog(order: &Order, now: Instant) -> Option<Watchdog> {
    let within = watchdog_us(order)?;
    Some(Watchdog::new(Duration::from_micros(within), now))
}

fn watchdog_us(order: &Order) -> Option<u64> {
    order.service.as_ref()?.watchdog_us.filter(|within| *within > 0)
}

impl<W: Wall> Living<'_, W> {
    /// Tells what is to be told now, and returns when there will be more.
    pub(super) fn tell_manager(&mut self, now: Instant) -> Option<Instant> {
        let watched = self.watch_over(now);
        if !self.notify.has_listener() {
            return watched;
        }
        if self.summed_until.is_some_and(|until| until <= now) {
            let (pod, stopping) = (&self.pod, self.stopping.is_some());
            let summary = summary::of(&pod.status, &pod.roster, stopping, records::now());
            self.summary = summary.text;
            self.summed_until = summary.holds.map(|holds| now + holds);
        }
        while let Some(message) = self.telling.message(&self.summary, now) {
            if !self.notify.send(&message) {
                self.telling.failed(now);
                break;
            }
            self.telling.sent(&self.summary, now);
        }
        let told = self.telling.deadline(&self.summary, now).filter(|_| self.notify.has_listener());
        [watched, told, self.summed_until].into_iter().flatten().min()
    }

    /// Writes to the journal what is to be written now, and returns when there will be more.
    pub(super) fn write_journal(&mut self, now: Instant) -> Option<Instant> {
        let events = self.records.fresh();
        let journal = self.outputs.journal()?;
        for event in &events {
            journal.event(event);
        }
        if journal.deadline().is_some_and(|due| due <= now) {
            journal.flush(now);
        }
        journal.deadline()
    }

    /// Writes the last of the pod to the journal.
    pub(super) fn end_journal(&mut self) {
        self.write_journal(Instant::now());
        if let Some(journal) = self.outputs.journal() {
            journal.finish();
        }
    }

    /// Has machined told of the pod; nobody waits for that.
    pub(super) fn register(&mut self) {
        let Some(leader) = self.pod.status.init.filter(|_| self.order.register) else { return };
        let program = self.inherited.program.as_fd();
        match Registrar::start(program, &self.order.pod, leader) {
            Ok(registrar) => {
                // If its end is not told of, it is collected with the pod's.
                let _ = self.events.add(&registrar, Token::Registrar, Interest::Read);
                self.registrar = Some(registrar);
            }
            Err(error) => self.not_registered(&error.to_string()),
        }
    }

    /// Follows the end of who tells machined.
    pub(super) fn registered(&mut self) {
        let Some(registrar) = self.registrar.take() else { return };
        self.events.remove(&registrar);
        if let Some(why) = registrar.collect() {
            self.not_registered(&why);
        }
    }

    fn not_registered(&mut self, why: &str) {
        if let Some(journal) = self.outputs.journal() {
            journal.not_registered(why);
        }
    }

    /// Does what the watchdog has to do, and returns when it has to again.
    fn watch_over(&mut self, now: Instant) -> Option<Instant> {
        let paused = self.pod.status.paused;
        let step = self.watchdog.as_mut()?.tick(paused, now);
        if let Some(step) = step {
            if step.alive {
                self.telling.add("WATCHDOG=1");
            }
            if step.ask && self.pod.answered && self.link.is_some() {
                self.tell(&ToInit::Ping);
            } else if step.ask
                && let Some(watchdog) = &mut self.watchdog
            {
                watchdog.answered();
            }
        }
        self.watchdog.as_ref().map(Watchdog::deadline)
    }

    /// Follows a word of an app about itself.
    pub(super) fn said(&mut self, app: AppName, word: &AppWord) {
        match word {
            AppWord::Alive => {
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.heard(app, Instant::now());
                }
            }
            // Of a start an app may know better than the unit how long it takes; of a stop its
            // grace decides, and of a pod that is up there is nothing to be waited for.
            AppWord::MoreTime(micros) => {
                if self.pod.status.ready.is_none() && self.stopping.is_none() {
                    self.extend(Duration::from_micros(*micros).min(MORE_TIME));
                }
            }
            AppWord::Reloading => {
                if self.is_up() {
                    if self.reloading.is_empty() {
                        self.tell_reloading();
                    }
                    self.reloading.insert(app);
                }
            }
            // One app that ends does not end the pod. What an app's status says is in the record.
            AppWord::Stopping | AppWord::Status(_) => {}
        }
    }

    /// Takes notice that an app is ready, or has ended: it does not reload any more.
    pub(super) fn reloaded(&mut self, app: &AppName) {
        if self.reloading.remove(app) && self.reloading.is_empty() && self.is_up() {
            self.telling.add("READY=1");
        }
    }

    /// Has all apps reload: they are sent SIGHUP.
    pub(super) fn reload(&mut self) {
        let up = self.is_up();
        if up {
            self.tell_reloading();
        }
        self.signal_all(SIGHUP);
        // Apps that tell how they get on are waited for; that they began comes a moment later.
        if up && self.reloading.is_empty() {
            self.telling.add("READY=1");
        }
    }

    fn is_up(&self) -> bool {
        self.pod.status.ready.is_some() && self.stopping.is_none()
    }

    fn tell_reloading(&mut self) {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let micros = seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000;
        self.telling.add(format!("MONOTONIC_USEC={micros}"));
        self.telling.add("RELOADING=1");
    }

    /// Tells that the pod ends, and how long its apps are given for it.
    pub(super) fn tell_stop(&mut self, grace_ms: Option<u64>) {
        let running = self.pod.status.apps.iter().filter(|app| app.state == AppState::Running);
        let running: Vec<AppName> = running.map(|app| app.name.clone()).collect();
        let graces = Duration::from_millis(self.pod.roster.stop_ms(&running, grace_ms));
        self.extend(graces.min(MAX_STOP) + STOP_SLACK);
        self.telling.add("STOPPING=1");
        self.summed_until = Some(Instant::now());
    }

    /// Asks for time beyond what the unit says.
    fn extend(&mut self, by: Duration) {
        self.telling.add(format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// Returns the specification of an app as PID 1 is told it: one that speaks for itself learns
    /// how often it is expected to, and one that is given sockets the name of each.
    pub(super) fn as_told(&self, spec: &AppSpec) -> Box<AppSpec> {
        let mut spec = Box::new(apps::as_given(self.order, spec));
        if let (Readiness::Notify, Some(within)) = (&spec.readiness, watchdog_us(self.order)) {
            let process = &mut spec.process;
            process.env.retain(|var| var.name() != "WATCHDOG_USEC");
            process.env.extend(EnvVar::parse(&format!("WATCHDOG_USEC={within}")));
        }
        spec
    }
}
