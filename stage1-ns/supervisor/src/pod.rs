//! What the supervisor knows of the living pod, and what it makes of PID 1's words. Pure: no
//! descriptors, no clock.
//!
//! PID 1 is inside the boundary. A word that no honest one would say is a [`Violation`]; the
//! caller ends the pod. Whatever is let through is bounded: texts are tamed, names are those of
//! the manifest, numbers are in range.

use std::collections::{BTreeMap, BTreeSet};

use pod_abi::app::AppSpec;
use pod_abi::exit::Ended;
use pod_abi::inner::{AppWord, FromInit, MAX_STATUS, Target};
use pod_abi::stage::Order;
use pod_abi::status::{AppState, AppStatus, Event, PodStatus};
use pod_abi::{AppName, PodName, Report, Timestamp, text, version};

use crate::roster::Roster;

/// The most processes of `pod exec` at once, those whose client has gone included.
const MAX_EXECS: usize = 256;

/// A word no honest PID 1 would say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod's PID 1 broke the protocol: {0}")]
pub(crate) struct Violation(&'static str);

/// What follows from a word of PID 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Something for the history.
    Record(Event),
    /// Every app is ready.
    Ready,
    /// An app was executed; its process id as PID 1 sees it.
    Started(AppName, u32),
    /// An app has said something of itself.
    Said(AppName, AppWord),
    /// An app is ready, perhaps once more.
    AppReady(AppName),
    /// PID 1 works.
    Pong,
    /// An app ended or could not be executed; for good unless it is started again.
    AppEnded { app: AppName, exit: Ended, error: Option<Report>, for_good: bool },
    /// A process of `pod exec` runs.
    ExecStarted(u32),
    /// A process of `pod exec` has ended, or could not be executed.
    ExecEnded(u32, Ended, Option<Report>),
    /// A request about an app was refused.
    Refused(AppName, Report),
    /// PID 1 has forgotten an app.
    Removed(AppName),
    /// The pod is over.
    Over(u8),
    /// PID 1 cannot go on.
    Failed(Report),
}

/// The living pod.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its name.
    pub(crate) name: PodName,
    /// Its record.
    pub(crate) status: PodStatus,
    /// Whether the record has changed since it was last written.
    pub(crate) changed: bool,
    /// Whether apps have said something of themselves since: no reason to write it at once.
    pub(crate) talked: bool,
    /// Whether PID 1 has answered the first frame.
    pub(crate) answered: bool,
    /// What it is made of.
    pub(crate) roster: Roster,
    /// The apps PID 1 was asked to forget.
    removing: BTreeSet<AppName>,
    /// Signals for apps that do not run yet, at most one of a kind for each.
    early: Vec<(AppName, u8)>,
    /// Signals that came while it is paused, at most one of a kind for each target.
    standing: Vec<(Target, u8)>,
    execs: BTreeMap<u32, bool>,
    next_exec: u32,
}

impl Pod {
    /// Makes the record of a pod that begins.
    pub(crate) fn new(order: &Order, supervisor: u32, boot_id: String, now: Timestamp) -> Self {
        let status = PodStatus {
            version: version::STATUS,
            boot_id,
            attempt: order.attempt,
            supervisor,
            init: None,
            cgroup: None,
            ids: order.ids,
            started: now,
            ready: None,
            ended: None,
            code: None,
            error: None,
            apps: order.apps.iter().map(|entry| waiting(&entry.spec.name)).collect(),
            unit: order.service.as_ref().map(|service| service.unit.clone()),
            paused: false,
            host_stopped: false,
            joined: None,
        };
        Self {
            name: order.pod.name.clone(),
            status,
            changed: true,
            talked: false,
            answered: false,
            roster: Roster::of(order),
            removing: BTreeSet::new(),
            early: Vec::new(),
            standing: Vec::new(),
            execs: BTreeMap::new(),
            next_exec: 0,
        }
    }

    /// Returns an app of the pod to be changed.
    pub(crate) fn app(&mut self, name: &AppName) -> Option<&mut AppStatus> {
        self.status.apps.iter_mut().find(|app| app.name == *name)
    }

    /// Takes in an app that was added.
    pub(crate) fn add(&mut self, spec: AppSpec) {
        self.status.apps.push(waiting(&spec.name));
        self.roster.add(spec);
        self.changed = true;
    }

    /// Notes that PID 1 is asked to forget an app.
    pub(crate) fn asked_to_remove(&mut self, name: &AppName) {
        self.removing.insert(name.clone());
    }

    /// Forgets an app; `false` if it was none.
    pub(crate) fn remove(&mut self, name: &AppName) -> bool {
        let before = self.status.apps.len();
        self.status.apps.retain(|app| app.name != *name);
        self.roster.remove(name);
        self.early.retain(|(app, _)| app != name);
        self.changed = true;
        self.status.apps.len() < before
    }

    /// Keeps a signal for an app that is about to run.
    pub(crate) fn keep_signal(&mut self, name: AppName, signal: u8) {
        let kept = (name, signal);
        if !self.early.contains(&kept) {
            self.early.push(kept);
        }
    }

    /// Gives out the signals kept for an app.
    pub(crate) fn kept_signals(&mut self, name: &AppName) -> Vec<u8> {
        self.early.extract_if(.., |(app, _)| app == name).map(|(_, signal)| signal).collect()
    }

    /// Keeps a signal until the pod goes on.
    pub(crate) fn keep_for_resume(&mut self, target: Target, signal: u8) {
        let kept = (target, signal);
        if !self.standing.contains(&kept) {
            self.standing.push(kept);
        }
    }

    /// Gives out the signals kept while it was paused, in the order they came.
    pub(crate) fn standing_signals(&mut self) -> Vec<(Target, u8)> {
        std::mem::take(&mut self.standing)
    }

    /// Numbers a new process of `pod exec`; `None` if there are too many.
    pub(crate) fn new_exec(&mut self) -> Option<u32> {
        if self.execs.len() >= MAX_EXECS {
            return None;
        }
        self.next_exec = self.next_exec.checked_add(1)?;
        self.execs.insert(self.next_exec, false);
        Some(self.next_exec)
    }

    /// Forgets a process that PID 1 was never told of.
    pub(crate) fn forget_exec(&mut self, id: u32) {
        self.execs.remove(&id);
    }

    /// Takes in a word of PID 1.
    pub(crate) fn hear(
        &mut self,
        word: FromInit,
        now: Timestamp,
    ) -> Result<Vec<Consequence>, Violation> {
        if !self.answered && !matches!(word, FromInit::Ready | FromInit::Failed(_)) {
            return Err(Violation("it spoke before it was ready"));
        }
        match word {
            FromInit::Ready if self.answered => Err(Violation("it became ready twice")),
            FromInit::Ready => {
                self.answered = true;
                Ok(Vec::new())
            }
            FromInit::AppStarted { app, restarts, pid } => {
                self.app_started(&app, restarts, now)?;
                let record = Consequence::Record(Event::AppStarted { app: app.clone() });
                Ok(vec![record, Consequence::Started(app, pid)])
            }
            FromInit::AppEnded { app, exit, error, restart_in_ms } => {
                self.app_ended(app, exit, error.map(|report| report.tamed()), restart_in_ms, now)
            }
            FromInit::PodReady if self.status.ready.is_some() => {
                Err(Violation("it told twice that the pod is ready"))
            }
            FromInit::PodReady => {
                self.status.ready = Some(now);
                self.changed = true;
                Ok(vec![Consequence::Record(Event::PodReady), Consequence::Ready])
            }
            FromInit::ExecStarted { id } => match self.execs.get_mut(&id) {
                Some(started) if !*started => {
                    *started = true;
                    Ok(vec![Consequence::ExecStarted(id)])
                }
                _ => Err(Violation("it started a process nobody asked for")),
            },
            FromInit::ExecEnded { id, exit, error } => {
                check(exit)?;
                self.execs.remove(&id).ok_or(Violation("it ended a process nobody asked for"))?;
                Ok(vec![Consequence::ExecEnded(id, exit, error.map(|report| report.tamed()))])
            }
            FromInit::Refused { app: None, .. } => Ok(Vec::new()),
            FromInit::Refused { app: Some(app), report } => {
                self.app(&app).ok_or(UNKNOWN_APP)?;
                self.removing.remove(&app);
                Ok(vec![Consequence::Refused(app, report.tamed())])
            }
            FromInit::AppReady { app } => {
                let known = self.app(&app).ok_or(UNKNOWN_APP)?;
                if known.state != AppState::Running {
                    return Err(Violation("it told that an app is ready that does not run"));
                }
                // Of one that reloads again and again the history tells once a start.
                if known.ready.is_some_and(|ready| known.started.is_none_or(|at| at <= ready)) {
                    return Ok(vec![Consequence::AppReady(app)]);
                }
                known.ready = Some(now);
                self.changed = true;
                let record = Consequence::Record(Event::AppReady { app: app.clone() });
                Ok(vec![record, Consequence::AppReady(app)])
            }
            FromInit::AppSays { app, word } => {
                let known = self.app(&app).ok_or(UNKNOWN_APP)?;
                if known.state != AppState::Running {
                    return Err(Violation("it told the words of an app that does not run"));
                }
                if let AppWord::Status(text) = word {
                    known.said = Some(tamed(&text)).filter(|said| !said.is_empty());
                    self.talked = true;
                    return Ok(Vec::new());
                }
                Ok(vec![Consequence::Said(app, word)])
            }
            FromInit::Pong => Ok(vec![Consequence::Pong]),
            FromInit::AppRemoved { app } if self.removing.remove(&app) => {
                Ok(vec![Consequence::Removed(app)])
            }
            FromInit::AppRemoved { .. } => Err(Violation("it removed an app it was not asked to")),
            FromInit::PodEnded { code } => Ok(vec![Consequence::Over(code)]),
            FromInit::Failed(report) => Ok(vec![Consequence::Failed(report.tamed())]),
        }
    }

    fn app_started(
        &mut self,
        name: &AppName,
        restarts: u32,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let app = self.app(name).ok_or(UNKNOWN_APP)?;
        if app.state == AppState::Running {
            return Err(Violation("it started an app that runs"));
        }
        app.state = AppState::Running;
        app.restarts = restarts;
        app.started = Some(now);
        app.pid = None;
        app.error = None;
        app.said = None;
        app.restarts_at = None;
        self.changed = true;
        Ok(())
    }

    fn app_ended(
        &mut self,
        name: AppName,
        exit: Ended,
        error: Option<Report>,
        restart_in_ms: Option<u64>,
        now: Timestamp,
    ) -> Result<Vec<Consequence>, Violation> {
        check(exit)?;
        let app = self.app(&name).ok_or(UNKNOWN_APP)?;
        app.state = if restart_in_ms.is_some() { AppState::BackingOff } else { AppState::Exited };
        app.pid = None;
        app.ended = Some(now);
        app.exit = Some(exit);
        app.error.clone_from(&error);
        app.restarts_at = restart_in_ms
            .map(|delay| Timestamp(now.0.saturating_add(delay.saturating_mul(1_000_000))));
        self.changed = true;
        let mut consequences =
            vec![Consequence::Record(Event::AppEnded { app: name.clone(), exit })];
        if let Some(delay_ms) = restart_in_ms {
            let event = Event::AppBackingOff { app: name.clone(), delay_ms };
            consequences.push(Consequence::Record(event));
        }
        let for_good = restart_in_ms.is_none();
        consequences.push(Consequence::AppEnded { app: name, exit, error, for_good });
        Ok(consequences)
    }

    /// Tells whether every app has ended for good, so that the last record follows at once.
    pub(crate) fn is_about_to_end(&self) -> bool {
        self.roster.knows_an_end()
            && self.status.apps.iter().all(|app| app.state == AppState::Exited)
    }

    /// Closes the record: whatever ran does so no more.
    pub(crate) fn end(&mut self, code: u8, error: Option<Report>, now: Timestamp) {
        for app in &mut self.status.apps {
            if app.state == AppState::Running {
                app.ended = Some(now);
            }
            if app.state != AppState::Waiting {
                app.state = AppState::Exited;
            }
            app.pid = None;
            app.restarts_at = None;
        }
        self.status.init = None;
        self.status.paused = false;
        self.status.ended = Some(now);
        self.status.code = Some(code);
        self.status.error = error;
        self.changed = true;
    }
}

fn waiting(name: &AppName) -> AppStatus {
    AppStatus {
        name: name.clone(),
        state: AppState::Waiting,
        restarts: 0,
        pid: None,
        started: None,
        ended: None,
        exit: None,
        error: None,
        ready: None,
        said: None,
        restarts_at: None,
    }
}

/// Makes one line of bounded length of what an app is told to have said.
fn tamed(text: &str) -> String {
    text::tame_within(text, MAX_STATUS)
}

const UNKNOWN_APP: Violation = Violation("it spoke of an app the pod does not have");

fn check(exit: Ended) -> Result<(), Violation> {
    match exit {
        Ended::Signaled { signal, .. } if !(1..=64).contains(&signal) => {
            Err(Violation("it told of a signal there is not"))
        }
        Ended::NotStarted { code } if !(125..=127).contains(&code) => {
            Err(Violation("it told of a failure there is not"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::tests::order;

    fn name(word: &str) -> AppName {
        AppName::parse(word).unwrap()
    }

    fn pod() -> Pod {
        let mut pod = Pod::new(&order(), 1, String::new(), Timestamp(0));
        pod.changed = false;
        assert_eq!(pod.hear(FromInit::Ready, Timestamp(0)), Ok(Vec::new()));
        pod
    }

    fn started(app: &str) -> FromInit {
        FromInit::AppStarted { app: name(app), restarts: 0, pid: 2 }
    }

    fn ended(app: &str, exit: Ended) -> FromInit {
        FromInit::AppEnded { app: name(app), exit, error: None, restart_in_ms: None }
    }

    #[test]
    fn an_app_starts_and_ends_in_the_record() {
        let mut pod = pod();
        pod.hear(started("web"), Timestamp(1)).unwrap();
        assert_eq!(pod.status.apps[0].state, AppState::Running);
        let exit = Ended::Exited { code: 3 };
        let consequences = pod.hear(ended("web", exit), Timestamp(2)).unwrap();
        assert_eq!(consequences.len(), 2);
        assert_eq!(pod.status.apps[0].state, AppState::Exited);
        assert_eq!(pod.status.apps[0].exit, Some(exit));
    }

    #[test]
    fn words_no_honest_pid_1_would_say_are_violations() {
        let oom = false;
        for word in [
            FromInit::Ready,
            started("other"),
            ended("other", Ended::Exited { code: 0 }),
            FromInit::AppReady { app: name("other") },
            FromInit::AppReady { app: name("web") },
            FromInit::AppSays { app: name("web"), word: AppWord::Alive },
            FromInit::AppSays { app: name("other"), word: AppWord::Alive },
            FromInit::AppRemoved { app: name("web") },
            ended("web", Ended::Signaled { signal: 0, oom }),
            ended("web", Ended::Signaled { signal: 200, oom }),
            ended("web", Ended::NotStarted { code: 0 }),
            FromInit::ExecStarted { id: 7 },
            FromInit::ExecEnded { id: 7, exit: Ended::Exited { code: 0 }, error: None },
        ] {
            let said = format!("{word:?}");
            assert!(pod().hear(word, Timestamp(0)).is_err(), "{said}");
        }
    }

    #[test]
    fn that_an_app_is_ready_is_told_once_a_start() {
        let mut pod = pod();
        let ready = || FromInit::AppReady { app: name("web") };
        let again = || Consequence::AppReady(name("web"));
        let first = || vec![Consequence::Record(Event::AppReady { app: name("web") }), again()];
        pod.hear(started("web"), Timestamp(1)).unwrap();
        assert_eq!(pod.hear(ready(), Timestamp(2)), Ok(first()));
        pod.changed = false;
        assert_eq!(pod.hear(ready(), Timestamp(3)), Ok(vec![again()]), "it has reloaded");
        assert!(!pod.changed);
        let exit = Ended::Exited { code: 1 };
        let restart_in_ms = Some(0);
        let end = FromInit::AppEnded { app: name("web"), exit, error: None, restart_in_ms };
        pod.hear(end, Timestamp(4)).unwrap();
        pod.hear(started("web"), Timestamp(5)).unwrap();
        assert_eq!(pod.hear(ready(), Timestamp(6)), Ok(first()));
    }

    #[test]
    fn what_an_app_says_is_tamed_and_lasts_until_it_starts_anew() {
        let mut pod = pod();
        pod.hear(started("web"), Timestamp(1)).unwrap();
        let says =
            |text: String| FromInit::AppSays { app: name("web"), word: AppWord::Status(text) };
        pod.changed = false;
        assert_eq!(pod.hear(says("\u{1b}[2Jü".repeat(500)), Timestamp(2)), Ok(Vec::new()));
        let said = pod.status.apps[0].said.clone().unwrap();
        assert!(said.len() <= MAX_STATUS && said.starts_with("\u{fffd}[2Jü"), "{said}");
        assert!(pod.talked && !pod.changed);
        let exit = Ended::Exited { code: 1 };
        let restart_in_ms = Some(4000);
        let end = FromInit::AppEnded { app: name("web"), exit, error: None, restart_in_ms };
        pod.hear(end, Timestamp(7)).unwrap();
        assert_eq!(pod.status.apps[0].restarts_at, Some(Timestamp(4_000_000_007)));
        pod.hear(started("web"), Timestamp(8)).unwrap();
        let web = &pod.status.apps[0];
        assert_eq!((&web.said, web.restarts_at), (&None, None));
    }

    #[test]
    fn a_process_of_exec_starts_and_ends_once() {
        let mut pod = pod();
        let id = pod.new_exec().unwrap();
        let end = || FromInit::ExecEnded { id, exit: Ended::Exited { code: 0 }, error: None };
        assert!(pod.hear(FromInit::ExecStarted { id }, Timestamp(0)).is_ok());
        assert!(pod.hear(end(), Timestamp(0)).is_ok());
        assert!(pod.hear(end(), Timestamp(0)).is_err());
    }

    #[test]
    fn an_app_is_forgotten_once_and_only_if_that_was_asked_for() {
        let mut pod = pod();
        let removed = || FromInit::AppRemoved { app: name("web") };
        pod.asked_to_remove(&name("web"));
        let consequences = pod.hear(removed(), Timestamp(0));
        assert_eq!(consequences, Ok(vec![Consequence::Removed(name("web"))]));
        assert!(pod.remove(&name("web")));
        assert!(pod.status.apps.is_empty() && pod.roster.names().is_empty());
        assert!(pod.hear(removed(), Timestamp(0)).is_err());
    }

    #[test]
    fn what_pid_1_says_of_an_error_is_tamed() {
        let mut pod = pod();
        let error = Some(Box::new(Report::new("x", "\u{1b}[2J")));
        let exit = Ended::NotStarted { code: 127 };
        let word = FromInit::AppEnded { app: name("web"), exit, error, restart_in_ms: None };
        pod.hear(word, Timestamp(0)).unwrap();
        let told = pod.status.apps[0].error.as_ref().unwrap();
        assert!(!told.message.contains('\u{1b}'));
    }
}
