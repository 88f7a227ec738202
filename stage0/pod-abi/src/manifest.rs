//! The sandbox of a pod: `pod.json`, and the file `pod run --spec` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::app::AppSpec;
use crate::fields::is_default;
use crate::isolators::Resources;
use crate::name::{AppName, PodId, PodName};
use crate::network::{Attachment, Publication};
use crate::time::Timestamp;
use crate::volume::Volume;

/// `pod.json`: a sandbox that has an id, a name and a birthday. Never changed once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodManifest {
    /// [`crate::version::MANIFEST`] of the writer.
    pub version: u32,
    /// The pod's id.
    pub uuid: PodId,
    /// The pod's name.
    pub name: PodName,
    /// When it was prepared.
    pub created: Timestamp,
    /// Whether the pod is removed as soon as it ends.
    pub remove: bool,
    /// What the pod is.
    pub sandbox: Sandbox,
}

/// What apps of a pod share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sandbox {
    /// The hostname; the pod's name if not given.
    #[serde(default)]
    pub hostname: Option<PodName>,
    /// The stage1 that isolates it: a name such as `ns`, or an absolute directory.
    pub stage1: String,
    /// Whether it has user ids of its own.
    #[serde(default)]
    pub userns: Userns,
    /// What network it has.
    #[serde(default)]
    pub network: Network,
    /// Volumes its apps can mount.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Its apps, in the order they are started.
    pub apps: Vec<AppName>,
    /// What ends the pod.
    #[serde(default)]
    pub exit_policy: ExitPolicy,
    /// Free words of the user.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free words of programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Whose System V IPC and message queues it sees. Since version 2, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ipc: Ipc,
    /// Kernel settings of its namespaces, by their dotted names (`sysctl(8)`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// Its `/etc/resolv.conf`; the host's if not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: Option<Dns>,
    /// Names in its `/etc/hosts` beside its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hosts: Vec<HostEntry>,
    /// What was given up for it: everything that `--insecure-options` has switched off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub insecure: BTreeSet<Insecure>,
    /// The most all of it may use together. Since version 3, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What it means to the pod that an app runs out of memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub oom_policy: OomPolicy,
    /// Properties of its unit beyond those we set, in the form `NAME=VALUE` of unit files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit_properties: Vec<String>,
    /// Where its apps' output goes beside their logs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub journal: Journal,
    /// Bytes of a disk of its own for what its apps write, kept as long as the pod is: of a pod in
    /// a virtual machine. Without one they write to the machine's memory. Since version 4.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scratch: Option<u64>,
    /// Ports of the host that lead to it. Since version 5.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<Publication>,
    /// How its apps' layers are given to it. Since version 6.
    #[serde(default, skip_serializing_if = "is_default")]
    pub layers: Layers,
}

/// How layers are given to a pod, and how it is known that they are what they came as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// As its stage1 wants them: directories in namespaces, EROFS images in a machine. They were
    /// verified when they came.
    #[default]
    Plain,
    /// As plain, and compared at each start with what they came as.
    Checked,
    /// As EROFS images.
    Erofs,
    /// As EROFS images each byte of which the kernel checks as it is read (fs-verity).
    Sealed,
}

impl Layers {
    /// All of them, with the word of each.
    pub const ALL: [(&str, Self); 4] = [
        ("plain", Self::Plain),
        ("checked", Self::Checked),
        ("erofs", Self::Erofs),
        ("sealed", Self::Sealed),
    ];

    /// Tells whether they are EROFS images, whatever the stage1.
    #[must_use]
    pub const fn are_images(self) -> bool {
        matches!(self, Self::Erofs | Self::Sealed)
    }
}

/// `limits.json`: limits of a pod that were changed after it was made. Replaces
/// [`Sandbox::resources`] where it is there. Since version 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodLimits {
    /// [`crate::version::MANIFEST`] of the writer.
    pub version: u32,
    /// The limits, all of them.
    pub resources: Resources,
}

/// What it means to a pod that memory ran out in an app; the words are systemd's (`OOMPolicy=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomPolicy {
    /// The kernel kills one process; if that was an app's first, the app has failed, as by any
    /// other signal, and its restart policy and the pod's exit policy decide.
    #[default]
    Continue,
    /// All processes of the app are killed (`memory.oom.group`), so that none of it goes on
    /// without the others; then as above.
    Kill,
    /// The pod is stopped in order, and has failed.
    Stop,
}

/// Whether apps' output goes to the journal beside their logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Journal {
    /// Where there is one.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// `apps.json`: the apps of a pod whose apps were changed after it was made. Replaces
/// [`Sandbox::apps`] where it is there. Since version 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppList {
    /// [`crate::version::MANIFEST`] of the writer.
    pub version: u32,
    /// The apps, in the order they are started.
    pub apps: Vec<AppName>,
}

/// A whole pod before it has an id: what `pod run --dry-run` prints and `--spec` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// [`crate::version::MANIFEST`] of the writer.
    pub version: u32,
    /// The pod's name; one is made up if not given.
    #[serde(default)]
    pub name: Option<PodName>,
    /// What apps share.
    pub sandbox: Sandbox,
    /// The apps, in the order of [`Sandbox::apps`].
    pub apps: Vec<AppSpec>,
}

/// Whether a pod has user ids of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Userns {
    /// It has: root of the pod is nobody on the host.
    #[default]
    Auto,
    /// It has not: root of the pod is root of the host, less capabilities.
    Host,
}

/// What network a pod has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A loopback interface of its own and nothing else.
    #[default]
    None,
    /// The host's.
    Host,
    /// Its own, with an interface in each of these networks. Since version 5.
    Joined(Vec<Attachment>),
    /// Somebody else's: the network namespace at this path. Since version 5.
    Path(PathBuf),
}

/// Whose System V IPC, message queues and `/dev/shm` a pod sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipc {
    /// Its own; its apps share them.
    #[default]
    Pod,
    /// The host's.
    Host,
}

/// `/etc/resolv.conf` of a pod (`resolv.conf(5)`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// Domains tried for short names.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options, such as `ndots:2`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostEntry {
    /// The address.
    pub address: IpAddr,
    /// The name.
    pub name: String,
}

/// A protection that can be given up, each by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Insecure {
    /// Registries beyond loopback are spoken to over plain HTTP.
    Http,
    /// Certificates of registries are not checked.
    Tls,
    /// Images are taken whatever the policy asks of them.
    Image,
    /// Apps get every capability.
    Capabilities,
    /// No path is masked or read-only.
    Paths,
    /// No system call is denied.
    Seccomp,
}

impl Insecure {
    /// Returns the word that stands for it, in documents and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Image => "image",
            Self::Capabilities => "capabilities",
            Self::Paths => "paths",
            Self::Seccomp => "seccomp",
        }
    }
}

/// What ends a pod, and with which status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExitPolicy {
    /// The first app that fails ends it, with that app's status; otherwise it ends, with 0, when
    /// all have ended.
    #[default]
    AnyFailure,
    /// It ends when all apps have ended, with the status of the first that failed, else 0.
    All,
    /// It ends when this app has ended, with its status.
    Main(AppName),
    /// It ends when it is stopped, with 0; it may have no app. Since version 2.
    Never,
}

/// Why a word is no exit policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no exit policy: it takes `any-failure`, `all`, `never` or `main=APP`")]
pub struct ExitPolicyError(String);

impl FromStr for ExitPolicy {
    type Err = ExitPolicyError;

    fn from_str(word: &str) -> Result<Self, ExitPolicyError> {
        let refused = || ExitPolicyError(word.chars().take(80).collect());
        match word {
            "any-failure" => Ok(Self::AnyFailure),
            "all" => Ok(Self::All),
            "never" => Ok(Self::Never),
            _ => {
                let name = word.strip_prefix("main=").ok_or_else(refused)?;
                AppName::parse(name).map(Self::Main).map_err(|_| refused())
            }
        }
    }
}

impl TryFrom<String> for ExitPolicy {
    type Error = ExitPolicyError;

    fn try_from(word: String) -> Result<Self, ExitPolicyError> {
        word.parse()
    }
}

impl From<ExitPolicy> for String {
    fn from(policy: ExitPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for ExitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyFailure => f.write_str("any-failure"),
            Self::All => f.write_str("all"),
            Self::Never => f.write_str("never"),
            Self::Main(app) => write!(f, "main={app}"),
        }
    }
}
