//! From an order to the steps that isolate a pod: data, decided before anything is done.
//!
//! ```text
//!   Order ──▶ of() ──▶ Plan ──▶ staging, tree: each step a few system calls
//! ```
//!
//! `stage1-ns plan` prints the steps. What must hold of their order is tested here: outer mounts
//! before inner ones, the root read-only after the last mount, nothing after the old root is gone.

mod fly;

use std::fmt;

use pod_abi::app::MountSource;
use pod_abi::manifest::Network;
use pod_abi::stage::{AppOrder, IdRange, Order};
use pod_abi::volume::VolumeSource;
use pod_abi::{AppName, PodPath, VolumeName, layout};
use supervisor::Failure;

pub(crate) use self::fly::{Flavour, of};

/// All that is to be done for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The cgroup's directories beneath our own, outer ones first.
    pub(crate) cgroups: Vec<String>,
    /// The namespaces PID 1 is born into.
    pub(crate) namespaces: Vec<Namespace>,
    /// The ids of the pod, if it has its own.
    pub(crate) ids: Option<IdRange>,
    /// What apps share, laid out once.
    pub(crate) staging: Vec<StagingStep>,
    /// The tree of each app.
    pub(crate) apps: Vec<AppPlan>,
}

/// A namespace a pod has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// User and group ids.
    User,
    /// Processes.
    Pid,
    /// System V IPC and message queues.
    Ipc,
    /// The hostname.
    Uts,
    /// Mounts, of PID 1; each app gets another.
    Mount,
    /// The network.
    Network,
}

/// Something laid out in the supervisor's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StagingStep {
    /// The layers, by one mount.
    Layers,
    /// An app's writable layer.
    AppDirectory(AppName),
    /// The pod's `empty` volumes, by one mount.
    EmptyVolumes(Vec<(VolumeName, u32)>),
    /// A file or directory of the host.
    HostVolume(VolumeName, String),
    /// What apps share in memory.
    Shm,
    /// A file of ours.
    File(EtcFile, String),
}

/// A file the runtime gives every app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtcFile {
    /// `/etc/resolv.conf`.
    ResolvConf,
    /// `/etc/hosts`.
    Hosts,
    /// `/etc/hostname`.
    Hostname,
}

impl EtcFile {
    const ALL: [Self; 3] = [Self::ResolvConf, Self::Hosts, Self::Hostname];

    /// Returns its name in `/etc`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ResolvConf => "resolv.conf",
            Self::Hosts => "hosts",
            Self::Hostname => "hostname",
        }
    }
}

/// The tree of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppPlan {
    /// Whose.
    pub(crate) name: AppName,
    /// The user and group its output pipes belong to, as the host counts.
    pub(crate) owner: (u32, u32),
    /// What is done, in this order, by a process of its own.
    pub(crate) steps: Vec<TreeStep>,
}

/// One step towards an app's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TreeStep {
    /// Join the pod's namespaces, so that what is mounted belongs to them.
    JoinNamespaces(Vec<Namespace>),
    /// Make files as root of the pod.
    ActAsPodRoot(IdRange),
    /// Mount the image with the writable layer above it.
    Overlay {
        /// Beneath the staged layers, lowest first.
        layers: Vec<String>,
        /// Whether the writable layer need not survive a crash.
        volatile: bool,
    },
    /// Mount `/proc` of the pod.
    Proc,
    /// Mount `/sys`, read-only.
    Sys,
    /// Mount `/dev` with the devices every program expects.
    Dev,
    /// Mount a directory of the host at the same place, with everything mounted beneath it.
    HostTree(&'static str),
    /// Mount the pod's shared memory at `/dev/shm`.
    Shm,
    /// Mount a volume.
    Volume {
        /// Where.
        destination: PodPath,
        /// Which.
        volume: VolumeName,
        /// Whether it is beneath the mount of all `empty` volumes.
        empty: bool,
        /// Whether it cannot be written.
        read_only: bool,
    },
    /// Mount a file system in memory.
    Tmpfs {
        /// Where.
        destination: PodPath,
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
        /// Whether it cannot be written.
        read_only: bool,
    },
    /// Mount a file of ours, read-only.
    File(EtcFile),
    /// Make the root read-only.
    ReadOnlyRoot,
    /// Make the tree the root, and let go of the host's.
    Pivot,
    /// Give the tree to the pod's user namespace, which locks every mount of it.
    Lock,
}

/// Decides what is to be done for a pod behind its walls.
///
/// # Errors
///
/// [`Failure`] if the order asks for what no pod in namespaces can be.
fn plan(order: &Order) -> Result<Plan, Failure> {
    let mut namespaces = vec![Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Mount];
    if order.ids.is_some() {
        namespaces.insert(0, Namespace::User);
    }
    if order.pod.sandbox.network == Network::None {
        namespaces.push(Namespace::Network);
    }
    let apps = order.apps.iter().map(|app| app_plan(order, app)).collect::<Result<_, _>>()?;
    Ok(Plan { cgroups: cgroups(order), namespaces, ids: order.ids, staging: staging(order), apps })
}

fn cgroups(order: &Order) -> Vec<String> {
    let outer = layout::cgroup(&order.pod.uuid);
    let pod = format!("{outer}/pod");
    let init = format!("{pod}/init");
    let apps = order.apps.iter().map(|app| format!("{pod}/app-{}", app.spec.name));
    [outer, pod.clone(), init].into_iter().chain(apps).collect()
}

fn staging(order: &Order) -> Vec<StagingStep> {
    let sandbox = &order.pod.sandbox;
    let mut steps = vec![StagingStep::Layers];
    steps.extend(order.apps.iter().map(|app| StagingStep::AppDirectory(app.spec.name.clone())));
    let mut empty = Vec::new();
    for volume in &sandbox.volumes {
        match &volume.source {
            VolumeSource::Empty { mode, .. } => empty.push((volume.name.clone(), *mode)),
            // Not built yet.
            VolumeSource::Tmpfs { .. } => {}
            VolumeSource::Host { path, .. } => {
                steps.push(StagingStep::HostVolume(volume.name.clone(), path.clone()));
            }
        }
    }
    if !empty.is_empty() {
        steps.push(StagingStep::EmptyVolumes(empty));
    }
    steps.push(StagingStep::Shm);
    let hostname = sandbox.hostname.as_ref().unwrap_or(&order.pod.name);
    for file in EtcFile::ALL {
        let text = match file {
            EtcFile::ResolvConf => order.resolv_conf.clone(),
            EtcFile::Hosts => order.hosts.clone(),
            EtcFile::Hostname => format!("{hostname}\n"),
        };
        steps.push(StagingStep::File(file, text));
    }
    steps
}

fn app_plan(order: &Order, app: &AppOrder) -> Result<AppPlan, Failure> {
    let spec = &app.spec;
    for layer in &app.layers {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !layer.split('/').all(plain) || layer.contains('\0') {
            return Err(Failure::new(format!("`{layer}` is no layer")).code("stage1.order"));
        }
    }
    let mut joined = vec![Namespace::Ipc, Namespace::Uts];
    if order.pod.sandbox.network == Network::None {
        joined.push(Namespace::Network);
    }
    let mut steps = vec![TreeStep::JoinNamespaces(joined)];
    steps.extend(order.ids.map(TreeStep::ActAsPodRoot));
    steps.push(TreeStep::Overlay { layers: app.layers.clone(), volatile: order.pod.remove });
    steps.extend([TreeStep::Proc, TreeStep::Sys, TreeStep::Dev]);
    steps.extend(mounts(order, app)?);
    if spec.read_only_root {
        steps.push(TreeStep::ReadOnlyRoot);
    }
    steps.push(TreeStep::Pivot);
    if order.ids.is_some() {
        steps.push(TreeStep::Lock);
    }
    Ok(AppPlan { name: spec.name.clone(), owner: owner(order.ids, app)?, steps })
}

/// Returns the ids the app's process has on the host.
fn owner(ids: Option<IdRange>, app: &AppOrder) -> Result<(u32, u32), Failure> {
    let user = &app.spec.process.user;
    let Some(IdRange { base, count }) = ids else { return Ok((user.uid, user.gid)) };
    let host = |id: u32| {
        base.checked_add(id).filter(|_| id < count).ok_or_else(|| {
            let name = &app.spec.name;
            Failure::new(format!(
                "app `{name}` runs as id {id}, and the pod has ids 0 to {}",
                count - 1
            ))
            .code("app.user-range")
            .hint("give the app a smaller id by `--user`, or run the pod with `--userns host`")
        })
    };
    Ok((host(user.uid)?, host(user.gid)?))
}

/// Returns everything mounted into an app, outer mounts first.
fn mounts(order: &Order, app: &AppOrder) -> Result<Vec<TreeStep>, Failure> {
    let mut placed: Vec<(PodPath, TreeStep)> = Vec::new();
    let path = |text: &str| {
        PodPath::parse(text).map_err(|error| Failure::of("cannot place a file of ours", error))
    };
    placed.push((path("/dev/shm")?, TreeStep::Shm));
    for file in EtcFile::ALL {
        placed.push((path(&format!("/etc/{}", file.as_str()))?, TreeStep::File(file)));
    }
    // What the user mounts at a place of ours, or around it, replaces ours: in `-v /etc:/etc` a
    // mount point for ours would be made on the host.
    let over =
        |place: &PodPath| app.spec.mounts.iter().any(|mount| place.is_beneath(&mount.destination));
    placed.retain(|(place, _)| !over(place));
    for mount in &app.spec.mounts {
        let (destination, read_only) = (mount.destination.clone(), mount.read_only);
        let step = match &mount.source {
            MountSource::Tmpfs { size, mode } => TreeStep::Tmpfs {
                destination: destination.clone(),
                size: *size,
                mode: *mode,
                read_only,
            },
            MountSource::Volume(volume) => {
                let known = order.pod.sandbox.volumes.iter().find(|known| known.name == *volume);
                let Some(known) = known else {
                    let what = format!("the pod has no volume `{volume}`");
                    return Err(Failure::new(what).code("stage1.order"));
                };
                let empty = matches!(known.source, VolumeSource::Empty { .. });
                let volume = volume.clone();
                TreeStep::Volume { destination: destination.clone(), volume, empty, read_only }
            }
        };
        placed.push((destination, step));
    }
    placed.sort_by_key(|(place, _)| (place.components().count(), place.clone()));
    Ok(placed.into_iter().map(|(_, step)| step).collect())
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Mount => "mount",
            Self::Network => "network",
        })
    }
}

fn words(namespaces: &[Namespace]) -> String {
    namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for StagingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers => f.write_str("stage the layers"),
            Self::AppDirectory(app) => write!(f, "stage the writable layer of app `{app}`"),
            Self::EmptyVolumes(volumes) => {
                write!(f, "make and stage volumes")?;
                volumes.iter().try_for_each(|(name, mode)| write!(f, " `{name}` (mode {mode:o})"))
            }
            Self::HostVolume(name, path) => write!(f, "stage `{path}` as volume `{name}`"),
            Self::Shm => f.write_str("make the pod's shared memory"),
            Self::File(file, text) => {
                write!(f, "write `/etc/{}`, {} bytes", file.as_str(), text.len())
            }
        }
    }
}

impl fmt::Display for TreeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = |read_only: bool| if read_only { " read-only" } else { "" };
        match self {
            Self::JoinNamespaces(joined) => {
                write!(f, "join the pod's namespaces: {}", words(joined))
            }
            Self::ActAsPodRoot(ids) => write!(f, "make files as id {}", ids.base),
            Self::Overlay { layers, volatile } => {
                let kind = if *volatile { " volatile" } else { "" };
                write!(f, "mount a{kind} overlay of {} layers", layers.len())
            }
            Self::Proc => f.write_str("mount `/proc`"),
            Self::Sys => f.write_str("mount `/sys` read-only"),
            Self::Dev => f.write_str("mount `/dev` with its devices"),
            Self::HostTree(name) => write!(f, "mount `/{name}` of the host"),
            Self::Shm => f.write_str("mount the pod's shared memory at `/dev/shm`"),
            Self::Volume { destination, volume, read_only, .. } => {
                write!(f, "mount volume `{volume}` at `{destination}`{}", mode(*read_only))
            }
            Self::Tmpfs { destination, read_only, .. } => {
                write!(f, "mount memory at `{destination}`{}", mode(*read_only))
            }
            Self::File(file) => write!(f, "mount `/etc/{}` read-only", file.as_str()),
            Self::ReadOnlyRoot => f.write_str("make the root read-only"),
            Self::Pivot => f.write_str("make the tree the root"),
            Self::Lock => f.write_str("lock every mount in the pod's user namespace"),
        }
    }
}

impl fmt::Display for Plan {
    /// Writes the steps, numbered, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(self.cgroups.iter().map(|path| format!("pod: make cgroup `{path}`")));
        let ids = self.ids.map(|ids| format!("; ids from {}", ids.base)).unwrap_or_default();
        lines.push(format!("pod: start PID 1 in new namespaces: {}{ids}", words(&self.namespaces)));
        lines.extend(self.staging.iter().map(|step| format!("pod: {step}")));
        for app in &self.apps {
            lines.extend(app.steps.iter().map(|step| format!("app `{}`: {step}", app.name)));
        }
        (1..).zip(lines).try_for_each(|(number, line)| writeln!(f, "{number:3} {line}"))
    }
}

#[cfg(test)]
mod tests;
