//! The steps of a plan: what each says, and how it is printed.
//!
//! Apart from the decisions, because everything that performs steps reads this and nothing else of
//! the plan. Holds no descriptor and no path that was looked up.

use std::fmt;

use pod_abi::credential::{CREDENTIALS_DIRECTORY, CredentialName};
use pod_abi::isolators::Device;
use pod_abi::stage::IdRange;
use pod_abi::{AppName, PodPath, VolumeName};

use crate::images::LayerImage;
use crate::mounts::Depth;

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
    /// The layers.
    Layers(Lowers),
    /// An app's writable layer.
    AppDirectory(AppName),
    /// The pod's `empty` volumes, by one mount.
    EmptyVolumes(Vec<EmptyVolume>),
    /// A file or directory of the host.
    HostVolume(HostVolume),
    /// Content for a volume that is empty.
    Fill(Filling),
    /// Memory that apps share.
    Memory(Memory),
    /// The host's `/dev/shm`.
    HostShm,
    /// A file of ours.
    File(EtcFile, String),
}

/// What layers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lowers {
    /// Directories, staged by one mount.
    Trees,
    /// File systems, staged by a mount each.
    Images(Vec<LayerImage>),
}

/// A directory made for the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmptyVolume {
    /// Its name.
    pub(crate) name: VolumeName,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its owner and group, as the pod counts.
    pub(crate) owner: (u32, u32),
}

/// A volume that is a file or directory of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostVolume {
    /// Its name.
    pub(crate) name: VolumeName,
    /// Its path on the host.
    pub(crate) path: String,
    /// Whether mounts beneath it come along.
    pub(crate) depth: Depth,
}

/// What an empty volume gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filling {
    /// The volume.
    pub(crate) volume: VolumeName,
    /// Its path on the host; none if it is a directory of the pod.
    pub(crate) host: Option<String>,
    /// The layers of the image, beneath the directory of layers, lowest first.
    pub(crate) layers: Vec<String>,
    /// What these are.
    pub(crate) lowers: Lowers,
    /// The directory in the image.
    pub(crate) path: PodPath,
}

/// A file system in memory that apps share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What it is to them.
    pub(crate) what: Shared,
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// What memory is shared as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// `/dev/shm`.
    Shm,
    /// A volume.
    Volume(VolumeName),
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
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::ResolvConf, Self::Hosts, Self::Hostname];

    /// Returns its name in `/etc`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ResolvConf => "resolv.conf",
            Self::Hosts => "hosts",
            Self::Hostname => "hostname",
        }
    }
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
    /// Let `/etc/mtab` lead to the app's mounts, unless the image has one.
    Mtab,
    /// Mount `/proc` of the pod.
    Proc,
    /// Mount `/sys`.
    Sys(Writing),
    /// Mount `/dev` with the devices every program expects.
    Dev,
    /// Mount a directory of the host at the same place, with everything mounted beneath it.
    HostTree(&'static str),
    /// Make a device of the host in `/dev`, or mount it elsewhere.
    Device(Device),
    /// Mount the pod's shared memory at `/dev/shm`.
    Shm,
    /// Mount a volume.
    Volume(VolumeMount),
    /// Mount a file system in memory.
    Tmpfs {
        /// Where.
        destination: PodPath,
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
        /// What cannot be done through it.
        limits: Limits,
    },
    /// Mount a file of ours, read-only.
    File(EtcFile),
    /// Write the app's credentials into memory that is never swapped out, read-only and its user's
    /// alone.
    Credentials {
        /// Their names.
        names: Vec<CredentialName>,
        /// The user and group, as the host counts.
        owner: (u32, u32),
    },
    /// Make the root read-only.
    ReadOnlyRoot,
    /// Make the tree the root, and let go of the host's.
    Pivot,
    /// Give the tree to the pod's user namespace, which locks every mount of it.
    Lock,
}

/// Whether something can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// It can, as far as the kernel lets the app.
    Allowed,
    /// It cannot.
    Denied,
}

/// A volume at a place in an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeMount {
    /// Where.
    pub(crate) destination: PodPath,
    /// Which.
    pub(crate) volume: VolumeName,
    /// Where it is staged.
    pub(crate) staged: Staged,
    /// What cannot be done through it.
    pub(crate) limits: Limits,
}

/// Where a volume is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    /// Beneath the mount of all `empty` volumes.
    Empty,
    /// By itself, with all that is mounted beneath it there.
    Host,
    /// By itself, in memory.
    Memory,
}

/// What cannot be done through a mount of the user's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// It cannot be written.
    pub(crate) read_only: bool,
    /// Nothing can be executed from it.
    pub(crate) no_exec: bool,
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

/// Lists namespaces for a person.
pub(super) fn words(namespaces: &[Namespace]) -> String {
    namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for StagingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers(Lowers::Trees) => f.write_str("stage the layers"),
            Self::Layers(Lowers::Images(images)) => {
                let sealed = images.iter().filter(|image| image.seal.is_some()).count();
                write!(f, "mount and stage {} layers, {sealed} of them sealed", images.len())
            }
            Self::AppDirectory(app) => write!(f, "stage the writable layer of app `{app}`"),
            Self::EmptyVolumes(volumes) => {
                write!(f, "make and stage volumes")?;
                volumes.iter().try_for_each(|volume| write!(f, " {volume}"))
            }
            Self::HostVolume(HostVolume { name, path, depth }) => {
                let rest =
                    if *depth == Depth::One { " without what is mounted beneath" } else { "" };
                write!(f, "stage `{path}`{rest} as volume `{name}`")
            }
            Self::Fill(Filling { volume, path, layers, .. }) => {
                let count = layers.len();
                write!(f, "fill volume `{volume}`, if empty, from `{path}` of {count} layers")
            }
            Self::Memory(Memory { what: Shared::Shm, .. }) => {
                f.write_str("make the pod's shared memory")
            }
            Self::Memory(Memory { what: Shared::Volume(name), .. }) => {
                write!(f, "make volume `{name}` in memory")
            }
            Self::HostShm => f.write_str("stage the host's `/dev/shm`"),
            Self::File(file, text) => {
                write!(f, "write `/etc/{}`, {} bytes", file.as_str(), text.len())
            }
        }
    }
}

impl fmt::Display for EmptyVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (mode {:o}", self.name, self.mode)?;
        match self.owner {
            (0, 0) => f.write_str(")"),
            (uid, gid) => write!(f, ", owner {uid}:{gid})"),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read_only { " read-only" } else { "" })?;
        f.write_str(if self.no_exec { " for data only" } else { "" })
    }
}

impl fmt::Display for TreeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinNamespaces(joined) => {
                write!(f, "join the pod's namespaces: {}", words(joined))
            }
            Self::ActAsPodRoot(ids) => write!(f, "make files as id {}", ids.base),
            Self::Overlay { layers, volatile } => {
                let kind = if *volatile { " volatile" } else { "" };
                write!(f, "mount a{kind} overlay of {} layers", layers.len())
            }
            Self::Mtab => f.write_str("link `/etc/mtab`, if missing"),
            Self::Proc => f.write_str("mount `/proc`"),
            Self::Sys(Writing::Denied) => f.write_str("mount `/sys` read-only"),
            Self::Sys(Writing::Allowed) => f.write_str("mount `/sys`"),
            Self::Dev => f.write_str("mount `/dev` with its devices"),
            Self::HostTree(name) => write!(f, "mount `/{name}` of the host"),
            Self::Device(Device { source, destination, .. }) => {
                write!(f, "make device `{source}` at `{destination}`")
            }
            Self::Shm => f.write_str("mount the pod's shared memory at `/dev/shm`"),
            Self::Volume(VolumeMount { destination, volume, limits, .. }) => {
                write!(f, "mount volume `{volume}` at `{destination}`{limits}")
            }
            Self::Tmpfs { destination, limits, .. } => {
                write!(f, "mount memory at `{destination}`{limits}")
            }
            Self::File(file) => write!(f, "mount `/etc/{}` read-only", file.as_str()),
            Self::Credentials { names, .. } => {
                write!(
                    f,
                    "write {} credentials in memory at `{CREDENTIALS_DIRECTORY}`",
                    names.len()
                )
            }
            Self::ReadOnlyRoot => f.write_str("make the root read-only"),
            Self::Pivot => f.write_str("make the tree the root"),
            Self::Lock => f.write_str("lock every mount in the pod's user namespace"),
        }
    }
}
