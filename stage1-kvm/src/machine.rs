//! The wall of this stage1: a virtual machine, its monitor, and the servers of its volumes.
//!
//! ```text
//!   supervisor ── INNER ─────────────▶ ┐                ┌ ▶ stage2-init
//!   machine    ── WALL, questions ───▶ ├ vmm ── guest ──┤
//!              ── helm: streams, files ▶ ┘   │            └ ▶ namespaces, as on a host
//!                                           fsd, one for each volume of the host
//! ```
//!
//! Everything on the right of `vmm` is hostile. What it says is bounded and checked, what it does
//! not say is not waited for, and whatever goes wrong ends the machine and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::time::{Duration, Instant};

use namespaces::{Enclosure, layer_images};
use nix::sys::signalfd::SignalFd;
use pod_abi::control::WindowSize;
use pod_abi::credential::CredentialName;
use pod_abi::guest::{self, Addition, Answer, ToGuest};
use pod_abi::inner::{AppFds, FromInit, ToInit};
use pod_abi::isolators::{Resources, UNLIMITED};
use pod_abi::processes::Listing;
use pod_abi::stage::{AppOrder, Order};
use pod_abi::stats::{AppUsage, Usage};
use pod_abi::{AppName, Report, VolumeName};
use supervisor::{Added, Born, Failure, Networks, Parcel, Terminal, UNSEEN, Wall};

use crate::OVERHEAD;
use crate::alarm::Alarm;
use crate::child::Child;
use crate::disk::Disk;
use crate::helm::Helm;
use crate::host::Ready;
use crate::network::Namespace;
use crate::plan::{self, Host, Plan, Refusal, guest_resources, room_for_apps};
use crate::share::Server;
use crate::talk::{Loss, Talk};
use crate::watch::{Interrupted, Watch};

mod layers;
mod losing;
mod raising;
mod secrets;
mod streams;

use self::streams::Promised;

/// How long a guest is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For its first word. Debian's kernel boots in half a second where virtualisation is real, and
    /// in 4 to 15 s where processors are emulated.
    pub boot: Duration,
    /// For the answer to a question that makes next to nothing.
    pub answer: Duration,
    /// For one that makes trees, loads modules and fills volumes.
    pub laying_out: Duration,
    /// For the answers that are wanted while apps run and their output waits, and are no loss: what
    /// is used, of all apps together.
    pub counting: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            boot: seconds(120),
            answer: seconds(20),
            laying_out: seconds(120),
            counting: seconds(2),
        }
    }
}

/// What a pod stands on. Nothing of it is made or removed here.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The pod's directory, which is the working directory.
    pub pod: &'a OwnedFd,
    /// The directory beneath which the layers of its apps lie.
    pub layers: &'a OwnedFd,
}

/// A pod's machine, from before it is made until after it is gone.
#[derive(Debug)]
pub struct Machine<'a> {
    order: &'a Order,
    ground: Ground<'a>,
    plan: Result<Plan, Failure>,
    ready: fn(Option<BorrowedFd<'_>>) -> Result<Ready, Failure>,
    patience: Patience,
    enclosure: Enclosure,
    /// Contents of credentials, until the guest has them.
    secrets: Vec<(CredentialName, OwnedFd)>,
    disk: Disk,
    /// The pod's network on the host, if it has one. It ends with the last who holds it.
    network: Option<Namespace>,
    /// The volumes of the host, and whether they are shared read-only.
    shared: BTreeMap<VolumeName, bool>,
    /// The limits in force: each app's, and the pod's.
    limits: BTreeMap<Option<AppName>, Resources>,
    crew: RefCell<Crew>,
    line: RefCell<Option<Line>>,
    alarm: Option<Alarm>,
    /// Readable when the pod was asked to end. The supervisor reads what is only seen here.
    signals: Option<SignalFd>,
    /// Whether its apps are laid out, and are from now on to end in order.
    runs: bool,
    /// The size of the terminal that was made last, whose process is told next.
    terminal_size: Cell<WindowSize>,
    /// What was plugged for processes that have not ended.
    promised: RefCell<Promised>,
    /// Why the machine was ended, or has ended, as far as it is known.
    cause: RefCell<Option<Report>>,
}

/// The processes of a machine.
#[derive(Debug, Default)]
struct Crew {
    monitor: Option<Child>,
    servers: Vec<Server>,
}

/// What leads to a machine.
#[derive(Debug)]
struct Line {
    helm: Helm,
    talk: Talk,
}

impl Crew {
    /// Returns what ends a wait for the guest; none if there is no machine.
    fn watch<'w>(
        &'w self,
        patience: Duration,
        (signals, interrupted): (Option<BorrowedFd<'w>>, Interrupted),
    ) -> Option<Watch<'w>> {
        Some(Watch {
            monitor: self.monitor.as_ref()?.pidfd().as_fd(),
            servers: self.servers.iter().map(|server| server.child.pidfd().as_fd()).collect(),
            signals,
            interrupted,
            deadline: Instant::now() + patience,
        })
    }

    fn kill(&self) {
        self.monitor.iter().for_each(Child::kill);
        self.servers.iter().for_each(|server| server.child.kill());
    }
}

impl<'a> Machine<'a> {
    /// Finds out what machine it takes on this host, of which `ready` gives it what every machine
    /// needs, unless its argument becomes readable first; makes nothing.
    #[must_use]
    pub fn new(
        order: &'a Order,
        ground: Ground<'a>,
        credentials: Vec<OwnedFd>,
        host: Host,
        ready: fn(Option<BorrowedFd<'_>>) -> Result<Ready, Failure>,
    ) -> Self {
        let resources = &order.pod.sandbox.resources;
        let of_apps =
            order.apps.iter().map(|app| (Some(app.spec.name.clone()), app.spec.resources.clone()));
        let of_pod = (None, resources.clone());
        Self {
            order,
            ground,
            plan: plan::of(order, host),
            ready,
            patience: Patience::default(),
            enclosure: Enclosure::find(order, OVERHEAD.around(resources)),
            secrets: order.credentials.iter().cloned().zip(credentials).collect(),
            disk: Disk::default(),
            network: None,
            shared: BTreeMap::new(),
            limits: of_apps.chain([of_pod]).collect(),
            crew: RefCell::default(),
            line: RefCell::default(),
            alarm: None,
            signals: None,
            runs: false,
            terminal_size: Cell::new(UNSEEN),
            promised: RefCell::default(),
            cause: RefCell::default(),
        }
    }

    /// Waits as long as this instead of as usual.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    fn plan(&self) -> Result<&Plan, Failure> {
        self.plan.as_ref().map_err(|failure| Failure::from(failure.report()))
    }

    /// Returns what interrupts a wait for the guest, and what becomes of that.
    fn interruption(&self) -> (Option<BorrowedFd<'_>>, Interrupted) {
        let interrupted = if self.runs { Interrupted::Owed } else { Interrupted::Void };
        (self.signals.as_ref().map(AsFd::as_fd), interrupted)
    }

    /// Tells whether the pod has such an app; a guest may name any.
    fn has_app(&self, app: &AppName) -> bool {
        self.limits.contains_key(&Some(app.clone()))
    }

    /// Asks the guest, and waits for its answer.
    fn ask(&self, question: &ToGuest, patience: Duration) -> Result<Answer, Failure> {
        self.ask_by(patience, |talk, watch| talk.ask(question, watch))
    }

    /// Asks something of the guest in a way, and waits for what comes of it.
    fn ask_by<A>(
        &self,
        patience: Duration,
        ask: impl FnOnce(&mut Talk, &Watch<'_>) -> Result<A, Loss>,
    ) -> Result<A, Failure> {
        if let Some(cause) = self.cause.borrow().as_ref() {
            return Err(Failure::from(cause.clone()));
        }
        let mut line = self.line.borrow_mut();
        let asked = {
            let crew = self.crew.borrow();
            let watch = crew.watch(patience, self.interruption());
            let (Some(line), Some(watch)) = (line.as_mut(), watch) else {
                return Err(Failure::new("the pod has no machine yet"));
            };
            ask(&mut line.talk, &watch)
        };
        match (asked, line.as_mut()) {
            (Ok(answer), Some(line)) => {
                if line.talk.has_more() {
                    self.alarm.iter().for_each(Alarm::ring);
                }
                Ok(answer)
            }
            (Err(loss), Some(line)) => Err(self.lose(line, loss)),
            (_, None) => Err(Failure::new("the pod has no machine yet")),
        }
    }

    /// Asks for something that is done or not.
    fn have_done(&self, question: &ToGuest, patience: Duration) -> Result<(), Failure> {
        match self.ask(question, patience)? {
            Answer::Done => Ok(()),
            _ => Err(self.break_off("it answers what was not asked")),
        }
    }

    /// Asks for apps to be laid out, as many as `count`.
    fn lay_out(&self, question: &ToGuest, count: usize) -> Result<Vec<AppFds>, Failure> {
        match self.ask(question, self.patience.laying_out)? {
            Answer::Added(added)
                if added.len() == count && added.iter().all(|fds| fds.sockets == 0) =>
            {
                Ok(added)
            }
            _ => Err(self.break_off("it lays out what was not asked for")),
        }
    }

    /// Counts what an app uses, or the pod, if the guest says so until a moment.
    fn usage_until(&self, app: Option<&AppName>, moment: Instant) -> Option<Usage> {
        let question = ToGuest::Usage(app.cloned());
        let patience = self.patience.answer;
        let asked =
            self.ask_by(patience, |talk, watch| talk.ask_in_passing(&question, watch, moment));
        match asked.ok()?? {
            Answer::Usage(usage) => *usage,
            _ => {
                self.break_off("it answers what was not asked");
                None
            }
        }
    }

    /// Refuses memory that the machine does not have, for `whose` limit.
    fn check_memory(&self, app: Option<&AppName>, wanted: Option<u64>) -> Result<(), Failure> {
        let Some(wanted) = wanted.filter(|bytes| *bytes != UNLIMITED) else { return Ok(()) };
        let in_force = self.limits.get(&app.cloned()).and_then(|limits| limits.memory);
        let room = room_for_apps(self.plan()?.memory).max(in_force.unwrap_or(0));
        if wanted <= room {
            return Ok(());
        }
        let whose = app.map_or_else(|| "the pod".to_owned(), |app| format!("app `{app}`"));
        Err(Refusal::LateMemory.failure(&whose))
    }

    /// Changes limits of the machine as a whole, and of what holds it on the host.
    fn limit_all(&mut self, changes: &Resources) -> Result<(), Failure> {
        let inside = guest_resources(changes);
        let on_host = Resources {
            // The machine has the memory it has.
            memory: None,
            memory_high: None,
            memory_low: None,
            swap: None,
            ..OVERHEAD.around(changes)
        };
        if !inside.is_none() {
            self.have_done(&ToGuest::Limit(None, Box::new(inside.clone())), self.patience.answer)?;
        }
        if on_host.is_none() {
            return Ok(());
        }
        self.enclosure.limit(&on_host).inspect_err(|_| {
            let before = self.limits.get(&None).cloned().unwrap_or_default();
            let back = guest_resources(&before.undoing(&inside));
            // It was so a moment ago; there is nobody else to tell.
            let _ = self.have_done(&ToGuest::Limit(None, Box::new(back)), self.patience.answer);
        })
    }
}

impl Wall for Machine<'_> {
    fn cgroup(&self) -> Option<String> {
        self.enclosure.path().map(str::to_owned)
    }

    fn raise(&mut self, networks: &dyn Networks) -> Result<Born, Failure> {
        self.boot(networks)
    }

    fn add_apps(&mut self, apps: &[AppOrder]) -> Result<Vec<Added>, Failure> {
        let streams =
            apps.iter().map(|app| self.stdio(&app.spec)).collect::<Result<Vec<_>, _>>()?;
        let (told, stdio): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
        let added = self.lay_out(&ToGuest::AddApps(told), apps.len())?;
        let added = added.into_iter().zip(stdio);
        self.runs = true;
        Ok(added.map(|(fds, stdio)| Added { fds, descriptors: Vec::new(), stdio }).collect())
    }

    fn add_app(
        &mut self,
        app: &AppOrder,
        layers: BorrowedFd<'_>,
        credentials: Vec<OwnedFd>,
    ) -> Result<Added, Failure> {
        plan::check_app(app)?;
        self.check_memory(Some(&app.spec.name), app.spec.resources.memory)?;
        self.check_writing(app)?;
        let sandbox = &self.order.pod.sandbox;
        self.map_layers(layers, &layer_images(sandbox.layers, slice::from_ref(app))?)?;
        let names = app.spec.credentials.iter().map(|credential| credential.name.clone());
        self.secrets = names.zip(credentials).collect();
        self.tell_secrets()?;
        let (streams, stdio) = self.stdio(&app.spec)?;
        let layers = self.disk.map_of(&app.layers);
        let tokens = streams::of_an_app(&streams);
        let addition = Addition { app: app.clone(), layers, streams };
        let added = self
            .lay_out(&ToGuest::AddApp(Box::new(addition)), 1)
            .inspect_err(|_| self.unplug(&tokens))?;
        let name = Some(app.spec.name.clone());
        self.limits.insert(name, app.spec.resources.clone());
        match added[..] {
            [fds] => Ok(Added { fds, descriptors: Vec::new(), stdio }),
            _ => Err(Failure::new("one app was to be laid out")),
        }
    }

    fn remove_app(&mut self, app: &AppName) {
        self.limits.remove(&Some(app.clone()));
        // What a guest keeps of it goes with the guest.
        let _ = self.have_done(&ToGuest::RemoveApp(app.clone()), self.patience.answer);
    }

    fn settle(&mut self) {
        // A guest that cannot is lost, which its end tells.
        let _ = self.have_done(&ToGuest::Settle, self.patience.answer);
    }

    fn host_pid(&self, _app: &AppName, _pid: u32) -> Option<u32> {
        None
    }

    fn terminal(&self, _app: &AppName, _uid: u32, size: WindowSize) -> Result<Terminal, Failure> {
        self.terminal_size.set(size);
        streams::terminal()
    }

    fn limit(&mut self, app: Option<&AppName>, limits: &Resources) -> Result<(), Failure> {
        self.check_memory(app, limits.memory)?;
        match app {
            None => self.limit_all(limits)?,
            Some(name) => {
                plan::check_limits(name, limits)?;
                let limits = Box::new(limits.clone());
                self.have_done(&ToGuest::Limit(Some(name.clone()), limits), self.patience.answer)?;
            }
        }
        let in_force = self.limits.remove(&app.cloned()).unwrap_or_default();
        self.limits.insert(app.cloned(), in_force.overridden_by(limits));
        Ok(())
    }

    fn usages(&self, apps: Vec<AppName>) -> (Usage, Vec<AppUsage>) {
        let moment = Instant::now() + self.patience.counting;
        let counted =
            apps.into_iter().filter_map(|app| Some((self.usage_until(Some(&app), moment)?, app)));
        let counted = counted.map(|(usage, app)| AppUsage { app, usage }).collect();
        (self.usage_until(None, moment).unwrap_or_default(), counted)
    }

    fn processes(&self, app: Option<&AppName>) -> Result<Option<Listing>, Failure> {
        match self.ask(&ToGuest::Processes(app.cloned()), self.patience.answer)? {
            Answer::Processes(listing) => Ok(Some(
                listing.tamed(|named| self.has_app(named) && app.is_none_or(|app| app == named)),
            )),
            _ => Err(self.break_off("it answers what was not asked")),
        }
    }

    fn pause(&mut self) -> Result<(), Failure> {
        self.have_done(&ToGuest::Pause, self.patience.answer)
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.have_done(&ToGuest::Resume, self.patience.answer)
    }

    fn memory_alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(AsFd::as_fd)
    }

    fn out_of_memory(&mut self) -> Vec<AppName> {
        self.heed();
        let mut line = self.line.borrow_mut();
        let told = line.as_mut().map(|line| line.talk.out_of_memory()).unwrap_or_default();
        told.into_iter().filter(|app| self.has_app(app)).collect()
    }

    fn pack(&mut self, message: &ToInit, descriptors: Vec<OwnedFd>) -> Result<Parcel, Failure> {
        self.carry(message, &descriptors)
    }

    fn believed(&self, word: FromInit) -> FromInit {
        let take = |report: Box<Report>| Box::new(guest::believed(*report));
        match word {
            FromInit::AppEnded { app, exit, error, restart_in_ms } => {
                FromInit::AppEnded { app, exit, error: error.map(take), restart_in_ms }
            }
            FromInit::ExecEnded { id, exit, error } => {
                let unclaimed = self.promised.borrow_mut().end(id);
                self.unplug(&unclaimed);
                FromInit::ExecEnded { id, exit, error: error.map(take) }
            }
            FromInit::Refused { app, report } => FromInit::Refused { app, report: take(report) },
            FromInit::Failed(report) => FromInit::Failed(take(report)),
            word => word,
        }
    }

    fn why_it_ended(&mut self) -> Option<Failure> {
        Some(Failure::from(self.explain()))
    }

    fn kill(&mut self) {
        self.crew.borrow().kill();
    }

    fn take_down(&mut self) {
        let crew = self.crew.get_mut();
        // Servers end when the monitor does.
        crew.kill();
        let servers = crew.servers.iter_mut().map(|server| &mut server.child);
        for child in crew.monitor.iter_mut().chain(servers) {
            // That it is gone is all that counts.
            let _ = child.reap();
        }
        self.alarm = None;
        *self.line.get_mut() = None;
        self.enclosure.remove();
    }
}
