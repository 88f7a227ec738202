//! The grammar of the command line but for `run`, `prepare`, `sandbox` and `app add`, whose lines
//! [`crate::grammar`] reads. A table of flags, as long as there are commands.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::flags::{AppResources, FetchFlags, Globals, ProcessFlags};
use crate::ports::{self, Behind, Pair};
use crate::signal;
use crate::span::{Span, duration};

/// Run pods of apps from OCI images, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "pod",
    version,
    subcommand_required = true,
    arg_required_else_help = false,
    after_help = "\
Exit status:
  of run, start, exec, attach and sandbox: the app's own, 128+n for signal n, 127 program not
  found, 126 program cannot be executed, 125 an error of pod; of all others: 1 refused, 2 usage"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pod of one or more apps
    Run,
    /// Lay out a pod without starting it, and print its id
    Prepare,
    /// Start a prepared pod, or one that has ended
    Start(StartArgs),
    /// List running pods
    #[command(aliases = ["ls", "list"])]
    Ps(PsArgs),
    /// Show what a pod and its apps do
    Status(PodArgs),
    /// Show all that is known of a pod, as JSON
    Inspect(InspectArgs),
    /// Write an app out as an OCI bundle, which runc and crun run
    Bundle(BundleArgs),
    /// Make and start an empty pod, to which apps are added
    Sandbox,
    /// Apps of a pod, one by one
    #[command(subcommand)]
    App(AppVerb),
    /// Show what a pod's apps have written
    Logs(LogsArgs),
    /// Show what has happened to pods
    Events(EventsArgs),
    /// Show the processes of a pod
    Top(TopArgs),
    /// Show what pods use
    Stats(StatsArgs),
    /// Change limits of a pod or of one of its apps
    Update(UpdateArgs),
    /// Make every process of pods stand still
    Pause(Pods),
    /// Let pods go on that are paused
    Unpause(Pods),
    /// Run a command in an app of a running pod
    Exec(ExecArgs),
    /// Copy files between the host and an app of a running pod
    Cp(CpArgs),
    /// Keep what an app has changed as an image
    Commit(CommitArgs),
    /// Show which ports of this host lead into a running pod
    Port(PortArgs),
    /// Have ports of this host lead to ports of a running pod, for as long as this runs
    PortForward(PortForwardArgs),
    /// Connect your terminal or streams to an app of a running pod
    Attach(AttachArgs),
    /// Stop pods in order
    Stop(StopArgs),
    /// Stop pods in order and start them again in the background
    Restart(RestartArgs),
    /// Send a signal to the apps of pods; SIGKILL ends a pod at once
    Kill(KillArgs),
    /// Wait for pods to end, and print their exit statuses
    Wait(WaitArgs),
    /// Remove pods that do not run
    Rm(RmArgs),
    /// Have a pod started at every boot, as `pod@NAME.service`
    Enable(EnableArgs),
    /// Have a pod started at boots no longer
    Disable(DisableArgs),
    /// Print what others need to run a pod
    #[command(subcommand)]
    Generate(GenerateVerb),
    /// Remove what is dead: pods that have ended, and what they left
    Gc(PodGcArgs),
    /// Fetch images into the store
    #[command(alias = "pull")]
    Fetch(FetchArgs),
    /// Images in the store
    #[command(subcommand)]
    Image(ImageVerb),
    /// Volumes that outlive pods
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Networks that pods can join
    #[command(subcommand)]
    Network(NetworkVerb),
    /// What the signature policy says of images
    #[command(subcommand)]
    Trust(TrustVerb),
    /// Keep a user and a password for a registry
    Login(LoginArgs),
    /// Forget what is kept for a registry
    Logout(LogoutArgs),
    /// Answer for the names of pods, and pass other questions on
    Dns(DnsArgs),
    /// Tell what this host can do and what to change
    Doctor(DoctorArgs),
    /// Tell versions, places, and how much is stored
    Info,
    /// Print a script that completes command lines in a shell
    Completion(CompletionArgs),
    /// Print the version
    Version,
    /// List images
    #[command(hide = true)]
    Images(ImageLsArgs),
    /// Give an image to a registry
    #[command(hide = true)]
    Push(PushArgs),
    /// Forget images
    #[command(hide = true)]
    Rmi(ImagesArgs),
    /// Print what `pod run --spec` takes
    #[command(hide = true)]
    CatManifest(PodArgs),
    /// Take back what a pod held
    #[command(hide = true)]
    Reap(ReapArgs),
    /// Print this grammar as JSON, for what is written about it
    #[command(hide = true)]
    InternalGrammar,
    /// Join the networks of a pod
    #[command(hide = true)]
    InternalAttach(AttachNetworksArgs),
    /// Tell machined of a pod
    #[command(hide = true)]
    InternalRegister(RegisterArgs),
    /// Unpack a layer, in a jail
    #[command(hide = true)]
    InternalUnpack,
}

/// One pod.
#[derive(Args, Debug)]
pub(crate) struct PodArgs {
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod enable`.
#[derive(Args, Debug)]
pub(crate) struct EnableArgs {
    /// Start it now, too
    #[arg(long)]
    pub(crate) now: bool,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod disable`.
#[derive(Args, Debug)]
pub(crate) struct DisableArgs {
    /// Stop it now, too
    #[arg(long)]
    pub(crate) now: bool,
    /// Name of the pod
    pub(crate) name: String,
}

/// What can be generated.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateVerb {
    /// Print a unit file that runs a pod
    Systemd(GenerateSystemdArgs),
}

/// `pod generate systemd`.
#[derive(Args, Debug)]
pub(crate) struct GenerateSystemdArgs {
    /// Of the pod this file describes, which `pod run --dry-run` prints
    #[arg(long, value_name = "FILE", conflicts_with = "pod")]
    pub(crate) spec: Option<PathBuf>,
    /// Name, id, or start of an id
    #[arg(required_unless_present = "spec")]
    pub(crate) pod: Option<String>,
}

/// `pod inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print exactly what `pod run --spec` takes
    #[arg(long)]
    pub(crate) spec: bool,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// Several pods, or all that a command is for.
#[derive(Args, Debug)]
pub(crate) struct Pods {
    /// All pods this can be done to
    #[arg(short, long, conflicts_with = "pods")]
    pub(crate) all: bool,
    /// Name, id, or start of an id
    #[arg(required_unless_present = "all", value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod rm`.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Kill pods that run; one that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) pods: Pods,
}

/// `pod kill`.
#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal_number)]
    pub(crate) signal: u8,
    /// One app instead of all
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) pods: Pods,
}

/// `pod restart`.
#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// Seconds until SIGKILL [default: each app's own grace]
    #[arg(short, long, value_name = "SECS", value_parser = seconds)]
    pub(crate) time: Option<u64>,
    /// Name, id, or start of an id
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod wait`.
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// What to wait for: `exited`, `ready` or `running`
    #[arg(
        long,
        value_name = "STATE",
        value_enum,
        hide_possible_values = true,
        default_value_t = Condition::Exited
    )]
    pub(crate) condition: Condition,
    /// Name, id, or start of an id
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// What `pod wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Condition {
    /// It has ended.
    Exited,
    /// All of its apps have been ready.
    Ready,
    /// It runs.
    Running,
}

/// `pod events`.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) span: Span,
    /// Only such events: `event=KIND`, `app=NAME`, `pod=NAME` or `label=KEY[=VALUE]` (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Name, id, or start of an id [default: all pods]
    #[arg(value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// One app instead of all
    pub(crate) app: Option<String>,
}

/// `pod stats`.
#[derive(Args, Debug)]
#[command(after_help = "\
What the kernel does not count is shown as `-`: it counts where cgroup v2 has the controller.

Example:
  pod stats --no-stream --apps shop")]
pub(crate) struct StatsArgs {
    /// Show one reading and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Time between two readings; the share of processors is of this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: u64,
    /// Show each app, too
    #[arg(long)]
    pub(crate) apps: bool,
    /// Write each line as this, with fields such as `{{.Name}}` or `{{json .}}`; `table …` lines
    /// columns up, `json` is `--json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Name, id, or start of an id [default: all running pods]
    #[arg(value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod update`.
#[derive(Args, Debug)]
#[command(after_help = "\
What is not named stays as it is; `-1` takes a limit away. A running pod is changed at once, and
each later start begins with the new limits.

Example:
  pod update shop --memory 2g --cpus 1.5")]
pub(crate) struct UpdateArgs {
    /// Limits of this app instead of all apps together
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    #[command(flatten)]
    pub(crate) resources: AppResources,
}

/// `pod doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without --stage1 it tells of all. `limited` is what pods run without; what keeps them from running
is `missing`.

Example:
  pod doctor --stage1 kvm

Exit status:
  0 pods can run here: those of the stage1 asked for, or of `ns`; 1 they cannot, or there is no
  such stage1; 2 usage")]
pub(crate) struct DoctorArgs {
    /// Tell only what pods of this one need
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) stage1: Option<String>,
}

/// `pod completion`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  pod completion bash >/etc/bash_completion.d/pod")]
pub(crate) struct CompletionArgs {
    /// `bash`, `zsh` or `fish`
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: Shell,
}

/// A shell whose lines can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// `pod bundle`.
#[derive(Args, Debug)]
pub(crate) struct BundleArgs {
    /// Which app [default: the only one]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Print `config.json` and write nothing
    #[arg(long, conflicts_with = "directory")]
    pub(crate) dry_run: bool,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Directory to make
    #[arg(value_name = "DIR", required_unless_present = "dry_run")]
    pub(crate) directory: Option<String>,
}

/// `pod app …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AppVerb {
    /// Add an app to a running pod, and print its name
    Add,
    /// Start apps that do not run, whatever they wait for
    Start(AppArgs),
    /// Stop apps in order; they stay in the pod
    Stop(AppStopArgs),
    /// Remove apps that do not run, with all they have written
    Rm(AppArgs),
    /// List the apps of a pod
    #[command(alias = "list")]
    Ls(PodArgs),
}

/// Several apps of a pod.
#[derive(Args, Debug)]
pub(crate) struct AppArgs {
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Names of apps
    #[arg(required = true, value_name = "APP")]
    pub(crate) apps: Vec<String>,
}

/// `pod app stop`.
#[derive(Args, Debug)]
pub(crate) struct AppStopArgs {
    /// Seconds until SIGKILL [default: each app's own grace]
    #[arg(short, long, value_name = "SECS", value_parser = seconds)]
    pub(crate) time: Option<u64>,
    #[command(flatten)]
    pub(crate) apps: AppArgs,
}

/// `pod start`.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Start in the background: print the pod's id once all apps are ready
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Feed the app that takes input with your standard input
    #[arg(short, long, conflicts_with = "detach")]
    pub(crate) interactive: bool,
    /// Stay connected to its output: what happens without `--detach` anyway
    #[arg(short, long, conflicts_with = "detach")]
    pub(crate) attach: bool,
    /// Keys that leave an app's terminal and let it run [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", requires = "interactive")]
    pub(crate) detach_keys: Option<String>,
    /// Become the pod's supervisor, as the main process of a unit does anyway
    #[arg(long, conflicts_with = "detach")]
    pub(crate) in_place: bool,
    /// Become the supervisor of a pod whose starter waits
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// Let apps run only once a client has attached
    #[arg(long, hide = true, requires = "supervised")]
    pub(crate) hold: bool,
    /// The descriptor that holds the pod's lock already
    #[arg(long, value_name = "FD", hide = true, requires = "supervised")]
    pub(crate) locked: Option<i32>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod ps`.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// List all pods, not only running ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// List only pods that fit: `id`, `name`, `status`, `label`, `app`, `image`, `exited` or
    /// `stage1` (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Write each pod as this line, with fields such as `{{.Name}}` or `{{json .}}`; `table …`
    /// lines columns up, `json` is `--json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// List the N newest pods, running or not
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    pub(crate) last: Option<usize>,
    /// List the newest pod, running or not
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Show whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `pod logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on until the pod ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines, or with `all`
    #[arg(short = 'n', long, value_name = "N", value_parser = lines)]
    pub(crate) tail: Option<usize>,
    #[command(flatten)]
    pub(crate) span: Span,
    /// Show when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// One app instead of all
    #[arg(short = 'c', long = "app", value_name = "NAME", conflicts_with = "app")]
    pub(crate) of_app: Option<String>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// One app instead of all
    pub(crate) app: Option<String>,
}

/// `pod exec`.
#[derive(Args, Debug)]
#[command(override_usage = "pod exec [FLAGS] POD [--] COMMAND [ARGS…]")]
pub(crate) struct ExecArgs {
    /// In which app [default: the only one]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = false)]
    pub(crate) command: Vec<String>,
}

/// `pod cp`.
#[derive(Args, Debug)]
pub(crate) struct CpArgs {
    /// Keep users and groups [default: the app's root on the way in, the caller on the way out]
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a link as SRC leads to, and not the link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// A path of the host, `POD:PATH` or `POD/APP:PATH`, or `-` for an archive from standard input
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// The same, or `-` for an archive to standard output
    #[arg(value_name = "DEST")]
    pub(crate) destination: String,
}

/// `pod attach`.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// To which app [default: the only one]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Only look: pass on nothing that is typed
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Keys that leave the app's terminal and let it run [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Whether signals to this command are passed on to an app without a terminal
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod port`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  pod port shop 80")]
pub(crate) struct PortArgs {
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Show only where this port of the pod is
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub(crate) port: Option<Behind>,
}

/// `pod port-forward`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  pod port-forward shop 8080:80")]
pub(crate) struct PortForwardArgs {
    /// Address of this host to listen at (repeatable)
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) address: Vec<IpAddr>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// `LOCAL:REMOTE`, `PORT` for the same on both sides, or `:REMOTE` for any that is free
    #[arg(required = true, value_name = "PORTS", value_parser = ports::pair)]
    pub(crate) ports: Vec<Pair>,
}

/// `pod dns`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without --listen it serves the sockets that systemd hands over, as `pod-dns.socket` does.

Example:
  pod dns --listen 127.0.0.1:5353")]
pub(crate) struct DnsArgs {
    /// Listen here and go on for ever (repeatable)
    #[arg(long, value_name = "IP[:PORT]", value_parser = ports::place)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Pass questions on to this server (repeatable) [default: the host's resolvers]
    #[arg(long, value_name = "IP[:PORT]", value_parser = ports::place)]
    pub(crate) upstream: Vec<SocketAddr>,
    /// End when nothing was asked for this long
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration, conflicts_with = "listen")]
    pub(crate) idle: u64,
}

/// `pod stop`.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Seconds until SIGKILL [default: each app's own grace]
    #[arg(short, long, value_name = "SECS", value_parser = seconds)]
    pub(crate) time: Option<u64>,
    #[command(flatten)]
    pub(crate) pods: Pods,
}

/// `pod gc`.
#[derive(Args, Debug)]
pub(crate) struct PodGcArgs {
    #[command(flatten)]
    pub(crate) gc: GcArgs,
    /// Remove pods that were prepared longer ago and never started
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) expire_prepared: u64,
}

/// `pod image gc`, and what it shares with `pod gc`.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Keep what is younger, such as `90s`, `30m`, `12h`, `7d`
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) grace: u64,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pod fetch`.
#[derive(Args, Debug)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
    /// `registry/repository[:tag][@digest]`, `oci:DIR[:tag]`, `oci-archive:FILE`,
    /// `docker-archive:FILE` or `dir:DIR`
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `pod image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Fetch images into the store
    Pull(FetchArgs),
    /// List images
    #[command(alias = "list")]
    Ls(ImageLsArgs),
    /// Show all that is known of an image, as JSON
    Inspect(ImageArgs),
    /// Give an image a further name
    Tag(TagArgs),
    /// Take the archive of a root into the store as an image, or an archive of images
    #[command(visible_alias = "load")]
    Import(ImportArgs),
    /// Write an image as one file that other tools read
    #[command(visible_alias = "save")]
    Export(ExportArgs),
    /// Give an image to a registry
    Push(PushArgs),
    /// Sign an image, as cosign does, beside it in its registry
    Sign(SignArgs),
    /// Write an image as plain files into a new directory
    #[command(visible_alias = "render")]
    Extract(ExtractArgs),
    /// Forget images; `pod image gc` frees their space
    Rm(ImagesArgs),
    /// Remove what no image and no pod needs
    Gc(ImageGcArgs),
    /// Check the store: names, digests, and the files of every layer
    Fsck(FsckArgs),
}

/// `pod volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// List volumes, and the pods that mount them
    #[command(alias = "list")]
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Make volumes
    Create {
        /// Make only those that are not there
        #[arg(long)]
        ignore: bool,
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show where a volume is and who mounts it, as JSON
    Inspect {
        /// Its name
        name: String,
    },
    /// Remove volumes that no pod mounts, with all they hold
    Rm(VolumesArgs),
    /// Remove every volume that no pod mounts, with all it holds
    Prune {
        /// Tell what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// `pod trust …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustVerb {
    /// Tell what is asked of an image, and whether it would be let in, and keep nothing of it
    Test(TrustTestArgs),
    /// List what is asked of images, by where they come from
    #[command(alias = "list")]
    Ls(PolicyFlag),
    /// Show what is asked of a scope or of an image, and which keys may have signed it
    Show(TrustShowArgs),
    /// Say what images must have that are to come in
    Require(TrustRequireArgs),
    /// Let in what further keys have signed, beside those a scope has
    Add(TrustAddArgs),
    /// Say nothing of a scope any more
    Rm(TrustRmArgs),
}

/// Which policy is meant.
#[derive(Args, Debug)]
pub(crate) struct PolicyFlag {
    /// Another policy than the host's
    #[arg(long, value_name = "FILE")]
    pub(crate) signature_policy: Option<PathBuf>,
}

/// `pod trust require`.
#[derive(Args, Debug)]
#[command(
    group = clap::ArgGroup::new("asked").required(true).args(["key", "accept", "reject"]),
    group = clap::ArgGroup::new("whom").required(true).args(["scope", "default"]),
    after_help = "\
`/etc/pod/policy.json` is written; where it is not there yet, it begins as what counts without it.
The narrowest scope an image is in counts alone. An image in the store is not judged again.
What a file holds says of which kind its keys are: a key of cosign (PEM), or keys of OpenPGP
(`gpg --export`, armored or not). One command takes files of one kind.

Examples:
  pod trust require registry.example.org/team --key /etc/pod/team.pub
  pod trust require --default --reject")]
pub(crate) struct TrustRequireArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyFlag,
    /// A signature by a public key of this file, or of another one named beside it (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Let a signature for any tag of the repository do
    #[arg(long, requires = "key")]
    pub(crate) any_tag: bool,
    /// Nothing
    #[arg(long)]
    pub(crate) accept: bool,
    /// What cannot be: none comes in
    #[arg(long)]
    pub(crate) reject: bool,
    /// All images nothing else is said of
    #[arg(long)]
    pub(crate) default: bool,
    /// `REGISTRY[/DIRECTORY…[/REPOSITORY[:TAG]]]` or `*.DOMAIN`
    pub(crate) scope: Option<String>,
}

/// `pod trust add`.
#[derive(Args, Debug)]
#[command(
    group = clap::ArgGroup::new("whom").required(true).args(["scope", "prefix", "default"]),
    after_help = "\
A scope that has keys of the same kind has these, too; one that nothing was said of, or that nothing
was let in of, has these alone. Where nothing is asked there is nothing to add: `pod trust require`
asks for something. The rest is as with `pod trust require`.

Examples:
  pod trust add registry.example.org/team --key /etc/pod/team.pub
  pod trust add --prefix registry.example.org --key /etc/pod/team.gpg")]
pub(crate) struct TrustAddArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyFlag,
    /// A file of public keys that may have signed (repeatable)
    #[arg(long, required = true, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Let a signature for any tag of the repository do, as the scope does if it has keys
    #[arg(long)]
    pub(crate) any_tag: bool,
    /// All images nothing else is said of
    #[arg(long)]
    pub(crate) default: bool,
    /// The scope, in the words of rkt
    #[arg(long, value_name = "SCOPE")]
    pub(crate) prefix: Option<String>,
    /// `REGISTRY[/DIRECTORY…[/REPOSITORY[:TAG]]]` or `*.DOMAIN`
    pub(crate) scope: Option<String>,
}

/// `pod trust show`.
#[derive(Args, Debug)]
#[command(after_help = "\
A name that is written out without a tag is a scope; with a tag, or a short name, it is an image.
No registry is asked, and what a key says of whose it is was checked by nobody.

Examples:
  pod trust show registry.example.org/team
  pod trust show docker.io/library/busybox:1.36")]
pub(crate) struct TrustShowArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyFlag,
    /// Which; all that the policy speaks of if left out
    #[arg(value_name = "SCOPE|IMAGE")]
    pub(crate) subject: Option<String>,
}

/// `pod trust rm`.
#[derive(Args, Debug)]
pub(crate) struct TrustRmArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyFlag,
    /// A scope that `pod trust ls` lists
    pub(crate) scope: String,
}

/// `pod trust test`.
#[derive(Args, Debug)]
#[command(after_help = "\
The status is 0 if the image would be let in, and 1 if not.

Example:
  pod trust test registry.example.org/team/app:1")]
pub(crate) struct TrustTestArgs {
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
    /// `registry/repository[:tag][@digest]`, `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE` or `dir:DIR`
    pub(crate) image: String,
}

/// `pod network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkVerb {
    /// List networks, and the pods that have joined them
    #[command(alias = "list")]
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show what is known of a network and of the pods in it, as JSON
    Inspect {
        /// Its name
        name: String,
    },
    /// Write the rules of `default` and `default-restricted` anew, and have firewalls of others let pods through
    Reload,
}

/// Several volumes.
#[derive(Args, Debug)]
pub(crate) struct VolumesArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// One image.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Its reference, or the start of its id
    pub(crate) image: String,
}

/// `pod image ls`.
#[derive(Args, Debug)]
pub(crate) struct ImageLsArgs {
    /// Print ids only, in full and each once
    #[arg(short, long, conflicts_with = "digests")]
    pub(crate) quiet: bool,
    /// Show the digests of manifest and configuration in full
    #[arg(long)]
    pub(crate) digests: bool,
    /// Write each image as this line, with fields such as `{{.Reference}}` or `{{json .}}`;
    /// `table …` lines columns up, `json` is `--json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "digests"])]
    pub(crate) format: Option<String>,
}

/// `pod image tag`.
#[derive(Args, Debug)]
pub(crate) struct TagArgs {
    /// Its reference, or the start of its id
    pub(crate) image: String,
    /// Its further name, `[REGISTRY/]REPOSITORY[:TAG]`
    pub(crate) name: String,
}

/// `pod image import`.
#[derive(Args, Debug)]
#[command(
    group = clap::ArgGroup::new("signed").args(["signature", "discover"]),
    after_help = "\
With `--discover`, `https://NAME?ac-discovery=1` is asked where the image of rkt lies, then the
pages of the name's parents. Its name and the labels that were given must be those of the image that
comes. Nobody is told credentials, and no keys are fetched.

Examples:
  pod image import app.tar team/app:1 --change 'CMD [\"/app\"]'
  pod image import --discover example.com/worker:1.0.0,arch=amd64 --keyring keys.gpg")]
pub(crate) struct ImportArgs {
    /// A tar archive, compressed or not; `-` is standard input; with `--discover` a name of appc
    pub(crate) file: String,
    /// What the image is to be called [default: what it says, or `localhost/` and the file's name]
    pub(crate) reference: Option<String>,
    /// What a root is to run, in a Dockerfile's words, such as `CMD ["/app"]` (repeatable)
    #[arg(short, long, value_name = "CHANGE", conflicts_with = "discover")]
    pub(crate) change: Vec<String>,
    /// Find and fetch the image of rkt that is called `NAME[:VERSION][,LABEL=VALUE…]`
    #[arg(long)]
    pub(crate) discover: bool,
    /// An OpenPGP signature of the file, apart from it, that must be by a key of `--keyring`
    #[arg(long, value_name = "FILE", requires = "keyring")]
    pub(crate) signature: Option<PathBuf>,
    /// Who may have signed it, as `gpg --export` writes them; with `--discover`, the signature is
    /// fetched beside the image
    #[arg(long, value_name = "FILE", requires = "signed")]
    pub(crate) keyring: Option<PathBuf>,
    /// Platform of the image, `OS/ARCH[/VARIANT]` [default: the host's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// What is asked of images, instead of `/etc/pod/policy.json` or, if that is missing,
    /// `/etc/containers/policy.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) signature_policy: Option<PathBuf>,
    /// Protections to give up: `image` (the signature policy) and, with `--discover`, `http` (TLS,
    /// on loopback only), or both as `all-fetch`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) insecure_options: Vec<String>,
    /// Tell nothing but what came in
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `pod commit`.
#[derive(Args, Debug)]
#[command(after_help = "\
The image is the app's, with one layer more. Volumes are no part of it, nor is what lies in memory. What an
app in a virtual machine has changed cannot be kept; `pod cp` copies files out of it.

Examples:
  pod commit web team/web:patched
  pod commit -m 'with tools' -c 'CMD [\"/bin/sh\"]' shop/web tools")]
pub(crate) struct CommitArgs {
    /// What it is to run, in a Dockerfile's words, such as `CMD ["/app"]` (repeatable)
    #[arg(short, long, value_name = "CHANGE")]
    pub(crate) change: Vec<String>,
    /// Who makes it
    #[arg(short, long)]
    pub(crate) author: Option<String>,
    /// What its history says of it
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Have a running pod stand still while its files are read
    #[arg(short, long)]
    pub(crate) pause: bool,
    /// Tell nothing but what was made
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name, id, or start of an id; of several apps, name one: `POD/APP`
    pub(crate) pod: String,
    /// What the image is to be called, `REPOSITORY[:TAG]`
    pub(crate) image: String,
}

/// `pod image gc`.
#[derive(Args, Debug)]
pub(crate) struct ImageGcArgs {
    #[command(flatten)]
    pub(crate) gc: GcArgs,
    /// Forget the images used longest ago until the store has no more than this, such as `20g`; what
    /// pods use stays
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<String>,
}

/// `pod image export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Its reference, or the start of its id
    pub(crate) image: String,
    /// The file to make; `-` is standard output
    pub(crate) file: String,
    /// What to write: `oci-archive` or `docker-archive`
    #[arg(long, value_name = "FORM", value_enum, hide_possible_values = true, default_value_t)]
    pub(crate) format: Archive,
    /// Replace the file if it is there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `pod image fsck`.
#[derive(Args, Debug)]
#[command(after_help = "\
The files of a layer are compared with what it came as, which is unpacked beside for it. The status
is 1 if anything is wrong; nothing is changed.")]
pub(crate) struct FsckArgs {
    /// Leave out the files of layers
    #[arg(long)]
    pub(crate) quick: bool,
    /// Tell nothing of what is being checked
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `pod image push`.
#[derive(Args, Debug)]
#[command(after_help = "\
The digest stays what it is; it is printed. Credentials are those of `pod login`.

Example:
  pod image push app:1 registry.example.org/team/app:1")]
pub(crate) struct PushArgs {
    /// Its reference, or the start of its id
    pub(crate) image: String,
    /// What it is to be there, `REGISTRY/REPOSITORY[:TAG]` [default: its reference]
    pub(crate) destination: Option<String>,
    /// Speak plain HTTP to a registry beyond loopback
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Tell nothing of what is sent
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `pod image sign`.
#[derive(Args, Debug)]
#[command(after_help = "\
What is signed is the image the store has, under the name it has at the registry, which must have
it: `pod image push` first. Signatures that are there stay. A key is made so:

  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub

Example:
  pod image sign --key key.pem app:1 registry.example.org/team/app:1")]
pub(crate) struct SignArgs {
    /// Private key, PKCS #8 in PEM without a password: ECDSA on P-256, Ed25519 or RSA
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Its reference, or the start of its id
    pub(crate) image: String,
    /// What it is there, `REGISTRY/REPOSITORY[:TAG]` [default: its reference]
    pub(crate) destination: Option<String>,
    /// Speak plain HTTP to a registry beyond loopback
    #[arg(long)]
    pub(crate) insecure_http: bool,
}

/// `pod image extract`.
#[derive(Args, Debug)]
pub(crate) struct ExtractArgs {
    /// Its reference, or the start of its id
    pub(crate) image: String,
    /// The directory to make
    pub(crate) directory: String,
    /// Write the tree into the directory itself, without documents
    #[arg(long)]
    pub(crate) rootfs_only: bool,
    /// Platform of the image, `OS/ARCH[/VARIANT]` [default: the host's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// The kinds of archives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Archive {
    /// An OCI layout in a tar file.
    #[default]
    OciArchive,
    /// What `docker load` reads.
    DockerArchive,
}

/// `pod login`.
#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// User [default: ask]
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Password; everybody on this host can read it while the command runs [default: ask]
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    pub(crate) place: AuthFileArgs,
    /// Speak plain HTTP to a registry beyond loopback
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Registry, or a namespace in one: `HOST[:PORT][/NAMESPACE]`
    pub(crate) registry: String,
}

/// `pod logout`.
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// Forget all registries
    #[arg(short, long, conflicts_with = "registry")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: AuthFileArgs,
    /// Registry, or a namespace in one: `HOST[:PORT][/NAMESPACE]`
    #[arg(required_unless_present = "all")]
    pub(crate) registry: Option<String>,
}

/// Where credentials are kept.
#[derive(Args, Debug)]
pub(crate) struct AuthFileArgs {
    /// File of credentials [default: $REGISTRY_AUTH_FILE, else containers/auth.json beneath
    /// $XDG_RUNTIME_DIR or /run/containers/UID]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// Several images.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// Their references, or starts of their ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `pod reap`.
#[derive(Args, Debug)]
pub(crate) struct ReapArgs {
    /// Descriptors of the stage ABI are open
    #[arg(long)]
    pub(crate) inherited: bool,
    /// Print the error the pod has recorded
    #[arg(long)]
    pub(crate) show_error: bool,
    /// Exit with this status
    #[arg(long, value_name = "STATUS", default_value_t = 0)]
    pub(crate) code: u8,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod internal-attach`.
#[derive(Args, Debug)]
pub(crate) struct AttachNetworksArgs {
    /// The pod's directory
    #[arg(long = "pod", value_name = "PATH")]
    pub(crate) directory: PathBuf,
    /// The pod's network namespace
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: PathBuf,
    /// The pod's id
    pub(crate) pod: String,
}

/// `pod internal-register`.
#[derive(Args, Debug)]
pub(crate) struct RegisterArgs {
    /// The pod's name
    pub(crate) name: String,
    /// The pod's id
    pub(crate) id: String,
    /// The process id of the pod's PID 1
    pub(crate) leader: u32,
}

/// Reads the number of a signal.
fn signal_number(word: &str) -> Result<u8, String> {
    signal::number(word)
        .ok_or_else(|| "it takes a name such as `TERM`, or a number from 1 to 64".to_owned())
}

/// Reads a number of seconds.
fn seconds(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| "it takes whole seconds, such as `30`".to_owned())
}

/// Reads the time between two readings, in seconds.
fn interval(word: &str) -> Result<u64, String> {
    let seconds = duration(word)?;
    match seconds {
        1..=86_400 => Ok(seconds),
        _ => Err("it takes `1s` to `1d`".to_owned()),
    }
}

/// How many lines `all` is.
pub(crate) const ALL_LINES: usize = usize::MAX;

/// Reads a number of lines.
fn lines(word: &str) -> Result<usize, String> {
    match word {
        "all" => Ok(ALL_LINES),
        _ => word.parse().map_err(|_| "it takes a number of lines, or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_one_clap_accepts() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_of_exec_keeps_its_flags() {
        let line = "pod exec shop -c web -u 5 ls -la --app x";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Exec(exec) = cli.verb else { panic!("exec") };
        assert_eq!((exec.app.as_deref(), exec.process.user.as_deref()), (Some("web"), Some("5")));
        assert_eq!(exec.command, ["ls", "-la", "--app", "x"]);
        let cli = Cli::try_parse_from("pod exec shop -- -x".split(' ')).unwrap();
        let Verb::Exec(exec) = cli.verb else { panic!("exec") };
        assert_eq!(exec.command, ["-x"]);
    }
}
