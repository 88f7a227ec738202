//! PID 1: one loop that carries events to the [machine](crate::machine) and its actions out.
//!
//! Single-threaded, for its children are copies of it. It waits for the supervisor, for the
//! ends of processes, for the verdicts of those it has just launched, for the sockets of readiness,
//! and for the moments the machine and the probes have asked for. Whatever ends it ends the
//! pod, for the kernel kills a pid namespace with its first process.

mod asking;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use pod_abi::app::{PidMode, Process};
use pod_abi::exit::{Ended, KILLED, NOT_FOUND, OURS};
use pod_abi::inner::{FromInit, Setup, Target, ToInit};
use pod_abi::name::AppName;
use pod_abi::report::Report;
use pod_sys::{Exit, Waited};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::channel::{Channel, ChannelError};
use crate::hosted::{Hosted, take_stdio};
use crate::launch::{
    Deed, Launch, LaunchError, Launched, Launcher, Outcome, Place, Sockets, Streams,
};
use crate::machine::{Action, Machine, Millis};
use crate::processes::{Living, Processes, Role};
use crate::readiness::{TAG, Watches};
use crate::surroundings::{SetupError, set_up};

/// Why PID 1 ends before its pod has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The supervisor cannot be spoken to.
    #[error("the supervisor cannot be spoken to")]
    Channel(#[from] ChannelError),
    /// The pod cannot be laid out.
    #[error("the pod cannot be laid out")]
    Setup(#[from] SetupError),
    /// Something the loop itself needs failed.
    #[error("cannot {0}")]
    Loop(&'static str, #[source] io::Error),
    /// The supervisor said something that makes no sense at this point.
    #[error("the supervisor gave an order out of turn")]
    OutOfTurn,
}

/// Names what the loop was doing when it failed.
fn doing<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Loop(what, error.into())
}

/// What an event in the loop is about; of the other numbers those from [`TAG`] on belong to
/// [`Watches`], and the rest are ids of processes whose verdict has come.
const CHANNEL: u64 = 0;
/// See [`CHANNEL`]. PID 1 itself is never launched, so that the number is free.
const SIGNALS: u64 = 1;

/// How a program ends whose dynamic linker lacks a library, and a shell whose command is missing.
const NO_PROGRAM: Ended = Ended::Exited { code: NOT_FOUND };

/// How soon a program ends that could not begin. What has run for longer had its libraries.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How many events are taken at once.
const EVENTS: usize = 8;

/// Serves the pod the supervisor describes through `channel`, to its end.
///
/// Returns the pod's exit status, of which the supervisor knows then.
///
/// # Errors
///
/// [`Error`]; the pod has to end with this process.
pub fn serve(channel: &mut Channel) -> Result<u8, Error> {
    let setup = greet(channel)?;
    Pid1::new(channel, setup)?.run()
}

/// Waits for the first order and carries it out.
fn greet(channel: &mut Channel) -> Result<Setup, Error> {
    loop {
        match channel.receive()? {
            Some(ToInit::Setup(setup)) => {
                set_up(&setup)?;
                channel.send(&FromInit::Ready)?;
                return Ok(setup);
            }
            Some(_) => return Err(Error::OutOfTurn),
            None => channel.wait()?,
        }
    }
}

/// A process to run in an app that runs.
#[derive(Debug)]
struct Exec<'a> {
    id: u32,
    app: AppName,
    process: &'a Process,
    deed: Deed<'a>,
    stdio: &'a [OwnedFd; 3],
    terminal: bool,
}

/// PID 1 at work.
#[derive(Debug)]
struct Pid1<'channel> {
    channel: &'channel mut Channel,
    machine: Machine,
    launcher: Launcher,
    apps: BTreeMap<AppName, Hosted>,
    processes: Processes,
    watches: Watches,
    epoll: OwnedFd,
    signals: SignalFd,
    begin: Instant,
    /// What the machine has decided and is not done yet.
    todo: VecDeque<Action>,
    /// The pod's exit status, once it has ended.
    finished: Option<u8>,
    /// Whether the loop is told when the channel takes more.
    watches_sending: bool,
}

impl<'channel> Pid1<'channel> {
    fn new(channel: &'channel mut Channel, setup: Setup) -> Result<Self, Error> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block().map_err(doing("block SIGCHLD"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&children, flags).map_err(doing("make a signalfd"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(doing("make an epoll"))?;
        let pid1 = Self {
            channel,
            machine: Machine::new(setup.exit_policy),
            launcher: Launcher::new().map_err(doing("open its own pid namespace"))?,
            apps: BTreeMap::new(),
            processes: Processes::default(),
            watches: Watches::default(),
            epoll,
            signals,
            begin: Instant::now(),
            todo: VecDeque::new(),
            finished: None,
            watches_sending: false,
        };
        pid1.watch(pid1.channel.as_fd(), CHANNEL)?;
        pid1.watch(pid1.signals.as_fd(), SIGNALS)?;
        Ok(pid1)
    }

    fn run(mut self) -> Result<u8, Error> {
        // A child may have ended before its signal was blocked: one look without being asked.
        self.reap()?;
        self.listen()?;
        loop {
            self.act()?;
            if let Some(code) = self.finished {
                return self.say_goodbye(code);
            }
            self.watch_sending()?;
            self.wait()?;
        }
    }

    /// Waits for events, deals with each, and with what is due.
    fn wait(&mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(EVENTS);
        let deadlines = [self.machine.deadline(), self.watches.deadline()];
        let timeout = deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(self.now()));
        let timeout = timeout.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
        });
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => {
                other.map_err(doing("wait for events"))?;
            }
        }
        for event in events {
            match event.data.u64() {
                CHANNEL => {
                    self.channel.flush()?;
                    self.listen()?;
                }
                SIGNALS => self.reap()?,
                watched @ TAG.. => self.look(watched)?,
                pid => self.judge(pid)?,
            }
        }
        let due = self.machine.tick(self.now());
        self.todo.extend(due);
        self.ask()
    }

    fn now(&self) -> Millis {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes the orders that have come.
    fn listen(&mut self) -> Result<(), Error> {
        while let Some(order) = self.channel.receive()? {
            let now = self.now();
            let actions = match order {
                ToInit::Setup(_) => return Err(Error::OutOfTurn),
                ToInit::AddApp { spec, fds } => {
                    let app = Hosted::take(spec, fds, self.channel)?;
                    self.add(app)?
                }
                ToInit::Run => self.machine.run(now),
                ToInit::StartApp { app } => self.machine.start(&app),
                ToInit::StopApp { app, grace_ms } => self.machine.stop(&app, grace_ms, now),
                ToInit::Shutdown { grace_ms } => self.machine.shutdown(grace_ms, now),
                ToInit::RemoveApp { app } => self.machine.remove(&app, now),
                ToInit::Copy { id, app, direction, path } => {
                    let stdio = take_stdio(self.channel)?;
                    let (deed, terminal) = (Deed::Copy(direction, &path), false);
                    match self.apps.get(&app).map(Hosted::copier) {
                        Some(process) => {
                            let process = &process;
                            self.exec(Exec { id, app, process, deed, stdio: &stdio, terminal })?
                        }
                        None => vec![not_begun(id, not_running(&app))],
                    }
                }
                ToInit::Exec { id, app, mut process, terminal } => {
                    let stdio = take_stdio(self.channel)?;
                    self.watches.lend_address(&app, &mut process.env);
                    if let Some(hosted) = self.apps.get(&app) {
                        hosted.lend_credentials(&mut process.env);
                    }
                    let (process, deed) = (&*process, Deed::Execute);
                    self.exec(Exec { id, app, process, deed, stdio: &stdio, terminal })?
                }
                ToInit::Signal { target, signal } => self.pass_on(&target, signal),
                ToInit::Ping => vec![Action::Tell(FromInit::Pong)],
            };
            self.todo.extend(actions);
            // Carried out at once, so that the next order meets what this one has done.
            self.act()?;
        }
        Ok(())
    }

    fn add(&mut self, mut app: Hosted) -> Result<Vec<Action>, Error> {
        let name = app.spec.name.clone();
        if let Err(report) = self.machine.add(app.spec.as_ref().into()) {
            return Ok(vec![Action::Tell(FromInit::Refused { app: Some(name), report })]);
        }
        self.watches
            .add(&mut app.spec, self.epoll.as_fd())
            .map_err(doing("make a socket for an app's readiness"))?;
        self.apps.insert(name, app);
        Ok(Vec::new())
    }

    /// Does what the machine has decided.
    fn act(&mut self) -> Result<(), Error> {
        while let Some(action) = self.todo.pop_front() {
            match action {
                Action::Start(app) => self.start(app)?,
                Action::Stop(app, signal) => {
                    if let Some(living) = self.processes.main_of_mut(&app) {
                        living.stop(signal).map_err(doing("send a signal"))?;
                    }
                }
                Action::Signal(app, signal) => {
                    if let Some(living) = self.processes.main_of(&app) {
                        living.signal(signal).map_err(doing("send a signal"))?;
                    }
                }
                Action::Forget(app) => {
                    self.apps.remove(&app);
                    self.watches.forget(&app, self.epoll.as_fd());
                }
                Action::Tell(news) => self.channel.queue(&news)?,
                Action::Finish(code) => self.finished = Some(code),
            }
        }
        Ok(self.channel.flush()?)
    }

    fn start(&mut self, name: AppName) -> Result<(), Error> {
        if let Some(app) = self.apps.get_mut(&name) {
            self.watches
                .starts(&mut app.spec, self.epoll.as_fd())
                .map_err(doing("make a socket for an app's readiness"))?;
        }
        let launched = match self.apps.get(&name).and_then(Hosted::start) {
            Some(launch) => launch_one(&self.launcher, &launch, &name)?,
            None => {
                let text = format!("app `{name}` came without a tree or standard output");
                Err(Report::new("app.spec", text))
            }
        };
        match launched {
            Ok(launched) => self.take_in(Role::Main(name), launched),
            Err(report) => {
                let exit = Ended::NotStarted { code: report.exit };
                let now = self.now();
                let actions = self.machine.ended(&name, exit, Some(Box::new(report)), now);
                self.todo.extend(actions);
                Ok(())
            }
        }
    }

    /// Launches a process in an app that runs.
    fn exec(&mut self, exec: Exec<'_>) -> Result<Vec<Action>, Error> {
        let Exec { id, app: name, process, deed, stdio, terminal } = exec;
        // Whoever has read what the app says may come before we have looked at its verdict.
        if let Some(main) = self.processes.main_of(&name).filter(|main| !main.is_executed()) {
            self.judge(u64::from(main.pid.as_raw().unsigned_abs()))?;
        }
        let stdio = stdio.each_ref().map(AsFd::as_fd);
        let streams = if terminal { Streams::Terminal(stdio) } else { Streams::Given(stdio) };
        let launched = self.join(&name, process, deed, streams)?;
        match launched {
            Ok(launched) => {
                self.take_in(Role::Exec { id, app: name }, launched)?;
                Ok(Vec::new())
            }
            Err(report) => Ok(vec![not_begun(id, report)]),
        }
    }

    /// Launches a process beside the main process of an app that runs.
    fn join(
        &self,
        name: &AppName,
        process: &Process,
        deed: Deed<'_>,
        streams: Streams<'_>,
    ) -> Result<Result<Launched, Report>, Error> {
        let main = self.processes.main_of(name).filter(|main| main.is_executed());
        let (Some(main), Some(app)) = (main, self.apps.get(name)) else {
            return Ok(Err(not_running(name)));
        };
        let launch = Launch {
            process,
            deed,
            place: Place::Joined { main: main.pidfd().as_fd() },
            pid: app.spec.pid,
            cgroup: app.cgroup(),
            streams,
            sockets: Sockets::default(),
        };
        launch_one(&self.launcher, &launch, name)
    }

    fn take_in(&mut self, role: Role, launched: Launched) -> Result<(), Error> {
        let data = u64::from(launched.pid.as_raw().unsigned_abs());
        watch(&self.epoll, launched.verdict.as_fd(), data)?;
        self.processes.insert(role, launched);
        Ok(())
    }

    /// Passes on a signal the supervisor sends to an app or an exec.
    fn pass_on(&self, target: &Target, signal: u8) -> Vec<Action> {
        let refuse = |code: &str, text: String| {
            let report = Box::new(Report::new(code, text).exit(pod_abi::exit::REFUSED));
            vec![Action::Tell(FromInit::Refused { app: None, report })]
        };
        if !(1..=64).contains(&signal) {
            return refuse("signal.unknown", format!("there is no signal {signal}"));
        }
        match target {
            Target::App(app) => self.machine.signal(app, signal),
            Target::AllApps => self.machine.signal_all(signal),
            Target::Exec(id) => match self.processes.exec(*id).map(|exec| exec.signal(signal)) {
                Some(Ok(())) => Vec::new(),
                _ => refuse("exec.not-running", format!("exec {id} does not run")),
            },
        }
    }

    /// Takes the verdict of a launched process.
    fn judge(&mut self, pid: u64) -> Result<(), Error> {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(-1));
        let now = self.now();
        let Some(living) = self.processes.by_pid(pid) else { return Ok(()) };
        let before = living.is_executed();
        let actions = settle(&self.epoll, &mut self.machine, living, now)?;
        if let Role::Main(app) = &living.role
            && !before
            && living.is_executed()
        {
            self.watches.executed(app, now);
        }
        self.todo.extend(actions);
        Ok(())
    }

    /// Reaps every child that has ended.
    fn reap(&mut self) -> Result<(), Error> {
        while self.signals.read_signal().map_err(doing("read a signal"))?.is_some() {}
        while let Some(waited) = pod_sys::wait_any().map_err(doing("wait for a child"))? {
            let Some(mut living) = self.processes.remove(waited.pid) else { continue };
            let now = self.now();
            let actions = settle(&self.epoll, &mut self.machine, &mut living, now)?;
            self.todo.extend(actions);
            self.bury(living, waited)?;
        }
        Ok(())
    }

    /// Tells of the end of a process of ours.
    fn bury(&mut self, living: Living, waited: Waited) -> Result<(), Error> {
        let Living { role, failure, carried_out, since, .. } = living;
        let (Role::Main(name)
        | Role::Exec { app: name, .. }
        | Role::Probe { app: name, .. }
        | Role::Explainer(name)) = &role;
        let error = failure.as_ref().map(|failure| Box::new(failure.report(name.as_str())));
        let exit = match (failure, waited.exit) {
            (Some(failure), _) => Ended::NotStarted { code: failure.code() },
            // What a reaper says of an app that was killed.
            (None, Exit::Code(KILLED))
                if self
                    .apps
                    .get_mut(name)
                    .is_some_and(|app| app.spec.reaper && app.was_oom_killed()) =>
            {
                Ended::Signaled { signal: Signal::SIGKILL as u8, oom: true }
            }
            (None, Exit::Code(code)) => Ended::Exited { code },
            (None, Exit::Signal(signal)) if signal != Signal::SIGKILL as u8 => {
                Ended::Signaled { signal, oom: false }
            }
            (None, Exit::Signal(killed)) => {
                let oom = self.apps.get_mut(name).is_some_and(Hosted::was_oom_killed);
                let signal = carried_out.filter(|_| !oom).unwrap_or(killed);
                Ended::Signaled { signal, oom }
            }
        };
        match role {
            Role::Main(name) if exit == NO_PROGRAM && since.elapsed() < AT_ONCE => {
                self.explain(name)
            }
            Role::Main(name) => self.main_ended(&name, exit, error),
            Role::Explainer(name) => {
                // Whatever else it met with is its own trouble.
                let error = error.filter(|report| report.exit == NOT_FOUND);
                self.main_ended(&name, NO_PROGRAM, error)
            }
            Role::Probe { app, round } => {
                self.answer(&app, round, !exit.is_failure());
                Ok(())
            }
            Role::Exec { id, .. } => {
                self.todo.push_back(Action::Tell(FromInit::ExecEnded { id, exit, error }));
                Ok(())
            }
        }
    }

    /// Has it found out why a program that was executed ended as if there were none.
    fn explain(&mut self, name: AppName) -> Result<(), Error> {
        self.watches.ended(&name, self.epoll.as_fd());
        let launch = self.apps.get(&name).and_then(Hosted::start);
        // Not in a pid namespace of its own: of that it would be the first process, whom no alarm
        // can end.
        let (deed, pid, sockets) = (Deed::Explain, PidMode::Pod, Sockets::default());
        let launch = launch.map(|launch| Launch { deed, pid, sockets, ..launch });
        let launched = match launch {
            Some(launch) => launch_one(&self.launcher, &launch, &name)?.ok(),
            None => None,
        };
        match launched {
            Some(launched) => self.take_in(Role::Explainer(name), launched),
            None => self.main_ended(&name, NO_PROGRAM, None),
        }
    }

    /// Deals with the end of an app's main process, and of what it leaves.
    fn main_ended(
        &mut self,
        name: &AppName,
        exit: Ended,
        error: Option<Box<Report>>,
    ) -> Result<(), Error> {
        // In a pid namespace of the app's the kernel has done so; in the pod's nobody has.
        for other in self.processes.others_in(name) {
            other.signal(Signal::SIGKILL as u8).map_err(doing("kill an exec"))?;
        }
        if let Some(app) = self.apps.get(name) {
            app.kill_rest();
        }
        self.watches.ended(name, self.epoll.as_fd());
        let now = self.now();
        let actions = self.machine.ended(name, exit, error, now);
        self.todo.extend(actions);
        Ok(())
    }

    /// Sends the last frame, and waits until it is taken.
    fn say_goodbye(self, code: u8) -> Result<u8, Error> {
        self.channel.send(&FromInit::PodEnded { code })?;
        while self.channel.is_waiting() {
            self.channel.wait()?;
            self.channel.flush()?;
        }
        Ok(code)
    }

    fn watch(&self, fd: impl AsFd, data: u64) -> Result<(), Error> {
        watch(&self.epoll, fd, data)
    }

    /// Has the loop told when the channel takes more, while something waits to be sent.
    fn watch_sending(&mut self) -> Result<(), Error> {
        let wanted = self.channel.is_waiting();
        if wanted != self.watches_sending {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wanted);
            let data = epoll::EventData::new_u64(CHANNEL);
            epoll::modify(&self.epoll, self.channel.as_fd(), data, flags)
                .map_err(doing("watch the channel"))?;
            self.watches_sending = wanted;
        }
        Ok(())
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, data: u64) -> Result<(), Error> {
    let data = epoll::EventData::new_u64(data);
    epoll::add(epoll, fd, data, epoll::EventFlags::IN).map_err(doing("watch a descriptor"))
}

/// Takes a verdict, if there is one; tells the machine, or the supervisor.
///
/// The pipe is taken out of the epoll by hand: copies of it live in other children until they
/// execute, and would keep it there.
fn settle(
    epoll: &OwnedFd,
    machine: &mut Machine,
    living: &mut Living,
    now: Millis,
) -> Result<Vec<Action>, Error> {
    let pid = living.pid.as_raw().unsigned_abs();
    let Some((verdict, outcome)) = living.settle() else { return Ok(Vec::new()) };
    epoll::delete(epoll, &verdict).map_err(doing("forget a descriptor"))?;
    Ok(match (outcome, &living.role) {
        (Outcome::Executed, Role::Main(app)) => machine.started(app, pid, now),
        (Outcome::Executed, Role::Exec { id, .. }) => {
            vec![Action::Tell(FromInit::ExecStarted { id: *id })]
        }
        (Outcome::Pending | Outcome::Failed(_), _)
        | (_, Role::Explainer(_) | Role::Probe { .. }) => Vec::new(),
    })
}

/// Launches a process; the inner error is the app's trouble, the outer one everybody's.
fn launch_one(
    launcher: &Launcher,
    launch: &Launch<'_>,
    name: &AppName,
) -> Result<Result<Launched, Report>, Error> {
    match launcher.launch(launch) {
        Ok(launched) => Ok(Ok(launched)),
        Err(LaunchError::NotLaunched(failure)) => Ok(Err(failure.report(name.as_str()))),
        Err(LaunchError::Lost(error)) => Err(Error::Loop("return to its pid namespace", error)),
    }
}

fn not_running(app: &AppName) -> Report {
    Report::new("app.not-running", format!("app `{app}` does not run"))
}

/// Tells that the process of an exec or a copy has not come to life.
fn not_begun(id: u32, report: Report) -> Action {
    let exit = Ended::NotStarted { code: report.exit };
    Action::Tell(FromInit::ExecEnded { id, exit, error: Some(Box::new(report)) })
}

/// Returns the report of an error that ends PID 1.
#[must_use]
pub fn last_words(error: &Error) -> FromInit {
    FromInit::Failed(Box::new(Report::of("pod.init", error).exit(OURS)))
}
