//! From a pod laid out to a pod that runs: in place, by becoming its supervisor, or in the
//! background, by having a new session do so.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pod_abi::app::AppSpec;
use pod_abi::manifest::{PodManifest, Userns, VolumeSource};
use pod_abi::phase::Home;
use pod_abi::stage::{AppOrder, Order, Output};
use pod_abi::{exit, version};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::leftovers::Claim;
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
        if self.context.format == ui::Format::Json && output == Output::Shown {
            rundir::ask_for_json(claim.run())?;
        }
        if manifest.sandbox.userns == Userns::Auto {
            let subordinate = host::text("/etc/subuid") + "\n" + &host::text("/etc/subgid");
            claim.add_ids(ids::lease(self.run_root.as_fd(), &manifest.uuid, &subordinate)?);
        }
        let order = Order {
            abi: version::STAGE_ABI,
            hosts: host::hosts(&manifest),
            resolv_conf: host::text("/etc/resolv.conf"),
            pod: manifest,
            apps,
            attempt,
            ids: claim.ids().map(|lease| lease.range),
            output,
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
    /// Returns the exit status; the id is printed once the pod is ready.
    ///
    /// # Errors
    ///
    /// If the new session cannot be started or waited for. What goes wrong behind that has been
    /// printed when this returns.
    pub(crate) fn in_background(&self, reader: &Pod, draft: Option<&Draft<'_>>) -> Result<u8> {
        let notify = NotifySocket::bind(reader)?;
        let stderr = rustix::fs::memfd_create("stderr", MemfdFlags::CLOEXEC)
            .context(|| "cannot make memory for messages".to_owned())?;
        let mut stderr = File::from(stderr);
        let mut child = self.spawn(reader, draft, &notify, &stderr)?;
        if notify.wait(&child)? {
            ui::out(&format!("{}\n", reader.id))?;
            return Ok(0);
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
        Ok(if code == 0 { exit::OURS } else { code })
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

/// Makes the named volumes of a pod, and refuses those of the host that are not there.
///
/// # Errors
///
/// `volume.not-found`, or `storage`.
pub(crate) fn check_volumes(manifest: &pod_abi::manifest::Sandbox, root: &Path) -> Result<()> {
    let named = root.join(pod_abi::layout::VOLUMES);
    for volume in &manifest.volumes {
        let VolumeSource::Host { path } = &volume.source else { continue };
        let path = Path::new(path);
        if path.parent() == Some(&named) {
            make_named_volume(&named, path)
                .context(|| format!("cannot make volume `{}`", path.display()))?;
        }
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) => {
                return Err(CommandError::new(
                    "volume.not-found",
                    format!("there is nothing to mount at `{}` of this host", path.display()),
                )
                .because(&error)
                .hint(format!("`mkdir -p {}` makes an empty directory", path.display())));
            }
        }
    }
    Ok(())
}

/// Makes the directory of a named volume, for every user of a pod to pass, whatever our mask.
fn make_named_volume(all: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(all)?;
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where a new supervisor says that its pod is ready (`sd_notify(3)`).
///
/// An abstract socket: nothing of it can be left behind. Only words of our own user count.
#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    name: String,
}

impl NotifySocket {
    fn bind(pod: &Pod) -> Result<Self> {
        let tell = || "cannot make a socket for readiness".to_owned();
        let mut secret = [0; 8];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .context(tell)?;
        let name = format!("pod-notify/{}/{:016x}", pod.id, u64::from_ne_bytes(secret));
        let address = SocketAddr::from_abstract_name(&name).context(tell)?;
        let socket = UnixDatagram::bind_addr(&address).context(tell)?;
        sockopt::set_socket_passcred(&socket, true).context(tell)?;
        socket.set_nonblocking(true).context(tell)?;
        Ok(Self { socket, name: format!("@{name}") })
    }

    /// Waits until the pod is ready (`true`) or `child` has ended without having said so.
    fn wait(&self, child: &Child) -> Result<bool> {
        let tell = || "cannot wait for the supervisor".to_owned();
        let pid = rustix::process::Pid::from_child(child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(tell)?;
        loop {
            let mut fds =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context(tell),
            }
            let ended = !fds[1].revents().is_empty();
            while let Some(message) = self.receive() {
                if message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return Ok(true);
                }
            }
            if ended {
                return Ok(false);
            }
        }
    }

    /// Takes one message; an empty one for what came from somebody else.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let count = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::empty()).ok()?.bytes;
        let me = rustix::process::geteuid();
        let mine = control.drain().any(
            |message| matches!(message, RecvAncillaryMessage::ScmCredentials(who) if who.uid == me),
        );
        Some(if mine { bytes[..count].to_vec() } else { Vec::new() })
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
            Err(CommandError::new("pod.running", format!("pod `{}` runs already", pod.id))
                .hint(format!("`pod stop {}` ends it", pod.id.short())))
        }
    }
}
