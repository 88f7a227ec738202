//! The stage ABI: how stage0 hands a pod over to a stage1.
//!
//! stage0 finds the stage1's directory, reads its `stage1.json`, refuses if the versions do not
//! meet, moves the pod to `run/`, and becomes the stage1's `run` program by `execve`:
//!
//! | what | how |
//! |---|---|
//! | the pod's directory | working directory, and descriptor [`fd::POD`], which holds its lock |
//! | the order | JSON on descriptor [`fd::ORDER`] |
//! | `pod` itself, to become when the pod has ended | descriptor [`fd::SELF`] |
//! | the layers of all apps | descriptor [`fd::LAYERS`], one directory; the order names each beneath it |
//! | the run directory | descriptor [`fd::RUN`] |
//! | the range of user ids | descriptor [`fd::IDS`], a locked file; only with [`Order::ids`] |
//! | sockets | descriptors from [`fd::FIRST`] on, as many as [`Order::sockets`] |
//! | credentials | descriptors behind those, as many as [`Order::credentials`], sealed memory |
//! | where readiness goes | `NOTIFY_SOCKET`, as `sd_notify(3)` says; the only environment |
//! | standard streams | the caller's |
//!
//! The stage1 keeps POD, SELF, RUN and IDS open, close-on-exec, for as long as the pod lives, and
//! then becomes `pod reap` through SELF with those four open again and `argv` as [`reap_argv`]
//! makes it. Should that fail, it exits with the pod's status itself.
//!
//! One directory for all layers rather than a descriptor for each, because one idmapped mount of
//! a common parent serves any number of layers; a stage1 learns nothing about the store from it
//! but the names it is told.

use serde::{Deserialize, Serialize};

use crate::app::AppSpec;
use crate::credential::{CredentialName, SocketName};
use crate::digest::Digest;
use crate::fields::is_default;
use crate::isolators::Resources;
use crate::manifest::{Dns, PodManifest};
use crate::name::{PodId, PodName};
use crate::network::Joined;
use crate::version::AbiRange;

/// Numbers of inherited descriptors.
pub mod fd {
    /// The pod's directory, locked.
    pub const POD: i32 = 3;
    /// The order, JSON.
    pub const ORDER: i32 = 4;
    /// The executable of `pod`.
    pub const SELF: i32 = 5;
    /// The directory beneath which all layers lie.
    pub const LAYERS: i32 = 6;
    /// The pod's run directory.
    pub const RUN: i32 = 7;
    /// The locked lease of the pod's range of user ids.
    pub const IDS: i32 = 8;
    /// The first of a row of descriptors that has no fixed length: sockets, then credentials.
    /// Since version 3.
    pub const FIRST: i32 = 16;
}

/// What a supervisor says to `NOTIFY_SOCKET` when its apps are held ([`Order::hold`]) and a client
/// can attach.
pub const HELD: &str = "X_POD_HELD=1";

/// The longest findings of a stage1 that are read, in bytes.
pub const MAX_FINDINGS: u64 = 64 << 10;

/// The name of a stage1's manifest in its directory.
pub const STAGE1_MANIFEST: &str = "stage1.json";

/// `stage1.json`: what a directory that is a stage1 offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage1Manifest {
    /// The word that `--stage1` takes for it.
    pub name: String,
    /// The versions of the stage ABI it understands.
    pub abi: AbiRange,
    /// Its programs, as paths beneath its directory.
    pub entrypoints: Entrypoints,
    /// What it wants layers as. Since version 4.
    #[serde(default, skip_serializing_if = "is_default")]
    pub layers: LayerForm,
    /// What it takes itself of what a pod may use. Since version 4.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overhead: Overhead,
}

/// What a stage1 takes itself, beside a pod's apps: a limit of the pod is its apps', and whatever
/// holds all of it to limits adds this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overhead {
    /// Bytes of memory, of any pod.
    pub memory: u64,
    /// Hundredths of the pod's own memory, on top of that.
    pub memory_percent: u64,
    /// Processes and threads.
    pub tasks: u64,
}

impl Overhead {
    /// Returns limits of a pod with this around them.
    #[must_use]
    pub fn around(&self, limits: &Resources) -> Resources {
        let memory = |bytes: u64| {
            let part = (bytes / 100).saturating_mul(self.memory_percent);
            // A number that is no limit stays none.
            bytes.saturating_add(part).saturating_add(self.memory)
        };
        Resources {
            memory: limits.memory.map(memory),
            memory_high: limits.memory_high.map(memory),
            pids: limits.pids.map(|most| most.saturating_add(self.tasks)),
            ..limits.clone()
        }
    }
}

/// What a layer is handed over as, beneath [`fd::LAYERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerForm {
    /// A directory, with whiteouts as overlayfs has them.
    #[default]
    Trees,
    /// A file: an EROFS file system of the same content (`Documentation/filesystems/erofs.rst`).
    Images,
    /// A directory or a file, as [`Sandbox::layers`](crate::manifest::Sandbox::layers) says. Since
    /// version 5.
    Either,
}

/// The programs of a stage1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entrypoints {
    /// Runs a pod, as told by the table above. Called with `run` as its only argument.
    pub run: String,
    /// Tells what of this host its pods need: prints [`Finding`](crate::finding::Finding)s to its
    /// standard output, a JSON array of at most [`MAX_FINDINGS`] bytes, and exits with 0. Called
    /// with `doctor` as its only argument, in an empty environment. Since version 4.
    #[serde(default, skip_serializing_if = "is_default")]
    pub doctor: Option<String>,
}

/// What stage0 tells a stage1 to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// [`crate::version::STAGE_ABI`] of stage0.
    pub abi: u32,
    /// The sandbox.
    pub pod: PodManifest,
    /// The newest generation of each app, in the order they are started.
    pub apps: Vec<AppOrder>,
    /// How often this pod has been started, this time included.
    pub attempt: u32,
    /// The range of user ids leased for this run; none with `--userns host`, but for a stage1 that
    /// takes images of layers: its processes on the host have ids of their own in any case.
    pub ids: Option<IdRange>,
    /// What becomes of the apps' output beside their logs.
    pub output: Output,
    /// `/etc/resolv.conf` of the apps.
    pub resolv_conf: String,
    /// `/etc/hosts` of the apps.
    pub hosts: String,
    /// Whether apps are told to run only once a client has attached, so that nothing is said that
    /// it does not hear. Since version 2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold: bool,
    /// The unit it is the main process of, if it is one's. Since version 3, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: Option<Service>,
    /// The names of the sockets handed over, in the order of their descriptors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sockets: Vec<SocketName>,
    /// The names of the credentials handed over, in the order of their descriptors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub credentials: Vec<CredentialName>,
    /// Whether apps' output goes to the journal, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub journal: bool,
    /// Whether the pod is to be told to machined, by `pod internal-register` through
    /// [`fd::SELF`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub register: bool,
}

/// The unit of a service manager whose main process a supervisor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name, such as `pod-web.service`.
    pub unit: String,
    /// Microseconds within which it wants to hear of us again and again (`WATCHDOG_USEC`,
    /// `sd_watchdog_enabled(3)`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub watchdog_us: Option<u64>,
}

/// One app of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppOrder {
    /// The app.
    pub spec: AppSpec,
    /// Its layers beneath [`fd::LAYERS`], lowest first, as many as the spec pins: directories or
    /// files, as [`Stage1Manifest::layers`] says.
    pub layers: Vec<String>,
    /// The digests these files must be sealed with, in the same order (`FS_IOC_MEASURE_VERITY`);
    /// none if they are not to be. Since version 5.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seals: Vec<Digest>,
}

/// A range of user and group ids of the host: id 0 of the pod is `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// The first id.
    pub base: u32,
    /// How many.
    pub count: u32,
}

/// What becomes of apps' output beside their logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Nothing.
    Logged,
    /// It is also written to the standard streams: byte for byte if there is one app, else line
    /// by line under the app's name.
    Shown,
}

/// What is in files of apps about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
}

impl Order {
    /// Returns what apps are to know of names once the pod has joined its networks: its own stands
    /// for its addresses, and the networks' servers are asked, unless servers were named.
    #[must_use]
    pub fn names(&self, joined: &Joined) -> Names {
        let sandbox = &self.pod.sandbox;
        let hostname = sandbox.hostname.as_ref().unwrap_or(&self.pod.name);
        let names_servers = |dns: &Dns| !dns.servers.is_empty() || *dns == Dns::default();
        let resolv_conf = match &sandbox.dns {
            Some(dns) if names_servers(dns) => self.resolv_conf.clone(),
            _ => joined.resolv_conf(&self.resolv_conf),
        };
        Names { resolv_conf, hosts: joined.hosts(&self.hosts, hostname.as_str()) }
    }
}

/// Returns the arguments by which a supervisor has `pod` join the networks of pod `id` in `netns`; it
/// prints an [`Answer`](crate::network::Answer). All paths lead to descriptors of the supervisor: of
/// the pod's directory and its network namespace.
#[must_use]
pub fn attach_argv(id: &PodId, pod: &str, netns: &str) -> Vec<String> {
    ["internal-attach", "--pod", pod, "--netns", netns, id.as_str()].map(str::to_owned).into()
}

/// Returns the arguments by which `pod` tells machined of pod `name`, whose PID 1 is `leader`. It
/// prints why if it cannot.
#[must_use]
pub fn register_arguments(name: &PodName, id: &PodId, leader: u32) -> Vec<String> {
    vec!["internal-register".to_owned(), name.to_string(), id.to_string(), leader.to_string()]
}

/// Returns the argument vector of `pod reap`: releases what pod `id` held, prints a recorded
/// error if output is shown, and exits with `code`.
///
/// `root` and `run_root` are found through the descriptors, so they are no arguments.
#[must_use]
pub fn reap_argv(id: &PodId, code: u8, output: Output) -> Vec<String> {
    let mut argv: Vec<String> = ["pod", "reap", "--inherited"].map(str::to_owned).into();
    if output == Output::Shown {
        argv.push("--show-error".to_owned());
    }
    argv.push(format!("--code={code}"));
    argv.push(id.to_string());
    argv
}
