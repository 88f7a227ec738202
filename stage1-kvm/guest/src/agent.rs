//! The guest at work: one loop between the host, the wall of namespaces and stage2-init.
//!
//! ```text
//!   WALL   ─ questions ─▶ questions ─▶ namespaces::Namespaces (a supervisor::Wall)
//!   INNER  ─ frames ────▶ frames ────▶ stage2-init, with the descriptors their tokens stand for
//!   STREAM ═ bytes ═════▶ streams ═══▶ pipes and terminals of apps
//! ```
//!
//! It decides nothing: the supervisor on the host does, as it does for a pod of namespaces. What it
//! must never do is wait for one of them while another has something to say; only while it does
//! what a question asks for is everything else held up, as it is on a host.

mod frames;
mod processes;
mod questions;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod_abi::AppName;
use pod_abi::guest::{Configure, FromGuest, Link, ToGuest};
use pod_abi::inner::{AppFds, FromInit};
use pod_abi::report::Report;
use pod_abi::stage::Order;
use supervisor::{During, Failure, Wall};

use crate::configure::{Directories, Laid};
use crate::events::{Events, Happening, Token};
use crate::init_link::InitLink;
use crate::last_words::LastWords;
use crate::machine::Machine;
use crate::secrets::Secrets;
use crate::streams::Streams;
use crate::wire::Wire;
use namespaces::{Flavour, Ground, Namespaces};

/// How long the last words of a pod may take to reach a host that does not know that it is over,
/// and what a process has said last to reach its client.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often stage2-init is heard after it has ended: more than a socket can hold.
const LAST_TURNS: usize = 256;

/// How the work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The pod is over, and the host knows what is to be known.
    Over,
    /// The host is gone.
    Abandoned,
}

/// An app that is laid out.
#[derive(Debug)]
struct App {
    fds: AppFds,
    /// What goes to stage2-init with its specification.
    descriptors: Vec<OwnedFd>,
    streams: Vec<u32>,
    layers: Vec<String>,
}

/// The way to stage2-init.
#[derive(Debug)]
struct Inner {
    host: Wire,
    init: InitLink,
    /// Stays open for the epoll.
    _end: OwnedFd,
    /// Whether stage2-init may have more to say than was heard.
    unheard: bool,
    /// Whether it has said that the pod is over, or why it cannot go on.
    concluded: bool,
}

/// The guest at work.
#[derive(Debug)]
pub(crate) struct Agent<'a, M> {
    machine: &'a M,
    order: &'a Order,
    links: &'a [Link],
    laid: &'a mut Laid,
    layers: OwnedFd,
    events: Events,
    wall: Wire,
    namespaces: Namespaces<'a>,
    secrets: Secrets,
    apps: BTreeMap<AppName, App>,
    execs: BTreeMap<u32, Vec<u32>>,
    streams: Streams,
    inner: Option<Inner>,
    words: LastWords,
    children: SignalFd,
    memory_watched: bool,
}

impl<'a, M: Machine> Agent<'a, M> {
    /// Begins, once the host has told what pod it is.
    pub(crate) fn new(
        machine: &'a M,
        configure: &'a Configure,
        directories: &'a Directories,
        laid: &'a mut Laid,
        wall: Wire,
    ) -> Result<Self, Failure> {
        let Configure { order, links, .. } = configure;
        let mut secrets = Secrets::default();
        let promised = secrets.promise(&order.credentials)?;
        let Directories { pod, run, layers } = directories;
        let ground = Ground { pod, run, layers, sockets: &[] };
        let events = Events::new()?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().during(|| "cannot block SIGCHLD")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&mask, flags).during(|| "signalfd4()")?;
        events.add(&children, Token::Children)?;
        events.add(&wall, Token::Wall)?;
        Ok(Self {
            machine,
            order,
            links,
            laid,
            layers: layers.try_clone().during(|| "cannot copy a descriptor")?,
            events,
            wall,
            namespaces: Namespaces::new(order, ground, promised, Flavour::Guest),
            secrets,
            apps: BTreeMap::new(),
            execs: BTreeMap::new(),
            streams: Streams::new(),
            inner: None,
            words: LastWords::default(),
            children,
            memory_watched: false,
        })
    }

    /// Works until the pod is over or the host is gone. What cannot be done ends the pod, and the
    /// host is told.
    pub(crate) fn work(mut self) -> Result<Ending, Failure> {
        match self.serve() {
            Ok(ending) => Ok(ending),
            Err(failure) => {
                let failed = FromGuest::Failed(Box::new(failure.report()));
                // It may be the very stream that is broken; the console has the word, too.
                let _ = self.wall.say(&failed);
                self.machine.settle();
                Err(failure)
            }
        }
    }

    fn serve(&mut self) -> Result<Ending, Failure> {
        // What came before the epoll did is not told by it.
        self.hear_wall()?;
        loop {
            if self.wall.is_closed() {
                return Ok(Ending::Abandoned);
            }
            let deadline = match self.has_more_to_do() {
                true => Some(Instant::now()),
                false => self.words.deadline(),
            };
            let happened = self.events.wait(deadline)?;
            let mut over = false;
            for Happening { token, error } in happened {
                match token {
                    Token::Wall => self.hear_wall()?,
                    Token::Children => self.reap()?,
                    Token::Memory => self.tell_memory()?,
                    Token::Stream(number) => self.streams.wake(number),
                    Token::Local(number) if error => self.streams.lose_reader(number),
                    Token::Local(number) => self.streams.wake(number),
                    Token::Inner => self.pass_inward()?,
                    Token::Init => self.wake_init()?,
                    Token::End => over = true,
                }
            }
            self.streams.turn();
            self.hear_init()?;
            self.speak()?;
            if over {
                return self.conclude();
            }
            self.check_host()?;
        }
    }

    /// Ends the pod if the host does not hold what it must: it would wait for words that never come,
    /// or miss what an app says.
    fn check_host(&self) -> Result<(), Failure> {
        if self.inner.as_ref().is_some_and(|inner| inner.host.is_closed()) {
            return Err(Failure::new("the host has closed the stream to the pod's PID 1"));
        }
        if self.streams.were_refused() {
            return Err(Failure::new("the host has refused a stream of an app"));
        }
        Ok(())
    }

    fn has_more_to_do(&self) -> bool {
        let unheard = |inner: &Inner| inner.unheard && !inner.host.is_waiting();
        self.streams.are_ready()
            || (self.words.is_empty() && self.inner.as_ref().is_some_and(unheard))
    }

    /// Collects what has ended: orphans of the whole guest come here.
    fn reap(&mut self) -> Result<(), Failure> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        while pod_sys::wait_any().during(|| "cannot collect children, waitid()")?.is_some() {}
        Ok(())
    }

    /// Tells in which apps memory has run out.
    fn tell_memory(&mut self) -> Result<(), Failure> {
        let apps = self.namespaces.out_of_memory();
        if apps.is_empty() {
            return Ok(());
        }
        self.wall.say(&FromGuest::MemoryRanOut(apps))
    }

    /// Has the loop woken by memory that runs out, as soon as anything tells.
    fn watch_memory(&mut self) -> Result<(), Failure> {
        if let (false, Some(alarm)) = (self.memory_watched, self.namespaces.memory_alarm()) {
            self.events.add(alarm, Token::Memory)?;
            self.memory_watched = true;
        }
        Ok(())
    }

    /// Says what is left to say once stage2-init has ended, and takes the wall away.
    fn conclude(&mut self) -> Result<Ending, Failure> {
        self.hear_last_words()?;
        self.namespaces.take_down();
        let concluded = self.inner.as_ref().is_some_and(|inner| inner.concluded);
        if !concluded {
            let what = "the pod's PID 1 was killed or ended without a word";
            let failed = Report::new("pod.init-died", what);
            self.wall.say(&FromGuest::Failed(Box::new(failed)))?;
        }
        self.take_leave(concluded)?;
        self.machine.settle();
        Ok(Ending::Over)
    }

    /// Takes in all that stage2-init, which has ended, has ever said: whether or not the host takes
    /// it now, for nothing more comes.
    fn hear_last_words(&mut self) -> Result<(), Failure> {
        for _ in 0..LAST_TURNS {
            let Some(inner) = &mut self.inner else { break };
            let mut heard = VecDeque::new();
            let more = inner.init.receive(&mut heard)?;
            for word in heard {
                self.take_word(word)?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Stays until the host has all that is left. Once it knows that the pod is over it reads all of
    /// the apps' streams, and ends what takes too long for it; so they are waited for as long as
    /// it is there. What only a client reads is waited for no longer than a [`FAREWELL`], and so is
    /// everything where the host does not know.
    fn take_leave(&mut self, concluded: bool) -> Result<(), Failure> {
        let farewell = Instant::now() + FAREWELL;
        let of_apps = |app: &App| app.streams.clone();
        let patient: Vec<u32> = self.apps.values().flat_map(of_apps).collect();
        loop {
            self.hear_wall_out()?;
            let is_late = Instant::now() >= farewell;
            self.streams.turn();
            let waited_for = if is_late { patient.clone() } else { self.streams.numbers() };
            let left = !self.have_said_all(&waited_for)?;
            if !left || self.wall.is_closed() || (is_late && !concluded) {
                return Ok(());
            }
            let at_once = self.streams.are_ready().then(Instant::now);
            let deadlines = [at_once, self.words.deadline(), (!is_late).then_some(farewell)];
            let deadline = deadlines.into_iter().flatten().min();
            for Happening { token, .. } in self.events.wait(deadline)? {
                if let Token::Stream(number) | Token::Local(number) = token {
                    self.streams.wake(number);
                }
            }
        }
    }

    /// Refuses what the host asks for of a pod that is over, and sees whether the host has gone.
    fn hear_wall_out(&mut self) -> Result<(), Failure> {
        let mut more = true;
        while more {
            more = self.wall.read()?;
            while self.wall.take::<ToGuest>()?.is_some() {
                let over = Failure::new("the pod is over").report();
                self.wall.say(&FromGuest::Refused(Box::new(over)))?;
            }
        }
        self.wall.flush()
    }

    /// Says what can be said now, and tells whether that was all, as far as these streams go.
    fn have_said_all(&mut self, streams: &[u32]) -> Result<bool, Failure> {
        let dry = self.streams.drain(streams);
        self.speak()?;
        let waiting = self.inner.as_ref().is_some_and(|inner| inner.host.is_waiting());
        Ok(dry && self.words.is_empty() && !waiting && !self.wall.is_waiting())
    }

    /// Takes in what stage2-init has said, unless the host has not taken what it said before.
    fn hear_init(&mut self) -> Result<(), Failure> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        if !inner.unheard || !self.words.is_empty() || inner.host.is_waiting() {
            return Ok(());
        }
        let mut heard = VecDeque::new();
        inner.unheard = inner.init.receive(&mut heard)?;
        for word in heard {
            self.take_word(word)?;
        }
        Ok(())
    }

    fn take_word(&mut self, word: FromInit) -> Result<(), Failure> {
        let streams = match &word {
            FromInit::AppEnded { app, .. } => {
                // The cause comes before its effect.
                self.tell_memory()?;
                self.apps.get(app).map(|app| app.streams.clone()).unwrap_or_default()
            }
            FromInit::ExecEnded { id, .. } => self.execs.remove(id).unwrap_or_default(),
            FromInit::PodEnded { .. } => self.streams.numbers(),
            _ => Vec::new(),
        };
        if let (FromInit::PodEnded { .. } | FromInit::Failed(_), Some(inner)) =
            (&word, &mut self.inner)
        {
            inner.concluded = true;
        }
        self.words.push(word, streams, Instant::now());
        Ok(())
    }

    /// Passes words of stage2-init on, as far as what comes before them has been said.
    fn speak(&mut self) -> Result<(), Failure> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        inner.host.flush()?;
        let now = Instant::now();
        while let Some(word) = self.words.next(now, |streams| self.streams.drain(streams)) {
            inner.host.say(&word)?;
        }
        Ok(())
    }

    fn wake_init(&mut self) -> Result<(), Failure> {
        if let Some(inner) = &mut self.inner {
            inner.unheard = true;
        }
        // It may take more, too.
        self.pass_inward()
    }
}
