//! The life of a pod, from the supervisor's side: one loop that waits, hears, records and tells.
//!
//! 1. the first status is written, so that whatever is made from here on can be found and undone;
//!    signals are blocked and the control socket is bound;
//! 2. the wall is raised, the apps laid out, PID 1 told to run them;
//! 3. the loop, until everything behind the wall has ended;
//! 4. the wall and the socket are taken away and the last status is written.
//!
//! Steps 1 and 4 happen whatever fails in between.

mod attending;
mod changing;
mod hearing;
mod limiting;
mod memory;
mod serving;
mod showing;
mod telling;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::time::{Duration, Instant};

use pod_abi::exit;
use pod_abi::inner::{Setup, Target, ToInit};
use pod_abi::manifest::Network;
use pod_abi::stage::{self, Order, Output};
use pod_abi::status::Event;
use pod_abi::{AppName, Report, version};

use crate::control::{self, Control};
use crate::error::{During, Failure};
use crate::events::{Events, Interest, Token};
use crate::handover::Inherited;
use crate::journal::Journal;
use crate::link::Link;
use crate::log::Log;
use crate::networks::OfHost;
use crate::notify::Notify;
use crate::outputs::Outputs;
use crate::pod::Pod;
use crate::records::{self, Records};
use crate::registrar::Registrar;
use crate::signals::{Meaning, SIGHUP, Signals};
use crate::telling::Telling;
use crate::wall::{Born, Wall};
use crate::watchdog::Watchdog;

/// How long PID 1 may take to answer its first frame, and to end once it has said that the pod
/// is over. It does next to nothing in either; a machine under load may be a thousand times slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the channel is read after PID 1 has ended: more than a socket can hold.
const LAST_WORDS: usize = 256;

/// How much later than it came what an app says of itself is in the record: it may say it often.
const TALK: Duration = Duration::from_secs(1);

/// Runs a pod from its first status to its last and returns its exit status: 0 for the main process
/// of a unit that was asked to end, whatever the apps have made of that; the record has their word.
///
/// Whatever goes wrong is written into the status; it is not printed. When this returns, nothing
/// of the pod runs any more; what `wall` could not take away is in the status for `pod reap`.
pub fn supervise(order: &Order, inherited: &Inherited, wall: &mut impl Wall) -> u8 {
    let mut pod = Pod::new(order, process::id(), records::boot_id(), records::now());
    pod.status.cgroup = wall.cgroup();
    match begin(order, inherited, &mut pod) {
        Ok((records, signals, control, events)) => {
            let stage = Stage { order, inherited, wall, records, signals, control, events };
            Living::new(stage, pod).live()
        }
        Err(failure) => {
            pod.end(exit::OURS, Some(failure.report()), records::now());
            // If this is what cannot be written, whoever waits sees the exit status alone.
            let _ = records::write_status(inherited.pod.as_fd(), &pod.status);
            exit::OURS
        }
    }
}

fn begin(
    order: &Order,
    inherited: &Inherited,
    pod: &mut Pod,
) -> Result<(Records, Signals, Control, Events), Failure> {
    records::write_status(inherited.pod.as_fd(), &pod.status)?;
    // Who PID 1 is comes with the first word of it.
    pod.changed = false;
    let mut records = Records::open(inherited.pod.as_fd(), order.attempt)?;
    records.event(pod.status.started, Event::PodStarted);
    let signals = Signals::block().during(|| "cannot block signals, signalfd4()")?;
    let control = Control::bind(inherited.run.as_fd())?;
    let events = Events::new().during(|| "cannot wait for events, epoll_create1()")?;
    Ok((records, signals, control, events))
}

/// What a living pod stands on.
struct Stage<'a, W> {
    order: &'a Order,
    inherited: &'a Inherited,
    wall: &'a mut W,
    records: Records,
    signals: Signals,
    control: Control,
    events: Events,
}

/// Why the pod ends.
#[derive(Debug)]
enum Verdict {
    /// PID 1 has said so, with this status.
    Over(u8),
    /// Something of ours, or PID 1, went wrong.
    Failed(Report),
}

/// Who asked the pod to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// A signal to this process.
    Signal(u8),
    /// A client.
    Request,
    /// Nobody: memory ran out in an app, and that is to end the pod.
    OutOfMemory,
}

/// A pod whose supervisor waits.
struct Living<'a, W> {
    order: &'a Order,
    inherited: &'a Inherited,
    wall: &'a mut W,
    records: Records,
    signals: Signals,
    control: Control,
    events: Events,
    pod: Pod,
    outputs: Outputs,
    notify: Notify,
    telling: Telling,
    watchdog: Option<Watchdog>,
    /// Who tells machined of the pod, until that is done.
    registrar: Option<Registrar>,
    /// The apps that reload.
    reloading: BTreeSet<AppName>,
    /// How the pod was summed up last, and when that is to be done anew.
    summary: String,
    summed_until: Option<Instant>,
    /// When what apps say of themselves is written.
    talk_due: Option<Instant>,
    link: Option<Link>,
    end: Option<OwnedFd>,
    stopping: Option<Stopping>,
    killed: bool,
    verdict: Option<Verdict>,
    patience: Option<Instant>,
    /// Until when a client may come for whom the apps are held.
    held: Option<Instant>,
    /// The streams the epoll waits for.
    watched: BTreeSet<Token>,
    /// Whether the epoll waits for memory to run out.
    memory_watched: bool,
}

impl<'a, W: Wall> Living<'a, W> {
    fn new(stage: Stage<'a, W>, pod: Pod) -> Self {
        let journal = stage.order.journal.then(|| Journal::new(&stage.order.pod)).flatten();
        Self {
            outputs: Outputs::new(stage.order.output, journal),
            order: stage.order,
            inherited: stage.inherited,
            wall: stage.wall,
            records: stage.records,
            signals: stage.signals,
            control: stage.control,
            events: stage.events,
            pod,
            notify: Notify::from_environment(),
            telling: Telling::default(),
            watchdog: telling::watchdog(stage.order, Instant::now()),
            registrar: None,
            reloading: BTreeSet::new(),
            summary: String::new(),
            summed_until: Some(Instant::now()),
            talk_due: None,
            link: None,
            end: None,
            stopping: None,
            killed: false,
            verdict: None,
            patience: None,
            held: None,
            watched: BTreeSet::new(),
            memory_watched: false,
        }
    }

    fn live(mut self) -> u8 {
        match self.start() {
            Ok(()) => {
                if let Err(failure) = self.run() {
                    self.fail(failure.report());
                }
            }
            Err(failure) if failure.is_interruption() => self.break_off(),
            Err(failure) => self.fail(failure.report()),
        }
        self.finish()
    }

    /// Ends a pod that was asked to end before its wall stood: by what has asked, and not by a
    /// failure.
    fn break_off(&mut self) {
        while let Some(meaning) = self.signals.next() {
            if let Meaning::End(signal) = meaning
                && self.stopping.is_none()
            {
                self.stopping = Some(Stopping::Signal(signal));
                self.records.event(records::now(), Event::PodStopping);
            }
        }
        self.kill();
    }

    /// Raises the wall, lays the apps out and lets them run.
    fn start(&mut self) -> Result<(), Failure> {
        let networks = OfHost { order: self.order, inherited: self.inherited };
        let Born { channel, end, pid, joined } = self.wall.raise(&networks)?;
        let link = Link::new(channel);
        self.pod.status.init = pid;
        self.pod.status.joined = joined;
        let sandbox = &self.order.pod.sandbox;
        let hostname = sandbox.hostname.as_ref().unwrap_or(&self.order.pod.name);
        let setup = Setup {
            version: version::INNER,
            hostname: hostname.to_string(),
            own_network: !matches!(sandbox.network, Network::Host | Network::Path(_)),
            exit_policy: sandbox.exit_policy.clone(),
            shares_processes: self.wall.shares_processes(),
        };
        link.send(&self.wall.pack(&ToInit::Setup(setup), Vec::new())?)?;
        self.patience = Some(Instant::now() + PATIENCE);
        let added = self.wall.add_apps(&self.order.apps)?;
        for (app, added) in self.order.apps.iter().zip(added) {
            let spec = &app.spec;
            let log = Log::open(self.inherited.pod.as_fd(), &spec.name, spec.log)?;
            self.outputs
                .add(spec.name.clone(), Some(log), added.stdio)
                .during(|| format!("cannot take the streams of app `{}`", spec.name))?;
            self.outputs.introduce(spec);
            let message = ToInit::AddApp { spec: self.as_told(spec), fds: added.fds };
            link.send(&self.wall.pack(&message, added.descriptors)?)?;
        }
        if self.order.hold {
            self.held = Some(Instant::now() + PATIENCE);
        } else {
            link.send(&self.wall.pack(&ToInit::Run, Vec::new())?)?;
        }
        self.watch(&link, &end).during(|| "cannot wait for the pod, epoll_ctl()")?;
        (self.link, self.end) = (Some(link), Some(end));
        self.watch_streams();
        self.watch_memory();
        self.wall.settle();
        self.register();
        if self.order.hold {
            self.telling.add(stage::HELD);
        }
        Ok(())
    }

    fn watch(&self, link: &Link, end: &OwnedFd) -> rustix::io::Result<()> {
        self.events.add(&self.signals, Token::Signals, Interest::Read)?;
        self.events.add(link, Token::Channel, Interest::Read)?;
        self.events.add(end, Token::End, Interest::Read)?;
        self.events.add(&self.control, Token::Listener, Interest::Read)
    }

    /// Writes the status if it has changed.
    fn record(&mut self) {
        let now = Instant::now();
        if std::mem::take(&mut self.pod.talked) {
            self.talk_due.get_or_insert(now + TALK);
            self.summed_until = Some(now);
        }
        if self.talk_due.is_some_and(|due| due <= now) {
            self.pod.changed = true;
        }
        if self.pod.changed {
            self.summed_until = Some(now);
        }
        if self.pod.changed && !self.pod.is_about_to_end() {
            self.pod.changed = false;
            self.talk_due = None;
            // A full disk must not end the pod; the next change tries again.
            let _ = records::write_status(self.inherited.pod.as_fd(), &self.pod.status);
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        loop {
            self.record();
            let now = Instant::now();
            let (told, written) = (self.tell_manager(now), self.write_journal(now));
            let deadlines =
                [self.patience, self.held, self.control.deadline(), self.talk_due, told, written];
            let deadline = deadlines.into_iter().flatten().min();
            let tokens = self.events.wait(deadline).during(|| "cannot wait, epoll_wait()")?;
            for token in tokens {
                if token == Token::End {
                    // What came to pass before the end is recorded before it.
                    self.heed_memory();
                    self.hear_last_words();
                    return Ok(());
                }
                self.turn(token);
            }
            self.overdue(Instant::now());
        }
    }

    fn turn(&mut self, token: Token) {
        match token {
            Token::Signals => {
                while let Some(meaning) = self.signals.next() {
                    self.obey(meaning);
                }
            }
            Token::Channel => {
                self.hear();
            }
            Token::Listener => self.accept(),
            Token::Memory => self.heed_memory(),
            Token::Client(number) => self.serve(number),
            Token::Stream(..)
            | Token::Screen(_)
            | Token::Input(_)
            | Token::Feed(_)
            | Token::Outlet(..) => self.turn_stream(token),
            Token::Registrar => self.registered(),
            Token::End => {}
        }
        self.watch_streams();
    }

    fn overdue(&mut self, now: Instant) {
        for number in self.control.overdue(now) {
            self.hang_up(number);
        }
        if self.patience.is_some_and(|patience| patience <= now) {
            self.patience = None;
            self.fail(Report::new("pod.init-hangs", "the pod's PID 1 does not answer"));
        }
        if self.held.is_some_and(|held| held <= now) {
            self.held = None;
            let what = "nobody has attached to the pod that was held for a client";
            self.fail(Report::new("pod.no-client", what));
        }
    }

    fn obey(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Forward(signal) => self.signal_all(signal),
            // A terminal or session that goes says so twice, or beside a SIGTERM: nobody is in a
            // hurry because of it.
            Meaning::End(SIGHUP) if self.stopping.is_some() => {}
            // A service has no terminal that could go.
            Meaning::End(SIGHUP) if self.order.service.is_some() => self.reload(),
            // A service manager that was told of a stop passes it on, after a client that has told us
            // the grace, or before.
            Meaning::End(signal)
                if self.order.service.is_some() && self.stopping == Some(Stopping::Request) =>
            {
                self.stopping = Some(Stopping::Signal(signal));
            }
            Meaning::End(_) if self.stopping.is_some() => self.kill(),
            Meaning::End(signal) => self.stop(Stopping::Signal(signal), None),
        }
    }

    /// Sends all apps a signal; once the pod goes on, if it stands still: a PID 1 that does not read
    /// could be told a few hundred times only.
    fn signal_all(&mut self, signal: u8) {
        let target = Target::AllApps;
        if self.pod.status.paused {
            self.pod.keep_for_resume(target, signal);
        } else {
            self.tell(&ToInit::Signal { target, signal });
        }
    }

    fn stop(&mut self, stopping: Stopping, grace_ms: Option<u64>) {
        if self.stopping.is_none() {
            self.stopping = Some(stopping);
            self.records.event(records::now(), Event::PodStopping);
        }
        // What stands still cannot end in order.
        match self.go_on() {
            Ok(()) => {}
            // Asked a second time while it was to go on: somebody is in a hurry.
            Err(failure) if failure.is_interruption() => self.kill(),
            Err(failure) => self.fail(failure.report()),
        }
        self.tell_stop(grace_ms);
        self.tell(&ToInit::Shutdown { grace_ms });
    }

    fn kill(&mut self) {
        self.killed = true;
        self.wall.kill();
    }

    fn fail(&mut self, report: Report) {
        // The first failure is the cause; what follows from it is not told.
        self.verdict.get_or_insert(Verdict::Failed(report));
        self.wall.kill();
    }

    fn tell(&mut self, message: &ToInit) {
        self.tell_with(message, Vec::new());
    }

    /// Sends a frame to PID 1; a PID 1 that cannot be reached ends the pod. One that has ended
    /// says so by its end, not by our failing to reach it.
    fn tell_with(&mut self, message: &ToInit, descriptors: Vec<OwnedFd>) {
        let Some(link) = &self.link else { return };
        let told = self.wall.pack(message, descriptors).and_then(|parcel| link.send(&parcel));
        if let Err(failure) = told {
            self.fail(failure.report());
        }
    }

    /// Takes everything away and writes the last status.
    fn finish(mut self) -> u8 {
        self.tell_manager(Instant::now());
        if let Some(registrar) = self.registrar.take() {
            registrar.end();
        }
        self.wall.kill();
        self.wall.take_down();
        self.outputs.drain(records::now());
        let (code, error) = self.outcome();
        // A service that was asked to end and has done so did not fail.
        let asked = matches!(self.stopping, Some(Stopping::Signal(_) | Stopping::Request));
        let as_asked = self.order.service.is_some() && asked && error.is_none();
        let now = records::now();
        self.pod.end(code, error, now);
        self.records.event(now, Event::PodEnded { code });
        // A full disk keeps the status of before; its reader sees a supervisor that is gone.
        let _ = records::write_status(self.inherited.pod.as_fd(), &self.pod.status);
        self.pod.changed = false;
        self.control.close_all_but(&self.outputs.clients());
        self.end_journal();
        self.show_the_rest();
        self.conclude();
        self.control.close_all();
        control::remove_socket(self.inherited.run.as_fd());
        if as_asked { 0 } else { code }
    }

    fn outcome(&mut self) -> (u8, Option<Report>) {
        let by_signal = match (self.stopping, self.order.output) {
            // Whatever status its apps end with when they are stopped, it has failed.
            (Some(Stopping::OutOfMemory), _) => Some(exit::KILLED),
            (Some(Stopping::Signal(signal)), Output::Shown) => Some(exit::by_signal(signal)),
            _ => None,
        };
        match self.verdict.take() {
            Some(Verdict::Failed(report)) => (exit::OURS, Some(report)),
            Some(Verdict::Over(code)) => (by_signal.unwrap_or(code), None),
            None => (by_signal.unwrap_or(exit::KILLED), None),
        }
    }
}
