//! From a pod laid out to a pod that runs: in place, by becoming its supervisor, or in the
//! background, by having a new session do so.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use pod_abi::app::{AppSpec, Stdio as AppStdio};
use pod_abi::control::Request;
use pod_abi::manifest::{Journal, PodManifest, Userns};
use pod_abi::phase::Home;
use pod_abi::stage::{AppOrder, HELD, Order, Output};
use pod_abi::{exit, version};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::attend::{Attendance, Manner, Outcome, Signals, Wishes};
use crate::client::{self, Audience, Client};
use crate::context::Context;
use crate::control::Connection;
use crate::error::{CommandError, Context as _, Kind, Result};
use crate::leftovers::Claim;
use crate::notify::{Heard, NotifySocket, READY};
use crate::pods::{Draft, Lock, Pod, Pods};
use crate::stage1::{self, Handover};
use crate::{credentials, failure, fetch, host, ids, leftovers, rundir, sockets, systemd, ui};

/// What a launch works with.
#[derive(Debug)]
pub(crate) struct Launcher<'l> {
    pub(crate) context: &'l Context,
    pub(crate) pods: &'l Pods,
    pub(crate) run_root: &'l OwnedFd,
    pub(crate) store: &'l images::Store,
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
        let Launch { manifest, mut apps, attempt, output, hold } = launch;
        let sockets = &self.context.sockets;
        sockets::settle(&mut apps, &sockets.names)?;
        let (credentials, secrets): (Vec<_>, Vec<_>) =
            credentials::gather(&apps)?.into_iter().unzip();
        let stage1 = stage1::find(&manifest.sandbox.stage1)?;
        let layers = self.store.layers_dir().map_err(|error| fetch::failed(&error))?;
        let apps = apps.into_iter().map(|app| self.app_order(app)).collect::<Result<_>>()?;
        let mark = rundir::mark_of(self.pods.root())?;
        let mut claim = Claim::new(self.run_root.as_fd(), &manifest.uuid, &mark)?;
        if self.context.format == ui::Format::Json {
            rundir::ask_for_json(claim.run())?;
        }
        if manifest.sandbox.userns == Userns::Auto {
            let subordinate = host::subordinate();
            claim.add_ids(ids::lease(self.run_root.as_fd(), &manifest.uuid, &subordinate)?);
        }
        let journal = manifest.sandbox.journal == Journal::Auto && systemd::journal::is_there();
        let mut order = Order {
            abi: version::STAGE_ABI,
            hosts: host::hosts(&manifest),
            resolv_conf: host::resolv_conf(
                manifest.sandbox.dns.as_ref(),
                &host::text("/etc/resolv.conf"),
            ),
            pod: manifest,
            apps,
            attempt,
            ids: claim.ids().map(|lease| lease.range),
            output,
            hold,
            service: None,
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
            pods.rename(&mut pod, Home::Garbage)?;
            pods.sweep(&pod)?;
        }
        Ok(())
    }

    fn app_order(&self, spec: AppSpec) -> Result<AppOrder> {
        let layers = self.store.layer_paths(&spec.image.layers).map_err(|error| {
            fetch::failed(&error)
                .hint(format!("`pod fetch {}` fetches it again", spec.image.reference))
        })?;
        Ok(AppOrder { spec, layers })
    }

    /// Starts a pod in the background and waits until it is ready. With `draft` the pod has just
    /// been laid out, and its lock passes to the new supervisor unbroken; without, its lock must
    /// be free. `reader` is a descriptor of the pod's directory that holds no lock.
    ///
    /// # Errors
    ///
    /// If the new session cannot be started or waited for. What goes wrong behind that has been
    /// printed when this returns.
    pub(crate) fn in_background(
        &self,
        reader: &Pod,
        draft: Option<&Draft<'_>>,
    ) -> Result<Background> {
        let mut spawned = self.spawn(reader, draft, Begin::AtOnce)?;
        match spawned.notify.wait(&spawned.child, READY)? {
            Heard::Word => return Ok(Background::Ready),
            Heard::Signal(signal) => {
                let id = &reader.id;
                ui::note(&format!("pod `{}` runs on and is not ready yet", reader.called()));
                ui::note(&format!("hint: `pod stop {}` ends it", id.short()));
                return Ok(Background::Failed(exit::by_signal(signal)));
            }
            Heard::End => {}
        }
        let code = spawned.end()?.unwrap_or(exit::OURS);
        if !spawned.show_errors() && !failure::show(reader, self.context.format) {
            let sentence = format!("pod `{}` ended before it was ready", reader.called());
            let error = CommandError::new("pod.not-ready", sentence)
                .hint(format!("`pod logs {}` shows what it wrote", reader.called()));
            ui::error(&error, self.context.format);
        }
        Ok(Background::Failed(if code == 0 { exit::OURS } else { code }))
    }

    /// Starts a pod in the background and attends to one of its apps in the foreground, from its
    /// first word on. Otherwise as [`Launcher::in_background`].
    ///
    /// Returns the exit status: the pod's, or 0 if the user has left it.
    ///
    /// # Errors
    ///
    /// If the new session cannot be started, or not be attended to.
    pub(crate) fn attended(
        &self,
        reader: &Pod,
        draft: Option<&Draft<'_>>,
        audience: &Audience,
    ) -> Result<u8> {
        let mut spawned = self.spawn(reader, draft, Begin::WithClient)?;
        let mut stopped = None;
        let heard = spawned.notify.wait(&spawned.child, HELD)?;
        if let Heard::Signal(signal) = heard {
            // Without a client the pod ends by itself.
            return Ok(exit::by_signal(signal));
        }
        if heard == Heard::Word {
            let signals = Signals::block()?;
            let mut connection = Connection::of_pod(self.run_root.as_fd(), &reader.id)?;
            let Client { pump, raw } = client::attach(&mut connection, audience)?;
            let mut attendance = Attendance {
                manner: if raw.is_some() { Manner::OnTerminal } else { Manner::Foreground },
                target: audience.target(),
                connection: &mut connection,
                signals: &signals,
                pump,
                on_terminal: audience.stdio == AppStdio::Terminal,
                raw,
                wishes: Wishes::default(),
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
            spawned.await_end(&mut connection, &signals, &mut wishes)?;
            stopped = wishes.status();
        }
        let Some(code) = spawned.end()? else {
            let sentence = format!("the supervisor of pod `{}` was killed", reader.id);
            return Err(
                CommandError::new("pod.killed", sentence).hint("`pod gc` takes back what it held")
            );
        };
        if !spawned.show_errors() {
            failure::show(reader, self.context.format);
        }
        Ok(stopped.unwrap_or(code))
    }

    fn spawn(&self, pod: &Pod, draft: Option<&Draft<'_>>, begin: Begin) -> Result<Spawned> {
        self.context.sockets.check_stay()?;
        let tell = || format!("cannot start a supervisor for pod `{}`", pod.id);
        let notify = NotifySocket::bind(pod)?;
        let errors = rustix::fs::memfd_create("stderr", MemfdFlags::CLOEXEC)
            .context(|| "cannot make memory for messages".to_owned())?;
        let errors = File::from(errors);
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--root")
            .arg(&self.context.root)
            .arg("--run-root")
            .arg(&self.context.run_root)
            .args((self.context.format == ui::Format::Json).then_some("--json"))
            .args(["start", "--supervised"])
            .args((begin == Begin::WithClient).then_some("--hold"))
            .env_clear()
            .env("NOTIFY_SOCKET", &notify.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone().context(tell)?);
        if let Some(draft) = draft {
            // The lock belongs to the open file, so it is the child's as well as ours.
            let number = draft.dir().as_raw_fd();
            pod_sys::place(draft.dir(), number).context(tell)?;
            command.arg(format!("--locked={number}"));
        }
        let child = command.arg(pod.id.as_str()).spawn().context(tell)?;
        Ok(Spawned { child, notify, errors })
    }
}

/// When the apps of a pod begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// At once.
    AtOnce,
    /// When a client has attached.
    WithClient,
}

/// A supervisor that was started in a session of its own.
#[derive(Debug)]
struct Spawned {
    child: Child,
    notify: NotifySocket,
    /// What it prints, which is nothing but errors.
    errors: File,
}

impl Spawned {
    /// Waits for its end, and returns the exit status; `None` if it was killed.
    fn end(&mut self) -> Result<Option<u8>> {
        let status = self.child.wait().context(|| "cannot wait for the supervisor".to_owned())?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()))
    }

    /// Shows what it has printed; `false` if that is nothing.
    fn show_errors(&mut self) -> bool {
        let mut said = Vec::new();
        let read = self.errors.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| self.errors.read_to_end(&mut said)).is_ok();
        if read && !said.is_empty() {
            ui::bytes_note(&said);
        }
        read && !said.is_empty()
    }

    /// Waits until it has ended, passing on that we are asked to end ourselves.
    fn await_end(
        &self,
        connection: &mut Connection,
        signals: &Signals,
        wishes: &mut Wishes,
    ) -> Result<()> {
        let tell = || "cannot wait for the supervisor".to_owned();
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).context(tell)?;
        wishes.unheard();
        loop {
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN), signals.polled()];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(tell),
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
}

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
