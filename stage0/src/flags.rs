//! The flags of pods and of apps, and those every command takes.
//!
//! They stand apart from the sub-commands because `run` and `prepare` are not read by clap as a
//! whole: [`crate::grammar`] cuts their line into a pod's part and a part for each app, and these
//! types read the parts.

mod resources;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::service_manager::ServiceManager;
use crate::ui::Format;

pub(crate) use resources::{AppResources, PodResources, ResourceWords, of_pod as limit_of_pod};

/// The heading of flags of every command.
const GLOBAL: &str = "Flags of every command";

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Directory of pods and images [default: $POD_ROOT, else /var/lib/pod]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL)]
    pub(crate) root: Option<PathBuf>,
    /// Directory of what a reboot clears [default: $POD_RUN_ROOT, else /run/pod]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL)]
    pub(crate) run_root: Option<PathBuf>,
    /// Who looks after pods: `auto`, `systemd` or `none` [default: $POD_MANAGER, else auto]
    #[arg(long, value_name = "WHO", value_enum, hide_possible_values = true, global = true, help_heading = GLOBAL)]
    pub(crate) manager: Option<ServiceManager>,
    /// Form of what is shown, errors included: `table` or `json` [default: table]
    #[arg(short, long, value_name = "FORM", value_enum, hide_possible_values = true, global = true, help_heading = GLOBAL)]
    pub(crate) output: Option<Format>,
    /// Same as `--output json`
    #[arg(long, global = true, conflicts_with = "output", help_heading = GLOBAL)]
    pub(crate) json: bool,
}

impl Globals {
    /// Returns the form of output asked for.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output.unwrap_or_default() }
    }

    /// Takes over what `later` says, which stood later on the line.
    #[must_use]
    pub(crate) fn overridden_by(self, later: Self) -> Self {
        Self {
            root: later.root.or(self.root),
            run_root: later.run_root.or(self.run_root),
            manager: later.manager.or(self.manager),
            json: later.json || (self.json && later.output.is_none()),
            output: later.output.or(self.output),
        }
    }
}

/// Flags of a pod: they stand before the first image.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PodFlags {
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// Start in the background: print the pod's id once all apps are ready
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Become the pod's supervisor, as the main process of a unit does anyway
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Keys that leave a terminal and let the pod go on [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Remove the pod as soon as it has ended
    #[arg(long)]
    pub(crate) rm: bool,
    /// Name of the pod; behind an image, of the app
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Write the pod's id to this file, which must not be there yet
    #[arg(long, value_name = "FILE", aliases = ["cidfile", "uuid-file", "uuid-file-save"])]
    pub(crate) id_file: Option<PathBuf>,
    /// Hostname of the pod [default: its name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    #[command(flatten)]
    pub(crate) joining: NetFlags,
    /// Name server, `host` for the host's resolv.conf, `none` for an empty one (repeatable)
    #[arg(long, value_name = "IP|host|none")]
    pub(crate) dns: Vec<String>,
    /// Domain to try for short names (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver, such as `ndots:2` (repeatable)
    #[arg(long, value_name = "OPTION", alias = "dns-option")]
    pub(crate) dns_opt: Vec<String>,
    /// Line of /etc/hosts (repeatable)
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<String>,
    /// System V IPC and message queues: `pod` or `host` [default: pod]
    #[arg(long, value_name = "KIND")]
    pub(crate) ipc: Option<String>,
    /// Kernel setting of the pod's namespaces (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// User ids of the pod: `auto`, a range of its own, or `host` [default: auto]
    #[arg(long, value_name = "KIND")]
    pub(crate) userns: Option<String>,
    /// What ends the pod: `any-failure`, `all`, `never` or `main=APP` [default: any-failure]
    #[arg(long, value_name = "POLICY")]
    pub(crate) exit_policy: Option<String>,
    /// Whether what apps write goes to the journal beside their logs: `auto` or `off` [default: auto]
    #[arg(long, value_name = "WHERE")]
    pub(crate) journal: Option<String>,
    #[command(flatten)]
    pub(crate) resources: PodResources,
    /// When memory runs out in an app: `continue`, its other processes go on; `kill` them all; or
    /// `stop` the pod [default: continue]
    #[arg(long, value_name = "WHAT")]
    pub(crate) oom_policy: Option<String>,
    /// What isolates the pod: a name or an absolute directory [default: ns]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) stage1: Option<String>,
    /// Disk of the pod's own for what its apps write, kept as long as it is; of a pod in a virtual
    /// machine, which has only memory for it otherwise
    #[arg(long, value_name = "SIZE")]
    pub(crate) scratch: Option<String>,
    /// How it is given the layers of images: plain; checked (compared at each start with what they
    /// came as); erofs (as read-only disk images, as virtual machines always are); or sealed (those,
    /// each byte checked by the kernel as it is read) [default: plain]
    #[arg(long, value_name = "HOW")]
    pub(crate) layers: Option<String>,
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
    /// A word of yours about the pod; behind an image, about the app (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// A word for programs about the pod; behind an image, about the app (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Property of the pod's unit as in a unit file, such as `Restart=on-failure` (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) unit_property: Vec<String>,
    /// Print what would run as JSON, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run what `--dry-run` has printed, from a file or `-`
    #[arg(long, value_name = "FILE", alias = "pod-manifest")]
    pub(crate) spec: Option<PathBuf>,
    /// With `--spec`: start the pod of that name again if it is the one described, else replace it
    #[arg(long)]
    pub(crate) reuse: bool,
}

/// Flags of a pod about networks.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NetFlags {
    /// Networks of the pod, `default`, `default-restricted` or any of CNI in `/etc/cni/net.d`; or
    /// `none`, `host`, or the namespace at a path (repeatable) [default: none, with `-p` `default`]
    #[arg(long, value_name = "none|host|ns:PATH|NAME[:KEY=VALUE;…],…", alias = "network")]
    pub(crate) net: Vec<String>,
    /// Have a port of the host lead to one of the pod; both may be ranges (repeatable)
    #[arg(short, long, value_name = "[IP:]HOST:POD[/tcp|udp]")]
    pub(crate) publish: Vec<String>,
    /// Address of the pod in its one network (repeatable, once for each family)
    #[arg(long, value_name = "IP", alias = "ip6")]
    pub(crate) ip: Vec<IpAddr>,
    /// Hardware address of the pod in its one network
    #[arg(long, value_name = "MAC", alias = "mac")]
    pub(crate) mac_address: Option<String>,
}

/// Flags of whatever may fetch an image.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FetchFlags {
    /// When to fetch images: `missing`, `newer`, `always` or `never` [default: missing]
    #[arg(long, value_name = "WHEN")]
    pub(crate) pull: Option<String>,
    /// Platform of the images, `OS/ARCH[/VARIANT]` [default: the host's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// What is asked of images, instead of `/etc/pod/policy.json` or, if that is missing,
    /// `/etc/containers/policy.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) signature_policy: Option<PathBuf>,
    /// Protections to give up: `http`, `image` (the signature policy) or both as `all-fetch`, of
    /// fetching; `capabilities`, `paths`, `seccomp`, or all three as `all-run`, of apps; or `all`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) insecure_options: Vec<String>,
    /// Same as `--insecure-options http`: speak plain HTTP to registries beyond loopback
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Tell nothing of what is fetched
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Flags of a process in an app: of the app's own, and of what `pod exec` starts beside it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ProcessFlags {
    /// Feed it with your standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Variable of the environment; without a value, yours if you have it (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Variables from a file, one a line; `--env` overrides them (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory [default: the image's, or the app's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who it runs as, by name or number [default: as the image says, or as the app]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
}

/// Flags of an app: they follow its image, or precede it if it is the only one.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AppFlags {
    /// Name of the app [default: the last word of its image]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// Program to run in place of the image's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    #[command(flatten)]
    pub(crate) life: LifeFlags,
    #[command(flatten)]
    pub(crate) storage: StorageFlags,
    #[command(flatten)]
    pub(crate) handed: HandedFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) privileges: PrivilegeFlags,
    /// A word of yours about the app (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// A word for programs about the app (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
}

/// When an app starts, ends, and is started again.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LifeFlags {
    /// When it is started again: `no`, `on-failure[:N]` or `always` [default: no]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// When it is ready: `started`, `notify`, `exec:COMMAND`, `tcp:PORT` or `http:PORT[/PATH]`
    /// [default: started]
    #[arg(long, value_name = "WHEN")]
    pub(crate) readiness: Option<String>,
    /// Start it once this app is ready (repeatable)
    #[arg(long, value_name = "APP", value_delimiter = ',')]
    pub(crate) after: Vec<String>,
    /// Run it to its end before any other app starts
    #[arg(long)]
    pub(crate) init_app: bool,
    /// Have a process of ours be process 1 and reap what it leaves
    #[arg(long)]
    pub(crate) init: bool,
    /// Processes it sees: `app`, its own; `pod`; or `host`, with `--stage1 fly` [default: app]
    #[arg(long, value_name = "KIND")]
    pub(crate) pid: Option<String>,
    /// Signal that asks it to end [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds from that signal to KILL [default: 10]
    #[arg(long, value_name = "SECS")]
    pub(crate) stop_timeout: Option<String>,
    /// Size of one file of its log, and how many are kept [default: 16m:2]
    #[arg(long, value_name = "BYTES[:FILES]")]
    pub(crate) log_size: Option<String>,
}

/// What an app has mounted.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct StorageFlags {
    /// Mount a path of the host, a named volume, or, without SRC, a new one (repeatable)
    #[arg(short, long, value_name = "[SRC:]DST[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Mount something: `type=bind|volume|empty|tmpfs,src=…,dst=…,ro,…` (repeatable)
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub(crate) mount: Vec<String>,
    /// Mount a file system in memory (repeatable)
    #[arg(long, value_name = "DST[:size=BYTES,mode=MODE,ro,noexec]")]
    pub(crate) tmpfs: Vec<String>,
    /// Mount the root read-only
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// What an app is given by name from outside.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HandedFlags {
    /// Secret, as a file in $CREDENTIALS_DIRECTORY; without a path, the unit's own or one of the
    /// host's stores (repeatable)
    #[arg(long, value_name = "NAME[=PATH]")]
    pub(crate) credential: Vec<String>,
    /// Socket of the service manager, by name; descriptors from 3 on in this order (repeatable)
    /// [default: all, for the only app]
    #[arg(long, value_name = "NAME")]
    pub(crate) socket: Vec<String>,
}

/// The most an app may use.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitFlags {
    #[command(flatten)]
    pub(crate) resources: AppResources,
    /// Limit of a resource, such as `nofile=1024:2048` (repeatable)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Preference of the kernel when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) oom_score_adj: Option<String>,
}

/// What an app may do.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PrivilegeFlags {
    /// Capability to grant, or `ALL` (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_add: Vec<String>,
    /// Capability to withhold, or `ALL` (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_drop: Vec<String>,
    /// All capabilities and system calls, no path masked, /sys writable: power over the pod, and
    /// over the host only with `--userns host`
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Device of the host (repeatable)
    #[arg(long, value_name = "SRC[:DST[:rwm]]")]
    pub(crate) device: Vec<String>,
    /// `no-new-privileges[:BOOL]`, or `seccomp=` a profile, `unconfined` or `default` (repeatable)
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Further group, by name or number (repeatable)
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Mode bits that files it makes never have, octal [default: 022]
    #[arg(long, value_name = "MASK")]
    pub(crate) umask: Option<String>,
}
