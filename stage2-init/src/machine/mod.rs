//! What PID 1 decides: start order, readiness, restarts, stop order, the pod's end.
//!
//! A pure state machine: events and the time go in, [`Action`]s come out, in the order in which
//! they are to be done. No I/O, no clock, no processes: it only knows that an app lives because it
//! was told so. Whoever drives it keeps the promise of one [`Machine::ended`] for every
//! [`Action::Start`], after at most one [`Machine::started`].

mod app;
mod order;
#[cfg(test)]
mod properties;

use pod_abi::app::{AppSpec, Restart, Role, Stop};
use pod_abi::check::MAX_APPS;
use pod_abi::exit::Ended;
use pod_abi::inner::FromInit;
use pod_abi::manifest::ExitPolicy;
use pod_abi::name::AppName;
use pod_abi::readiness::Readiness;
use pod_abi::report::Report;

use self::app::{App, State};

/// Milliseconds since some moment in the past; never goes back.
pub type Millis = u64;

/// SIGKILL.
const SIGKILL: u8 = 9;

/// Something to be done, in the order it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the app's main process.
    Start(AppName),
    /// Ask the app's main process, which lives, to end, by this signal.
    Stop(AppName, u8),
    /// Send a signal to the app's main process, which lives.
    Signal(AppName, u8),
    /// Let go of everything that is held for the app, which does not run.
    Forget(AppName),
    /// Tell the supervisor.
    Tell(FromInit),
    /// End the pod with this status. The last action ever.
    Finish(u8),
}

/// What the machine needs to know of an app.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its name.
    pub name: AppName,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// What it is to its pod.
    pub role: Role,
    /// The apps it waits for when the pod starts.
    pub after: Vec<AppName>,
    /// When it counts as ready. Whether it is so by anything but its start is for others to find
    /// out, and to tell by [`Machine::ready`].
    pub readiness: Readiness,
}

impl From<&AppSpec> for Rules {
    fn from(spec: &AppSpec) -> Self {
        Self {
            name: spec.name.clone(),
            restart: spec.restart,
            stop: spec.stop,
            role: spec.role,
            after: spec.after.clone(),
            readiness: spec.readiness.clone(),
        }
    }
}

/// How far the pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Apps are added, none is started.
    Gathering,
    /// Apps run and are decided about.
    Up,
    /// Apps are stopped, the last first; then the pod ends with this status.
    Ending { code: u8, grace_ms: Option<u64> },
    /// Nothing happens any more.
    Over,
}

/// The decisions of one pod.
#[derive(Debug)]
pub struct Machine {
    policy: ExitPolicy,
    stage: Stage,
    apps: Vec<App>,
    first_failure: Option<u8>,
    ready_told: bool,
}

impl Machine {
    /// Makes the machine of a pod without apps.
    #[must_use]
    pub const fn new(policy: ExitPolicy) -> Self {
        Self {
            policy,
            stage: Stage::Gathering,
            apps: Vec::new(),
            first_failure: None,
            ready_told: false,
        }
    }

    /// Makes an app known; it is not started.
    ///
    /// # Errors
    ///
    /// The reason, if the name is taken or there are [`MAX_APPS`] already; nothing has changed.
    pub fn add(&mut self, rules: Rules) -> Result<(), Box<Report>> {
        if self.index(&rules.name).is_some() {
            let text = format!("app `{}` is in the pod already", rules.name);
            return Err(Box::new(Report::new("app.exists", text)));
        }
        if self.apps.len() >= MAX_APPS {
            let text = format!("the pod has {MAX_APPS} apps, and no more are possible");
            return Err(Box::new(Report::new("pod.full", text)));
        }
        self.apps.push(App::new(rules));
        Ok(())
    }

    /// Starts everything added so far, one after the other: first the init apps, each to its end,
    /// then the others, each once those it comes after are ready.
    pub fn run(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage == Stage::Gathering {
            self.stage = Stage::Up;
            for app in &mut self.apps {
                app.state = State::Queued;
                app.first_batch = true;
            }
            self.tell_ready(&mut actions);
            self.start_queued(&mut actions);
            self.end_if_done();
            self.go_down(now, &mut actions);
        }
        actions
    }

    /// Forgets an app that does not run.
    pub fn remove(&mut self, name: &AppName, now: Millis) -> Vec<Action> {
        let lies_still = |app: &App| matches!(app.state, State::Idle | State::Queued);
        match self.index(name) {
            _ if self.stage == Stage::Over => Vec::new(),
            None => vec![refused(name, "app.unknown", "is not in the pod")],
            Some(_) if self.stage != Stage::Up => {
                vec![refused(name, "pod.not-up", "cannot go while its pod begins or ends")]
            }
            Some(index) if lies_still(&self.apps[index]) => {
                self.apps.remove(index);
                let removed = Action::Tell(FromInit::AppRemoved { app: name.clone() });
                let mut actions = vec![Action::Forget(name.clone()), removed];
                self.tell_ready(&mut actions);
                self.start_queued(&mut actions);
                self.end_if_done();
                self.go_down(now, &mut actions);
                actions
            }
            Some(_) => vec![refused(name, "app.running", "has to be stopped first")],
        }
    }

    /// Starts one app that does not run, whatever its policy and whomever it waits for; its back-off
    /// begins anew.
    pub fn start(&mut self, name: &AppName) -> Vec<Action> {
        let idle =
            |app: &App| matches!(app.state, State::Idle | State::Queued | State::Waiting { .. });
        match self.index(name) {
            _ if self.stage == Stage::Over => Vec::new(),
            None => vec![refused(name, "app.unknown", "is not in the pod")],
            Some(_) if self.stage != Stage::Up => {
                vec![refused(name, "pod.not-up", "cannot start while its pod begins or ends")]
            }
            Some(index) if idle(&self.apps[index]) => {
                let app = &mut self.apps[index];
                app.streak = 0;
                vec![app.start()]
            }
            Some(_) => vec![refused(name, "app.running", "runs already")],
        }
    }

    /// Stops one app in order, and leaves it stopped.
    pub fn stop(&mut self, name: &AppName, grace_ms: Option<u64>, now: Millis) -> Vec<Action> {
        if self.stage == Stage::Over {
            return Vec::new();
        }
        let Some(index) = self.index(name) else {
            return vec![refused(name, "app.unknown", "is not in the pod")];
        };
        let app = &mut self.apps[index];
        if !app.state.is_pending() {
            return vec![refused(name, "app.not-running", "does not run")];
        }
        app.stop_requested = true;
        let mut actions = Vec::new();
        app.stop(grace_ms, now, &mut actions);
        self.start_queued(&mut actions);
        if !self.apps[index].state.is_pending() {
            self.conclude(index, None, now, &mut actions);
        }
        actions
    }

    /// Sends a signal to the main process of one app.
    #[must_use]
    pub fn signal(&self, name: &AppName, signal: u8) -> Vec<Action> {
        match self.index(name).map(|index| &self.apps[index]) {
            _ if self.stage == Stage::Over => Vec::new(),
            None => vec![refused(name, "app.unknown", "is not in the pod")],
            Some(app) if app.state.is_running() => vec![Action::Signal(name.clone(), signal)],
            Some(_) => vec![refused(name, "app.not-running", "does not run")],
        }
    }

    /// Sends a signal to the main process of every running app.
    #[must_use]
    pub fn signal_all(&self, signal: u8) -> Vec<Action> {
        let running = self.apps.iter().filter(|app| app.state.is_running());
        running.map(|app| Action::Signal(app.rules.name.clone(), signal)).collect()
    }

    /// Stops all apps, the last first, then ends the pod: with 0, unless an app failed before.
    ///
    /// A second request can only hasten.
    pub fn shutdown(&mut self, grace_ms: Option<u64>, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.stage {
            Stage::Over => return actions,
            Stage::Ending { code, grace_ms: before } => {
                let grace_ms = [before, grace_ms].into_iter().flatten().min();
                self.stage = Stage::Ending { code, grace_ms };
            }
            Stage::Gathering | Stage::Up => {
                self.stage = Stage::Ending { code: self.first_failure.unwrap_or(0), grace_ms };
            }
        }
        if let Some(grace) = grace_ms {
            for app in &mut self.apps {
                app.hasten(now.saturating_add(grace));
            }
        }
        self.go_down(now, &mut actions);
        actions.extend(self.tick(now));
        actions
    }

    /// Takes notice that the app's program has been executed, in the process `pid`.
    pub fn started(&mut self, name: &AppName, pid: u32, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(index) = self.index(name) else { return actions };
        let app = &mut self.apps[index];
        app.was_executed = true;
        let restarts = app.starts.saturating_sub(1);
        actions.push(Action::Tell(FromInit::AppStarted { app: name.clone(), restarts, pid }));
        if let State::Starting { ready } = app.state {
            app.state = State::Running { since: now };
            if ready || app.rules.readiness == Readiness::Started {
                actions.extend(app.become_ready());
            }
        }
        self.tell_ready(&mut actions);
        self.start_queued(&mut actions);
        actions
    }

    /// Takes notice that the app, as it was last started, is ready.
    pub fn ready(&mut self, name: &AppName) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(index) = self.index(name) {
            actions.extend(self.apps[index].become_ready());
            self.tell_ready(&mut actions);
            self.start_queued(&mut actions);
        }
        actions
    }

    /// Takes notice that the app's process has ended, or never was executed.
    pub fn ended(
        &mut self,
        name: &AppName,
        exit: Ended,
        error: Option<Box<Report>>,
        now: Millis,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(index) = self.index(name) else { return actions };
        let up = self.stage == Stage::Up;
        let app = &mut self.apps[index];
        let restart_in_ms = app.end(exit, up, now);
        let app = name.clone();
        actions.push(Action::Tell(FromInit::AppEnded { app, exit, error, restart_in_ms }));
        if restart_in_ms.is_none() {
            self.conclude(index, Some(exit), now, &mut actions);
        }
        self.tell_ready(&mut actions);
        self.start_queued(&mut actions);
        actions
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        for app in &mut self.apps {
            match app.state {
                State::Stopping { kill_at: Some(at) } if at <= now => {
                    app.state = State::Stopping { kill_at: None };
                    actions.push(Action::Signal(app.rules.name.clone(), SIGKILL));
                }
                State::Waiting { until, .. } if until <= now => actions.push(app.start()),
                _ => {}
            }
        }
        actions
    }

    /// Returns when [`Machine::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let due = |app: &App| match app.state {
            State::Stopping { kill_at } => kill_at,
            State::Waiting { until, .. } => Some(until),
            _ => None,
        };
        self.apps.iter().filter_map(due).min()
    }

    fn index(&self, name: &AppName) -> Option<usize> {
        self.apps.iter().position(|app| app.rules.name == *name)
    }

    /// Decides what the end of an app for good means for the pod. `exit` is `None` if it was
    /// stopped while it only waited for its next start.
    fn conclude(
        &mut self,
        index: usize,
        exit: Option<Ended>,
        now: Millis,
        actions: &mut Vec<Action>,
    ) {
        let app = &self.apps[index];
        let code = exit.filter(|_| !app.stop_requested).map_or(0, Ended::code);
        let (init, stopped) = (app.rules.role == Role::Init, app.stop_requested);
        if self.stage == Stage::Up {
            self.note(code);
            if self.ends_pod(index, code) || (init && code != 0 && self.policy != ExitPolicy::Never)
            {
                self.stage = Stage::Ending { code, grace_ms: None };
            } else if !stopped {
                self.give_up_those_after(index, actions);
            }
            self.end_if_done();
        }
        self.go_down(now, actions);
    }

    fn note(&mut self, code: u8) {
        if code != 0 && self.policy != ExitPolicy::Never {
            self.first_failure.get_or_insert(code);
        }
    }

    fn ends_pod(&self, index: usize, code: u8) -> bool {
        match &self.policy {
            ExitPolicy::AnyFailure => code != 0,
            ExitPolicy::All | ExitPolicy::Never => false,
            ExitPolicy::Main(main) => *main == self.apps[index].rules.name,
        }
    }

    /// Begins the end of a pod in which nothing is left to run.
    fn end_if_done(&mut self) {
        let pending = self.apps.iter().any(|app| app.state.is_pending());
        if self.stage == Stage::Up && !pending && self.policy != ExitPolicy::Never {
            let code = self.first_failure.unwrap_or(0);
            self.stage = Stage::Ending { code, grace_ms: None };
        }
    }

    /// While the pod ends: stops the last app that lives, one at a time; then finishes.
    fn go_down(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let Stage::Ending { code, grace_ms } = self.stage else { return };
        for app in self.apps.iter_mut().rev() {
            if !app.state.has_process() {
                app.stop(grace_ms, now, actions);
            }
        }
        if self.apps.iter().any(|app| matches!(app.state, State::Stopping { .. })) {
            return;
        }
        match self.apps.iter_mut().rev().find(|app| app.state.has_process()) {
            Some(app) => app.stop(grace_ms, now, actions),
            None => {
                self.stage = Stage::Over;
                actions.push(Action::Finish(code));
            }
        }
    }
}

fn refused(name: &AppName, code: &str, why: &str) -> Action {
    let report = Box::new(Report::new(code, format!("app `{name}` {why}")).exit(1));
    Action::Tell(FromInit::Refused { app: Some(name.clone()), report })
}
