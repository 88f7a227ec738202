//! From a pod laid out to a pod that runs: in place, by becoming its supervisor, or apart, by
//! having one started ([`crate::supervision`]) and being at most its client.

use std::convert::Infallible;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pod_abi::app::{AppSpec, Stdio as AppStdio};
use pod_abi::control::Request;
use pod_abi::manifest::{Journal, Layers, PodManifest, Userns};
use pod_abi::phase::Home;
use pod_abi::stage::{AppOrder, Order, Output, Service};
use pod_abi::{exit, version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::attend::{Attendance, Manner, Outcome, Signals, Wishes};
use crate::client::{self, Audience, Client};
use crate::context::Context;
use crate::control::Connection;
use crate::error::{CommandError, Context as _, Kind, Result};
use crate::leftovers::Claim;
use crate::networks;
use crate::notify::Heard;
use crate::pods::{Draft, Lock, Pod, Pods};
use crate::stage1::{self, Handover, Stage1};
use crate::supervision::{Begin, Start, Started, Supervision};
use crate::ui::Telling;
use crate::{
    credentials, failure, fetch, host, ids, layers, leftovers, rundir, sockets, supervision,
    systemd, ui,
};

/// How long a supervisor whose pod is over may take to be gone: it takes back what the pod held.
const REAPING: Duration = Duration::from_secs(10);

/// What a launch works with.
#[derive(Debug)]
pub(crate) struct Launcher<'l> {
    pub(crate) context: &'l Context,
    pub(crate) pods: &'l Pods,
    pub(crate) run_root: &'l OwnedFd,
    pub(crate) store: &'l images::Store,
    pub(crate) supervision: &'l dyn Supervision,
}

/// A pod about to run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) manifest: PodManifest,
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) attempt: u32,
    pub(crate) output: Output,
    /// Whether apps wait for a client.
    pub(crate) hold: bool,
    /// The unit this process is the main process of.
    pub(crate) service: Option<Service>,
}

/// What became of a pod started in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Background {
    /// All of its apps are ready.
    Ready,
    /// It ended before, or the user would not wait; what to know of that has been printed, and this
    /// is the status.
    Failed(u8),
}

impl Launcher<'_> {
    /// Becomes the supervisor of a pod. `into_run` moves the pod to `run`, holding its lock; all
    /// that can be refused has been refused before.
    ///
    /// # Errors
    ///
    /// Whatever kept the pod from running; what it was given on the host is taken back, and a pod
    /// that has never run is removed if it had reached `run`.
    pub(crate) fn in_place(
        &self,
        launch: Launch,
        into_run: impl FnOnce() -> Result<Pod>,
    ) -> Result<Infallible> {
        let Launch { manifest, mut apps, attempt, output, hold, service } = launch;
        check_unit_properties(&manifest, service.as_ref())?;
        networks::check(&manifest.sandbox.network, &manifest.sandbox.ports)?;
        let sockets = &self.context.sockets;
        sockets::settle(&mut apps, &sockets.names)?;
        let (credentials, secrets): (Vec<_>, Vec<_>) =
            credentials::gather(&apps)?.into_iter().unzip();
        let stage1 = stage1::find(&manifest.sandbox.stage1)?;
        let layers = self.store.layers_dir().map_err(|error| fetch::failed(&error))?;
        layers::check(&stage1, &manifest.sandbox)?;
        let telling = match output {
            Output::Shown => Telling::People.in_form(self.context.format),
            Output::Logged => Telling::Quiet,
        };
        let form = manifest.sandbox.layers;
        let app_order = |app| self.app_order(&stage1, form, telling, app);
        let apps = apps.into_iter().map(app_order).collect::<Result<_>>()?;
        let mark = rundir::mark_of(self.pods.root())?;
        let mut claim = Claim::new(self.run_root.as_fd(), &manifest.uuid, &mark)?;
        if self.context.format == ui::Format::Json {
            rundir::ask_for_json(claim.run())?;
        }
        // Who serves a guest is nobody of the host's, whatever the pod's user namespace.
        if manifest.sandbox.userns == Userns::Auto || stage1.takes_images() {
            let subordinate = host::subordinate();
            claim.add_ids(ids::lease(self.run_root.as_fd(), &manifest.uuid, &subordinate)?);
        }
        let journal = manifest.sandbox.journal == Journal::Auto && systemd::journal::is_there();
        // What goes to the journal of itself is not written there once more, without its fields.
        let output =
            if journal && supervision::shows_in_journal() { Output::Logged } else { output };
        let mut order = Order {
            abi: version::STAGE_ABI,
            hosts: host::hosts(&manifest),
            resolv_conf: host::resolv_conf(&manifest),
            pod: manifest,
            apps,
            attempt,
            ids: claim.ids().map(|lease| lease.range),
            output,
            hold,
            service,
            sockets: sockets.names.clone(),
            credentials,
            journal,
            register: false,
        };
        // Of the unit of somebody's session nobody is to think it were the pod's.
        order.register = order.service.is_some() && systemd::machined::is_there();
        let pod = into_run()?;
        let error = stage1::hand_over(
            &stage1,
            &Handover {
                pod: pod.dir(),
                order: &order,
                layers: layers.as_fd(),
                run: claim.run(),
                ids: claim.ids().map(|lease| lease.file.as_fd()),
                row: sockets.descriptors.iter().chain(&secrets).map(AsFd::as_fd).collect(),
            },
        );
        // Descriptors have been replaced: what these values hold is no longer what they made.
        mem::forget((pod, claim, layers, secrets, Arc::clone(sockets)));
        if let Err(undoing) = self.undo(&order) {
            return Err(error.because(&undoing));
        }
        Err(error)
    }

    /// Takes back everything of a pod whose stage1 could not be executed, through descriptors
    /// opened anew. Its lock is still ours.
    fn undo(&self, order: &Order) -> Result<()> {
        let pods = Pods::open(self.context.open_root()?)?;
        let run_root = self.context.open_run_root()?;
        let Some(mut pod) = pods.open_in(Home::Run, &order.pod.uuid)? else { return Ok(()) };
        leftovers::take_back(&pod, run_root.as_fd())?;
        if let Some(range) = order.ids {
            ids::discard(run_root.as_fd(), range.base);
        }
        if order.attempt == 1 {
            leftovers::discard(&pods, &mut pod)?;
        }
        Ok(())
    }

    fn app_order(
        &self,
        stage1: &Stage1,
        form: Layers,
        telling: Telling,
        spec: AppSpec,
    ) -> Result<AppOrder> {
        let image = spec.image.reference.clone();
        layers::order(self.store, stage1, form, spec, telling).map_err(|error| match error.code() {
            "image.not-found" => error.hint(format!("`pod fetch {image}` fetches it again")),
            _ => error,
        })
    }

    /// Starts a pod in the background and waits until it is ready. With `draft` the pod has just
    /// been laid out; without, its lock must be free. `reader` is a descriptor of the pod's
    /// directory that holds no lock.
    ///
    /// # Errors
    ///
    /// If its supervisor cannot be started or waited for. What goes wrong behind that has been
    /// printed when this returns.
    pub(crate) fn in_background(
        &self,
        reader: &Pod,
        draft: Option<Draft<'_>>,
    ) -> Result<Background> {
        let mut started = self.start(reader, draft, Begin::AtOnce)?;
        match started.await_ready()? {
            Heard::Word => return Ok(Background::Ready),
            Heard::Signal(signal) => {
                let id = &reader.id;
                ui::note(&format!("pod `{}` runs on and is not ready yet", reader.called()));
                ui::note(&format!("hint: `pod stop {}` ends it", id.short()));
                return Ok(Background::Failed(exit::by_signal(signal)));
            }
            Heard::End => {}
        }
        let code = started.end()?.unwrap_or(exit::OURS);
        if !started.show_errors() && !failure::show(reader, self.context.format) {
            let sentence = format!("pod `{}` ended before it was ready", reader.called());
            let error = CommandError::new("pod.not-ready", sentence)
                .hint(format!("`pod logs {}` shows what it wrote", reader.called()));
            ui::error(&error, self.context.format);
        }
        Ok(Background::Failed(if code == 0 { exit::OURS } else { code }))
    }

    /// Starts a pod in the background and attends to it in the foreground, from its first word on.
    /// Otherwise as [`Launcher::in_background`].
    ///
    /// Returns the exit status: the pod's, or 0 if the user has left it.
    ///
    /// # Errors
    ///
    /// If its supervisor cannot be started, or not be attended to.
    pub(crate) fn attended(
        &self,
        reader: &Pod,
        draft: Option<Draft<'_>>,
        audience: &Audience,
    ) -> Result<u8> {
        let mut started = self.start(reader, draft, Begin::WithClient)?;
        let mut stopped = None;
        let heard = started.await_held()?;
        if let Heard::Signal(signal) = heard {
            started.abandon()?;
            return Ok(exit::by_signal(signal));
        }
        if heard == Heard::Word {
            let signals = Signals::block()?;
            let ending = started.ending()?;
            if let Some((mut connection, client)) = self.connect(reader, audience, &ending)? {
                let Client { pump, raw } = client;
                let mut attendance = Attendance {
                    manner: if raw.is_some() { Manner::OnTerminal } else { Manner::Foreground },
                    target: audience.target(),
                    connection: &mut connection,
                    signals: &signals,
                    pump,
                    on_terminal: audience.stdio == AppStdio::Terminal,
                    raw,
                    wishes: audience.wishes(),
                };
                let attended = attendance.attend();
                let Attendance { mut wishes, pump, raw, .. } = attendance;
                // The pod's end may wait for nobody: what an app still writes finds its pipe closed.
                drop((pump, raw));
                match attended {
                    Ok(Outcome::Ended(_) | Outcome::PodEnded) => {}
                    Ok(Outcome::Detached) => return Ok(0),
                    Ok(Outcome::Left(signal)) => return Ok(exit::by_signal(signal)),
                    // Nobody reads what the app writes: it ends, as it would in a pipe of a shell.
                    Err(error) if error.kind() == Kind::OutputClosed => {
                        connection.request(&Request::Shutdown { grace_ms: None }, &[])?;
                    }
                    Err(error) => return Err(error),
                }
                await_end(&ending, &mut connection, &signals, &mut wishes)?;
                stopped = wishes.status();
            }
        }
        let Some(code) = started.end()? else {
            let sentence = format!("the supervisor of pod `{}` was killed", reader.id);
            return Err(
                CommandError::new("pod.killed", sentence).hint("`pod gc` takes back what it held")
            );
        };
        if !started.show_errors() {
            failure::show(reader, self.context.format);
        }
        Ok(stopped.unwrap_or(code))
    }

    /// Attaches to a pod that was held for it; `None` if it has ended by now, which tells more.
    fn connect(
        &self,
        pod: &Pod,
        audience: &Audience,
        ending: &OwnedFd,
    ) -> Result<Option<(Connection, Client)>> {
        let connected = Connection::of_pod(self.run_root.as_fd(), &pod.id).and_then(|mut it| {
            let client = client::attach(&mut it, audience)?;
            Ok((it, client))
        });
        match connected {
            // What could not be had was refused between our look and our word.
            Err(error) if error.code() == "pod.unreachable" && ends_soon(ending)? => Ok(None),
            connected => connected.map(Some),
        }
    }

    fn start<'s>(
        &'s self,
        pod: &'s Pod,
        draft: Option<Draft<'s>>,
        begin: Begin,
    ) -> Result<Box<dyn Started + 's>> {
        let (context, pods, run_root) = (self.context, self.pods, self.run_root.as_fd());
        self.supervision.start(Start { context, pods, run_root, pod, draft, begin })
    }
}

/// Tells whether a supervisor that does not answer has ended, or does within [`REAPING`].
fn ends_soon(ending: &OwnedFd) -> Result<bool> {
    let deadline = Instant::now() + REAPING;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(ending, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(error).context(|| "cannot wait for the supervisor".to_owned());
            }
        }
    }
}

/// Waits until a supervisor has ended, passing on that we are asked to end ourselves.
fn await_end(
    ending: &OwnedFd,
    connection: &mut Connection,
    signals: &Signals,
    wishes: &mut Wishes,
) -> Result<()> {
    wishes.unheard();
    loop {
        let mut fds = [PollFd::new(ending, PollFlags::IN), signals.polled()];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(error).context(|| "cannot wait for the supervisor".to_owned());
            }
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        while let Some(signal) = signals.next() {
            if matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)
                && let Some(request) = wishes.add(signal)
            {
                // It may be ending already.
                let _ = connection.request(&request, &[]);
            }
        }
    }
}

/// Refuses properties of a unit that nobody gives to the unit this process is the main process of.
fn check_unit_properties(manifest: &PodManifest, service: Option<&Service>) -> Result<()> {
    let Some(property) = manifest.sandbox.unit_properties.first() else { return Ok(()) };
    // What enables a pod writes them beside the template's instance.
    let is_ours =
        |unit: &str| unit == systemd::unit_name(&manifest.name) || unit.starts_with(TEMPLATE);
    let (sentence, hint) = match service {
        Some(service) if is_ours(&service.unit) => return Ok(()),
        Some(Service { unit, .. }) => (
            format!("`{property}` is for a unit of the pod's own, and it runs in `{unit}`"),
            format!("write it into the file of `{unit}`, and leave `--unit-property` away"),
        ),
        None => (
            format!("`{property}` is for a unit, and the pod has none"),
            "leave `--unit-property` away; where systemd is process 1, pods have units".to_owned(),
        ),
    };
    Err(CommandError::new("unit.none", sentence).hint(hint))
}

/// What names of units begin with that run pods described in `/etc/pods`.
const TEMPLATE: &str = "pod@";

/// Makes this process a session of its own, so that no terminal ends the pod.
pub(crate) fn leave_session() {
    let _ = rustix::process::setsid(); // it leads a session already, if this fails
}

/// Takes the lock of a pod that is to be started.
///
/// # Errors
///
/// `pod.running` if somebody holds it.
pub(crate) fn lock_to_start(pod: &Pod) -> Result<()> {
    match pod.lock() {
        Lock::Ours => Ok(()),
        Lock::Theirs => {
            let name = pod.called();
            Err(CommandError::new("pod.running", format!("pod `{name}` runs already"))
                .hint(format!("`pod stop {name}` ends it")))
        }
    }
}
