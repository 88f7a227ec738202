//! From a pod laid out to a pod that runs: in place, by becoming its supervisor, or in the
//! background, by having a new session do so.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use pod_abi::app::AppSpec;
use pod_abi::manifest::{PodManifest, Userns};
use pod_abi::phase::Home;
use pod_abi::stage::{AppOrder, Order, Output};
use pod_abi::{exit, version};
use rustix::fs::MemfdFlags;

use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::leftovers::Claim;
use crate::notify::NotifySocket;
use crate::pods::{Draft, Lock, Pod, Pods};
use crate::stage1::{self, Handover};
use crate::{failure, fetch, host, ids, leftovers, rundir, ui};

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
}

/// What became of a pod started in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Background {
    /// All of its apps are ready.
    Ready,
    /// It ended before; why has been printed, and this is its status.
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
        let Launch { manifest, apps, attempt, output } = launch;
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
        let order = Order {
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
            hold: false,
        };
        let pod = into_run()?;
        let error = stage1::hand_over(
            &stage1,
            &Handover {
                pod: pod.dir(),
                order: &order,
                layers: layers.as_fd(),
                run: claim.run(),
                ids: claim.ids().map(|lease| lease.file.as_fd()),
            },
        );
        // Descriptors have been replaced: what these values hold is no longer what they made.
        mem::forget((pod, claim, layers));
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
        let notify = NotifySocket::bind(reader)?;
        let stderr = rustix::fs::memfd_create("stderr", MemfdFlags::CLOEXEC)
            .context(|| "cannot make memory for messages".to_owned())?;
        let mut stderr = File::from(stderr);
        let mut child = self.spawn(reader, draft, &notify, &stderr)?;
        if notify.wait(&child)? {
            return Ok(Background::Ready);
        }
        let status = child.wait().context(|| "cannot wait for the supervisor".to_owned())?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::OURS);
        let mut said = Vec::new();
        let read = stderr.seek(SeekFrom::Start(0)).and_then(|_| stderr.read_to_end(&mut said));
        if read.is_ok() && !said.is_empty() {
            ui::bytes_note(&said);
        } else if !failure::show(reader, self.context.format) {
            let error = CommandError::new(
                "pod.not-ready",
                format!("pod `{}` ended before it was ready", reader.id),
            );
            let error = error.hint(format!("`pod logs {}` shows what it wrote", reader.id));
            ui::error(&error, self.context.format);
        }
        Ok(Background::Failed(if code == 0 { exit::OURS } else { code }))
    }

    fn spawn(
        &self,
        pod: &Pod,
        draft: Option<&Draft<'_>>,
        notify: &NotifySocket,
        stderr: &File,
    ) -> Result<Child> {
        let tell = || format!("cannot start a supervisor for pod `{}`", pod.id);
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--root")
            .arg(&self.context.root)
            .arg("--run-root")
            .arg(&self.context.run_root)
            .args((self.context.format == ui::Format::Json).then_some("--json"))
            .args(["start", "--supervised"])
            .env_clear()
            .env("NOTIFY_SOCKET", &notify.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().context(tell)?);
        if let Some(draft) = draft {
            // The lock belongs to the open file, so it is the child's as well as ours.
            let number = draft.dir().as_raw_fd();
            pod_sys::place(draft.dir(), number).context(tell)?;
            command.arg(format!("--locked={number}"));
        }
        command.arg(pod.id.as_str()).spawn().context(tell)
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
