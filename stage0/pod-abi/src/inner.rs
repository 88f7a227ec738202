//! The inner protocol: what a supervisor and the pod's PID 1 say to each other.
//!
//! A stream of [frames](crate::frame): a socket pair in namespaces, where descriptors travel
//! beside a frame's first byte, a vsock stream in a virtual machine. PID 1 finds its end at
//! descriptor [`CHANNEL_FD`]; when the stream closes it ends, and the pod with it.
//!
//! ```text
//!   supervisor                                   stage2-init
//!      │  Setup ─────────────────────────────────────▶ │
//!      │ ◀──────────────────────────────── Ready        │
//!      │  AddApp (+ mount namespace, cgroup, stdio) ──▶ │   once for each app
//!      │  Run ───────────────────────────────────────▶ │   start order, restarts: PID 1 decides
//!      │ ◀──────────────── AppStarted, AppEnded, …      │
//!      │  Exec, Signal, StopApp, StartApp, Shutdown ──▶ │
//!      │ ◀──────────────────────────────── PodEnded     │
//! ```
//!
//! PID 1 lives inside the boundary: the supervisor takes nothing it says for true beyond what the
//! pod could do to itself, and bounds all of it.

use serde::{Deserialize, Serialize};

use crate::app::{AppSpec, Process};
use crate::control::Direction;
use crate::exit::Ended;
use crate::fields::is_default;
use crate::manifest::ExitPolicy;
use crate::name::AppName;
use crate::path::PodPath;
use crate::report::Report;

/// The descriptor at which PID 1 finds its end of the channel.
pub const CHANNEL_FD: i32 = 3;

/// What the supervisor tells PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ToInit {
    /// The first frame: makes PID 1 lay out its own surroundings.
    Setup(Setup),
    /// Makes an app known, without starting it. Carries the descriptors `fds` tells, in the order
    /// of the fields.
    AddApp {
        /// The app.
        spec: Box<AppSpec>,
        /// Which descriptors come with this frame.
        fds: AppFds,
    },
    /// Starts all apps added so far, in the order they were added, and begins to decide.
    Run,
    /// Starts one app that does not run, whatever its policy.
    StartApp {
        /// Which.
        app: AppName,
    },
    /// Stops one app in order and leaves it stopped.
    StopApp {
        /// Which.
        app: AppName,
        /// Milliseconds until SIGKILL, if other than the app's own grace.
        grace_ms: Option<u64>,
    },
    /// Runs a process in a running app. Carries standard input, output and error.
    Exec {
        /// A number of the supervisor's, used once.
        id: u32,
        /// In which app.
        app: AppName,
        /// What.
        process: Box<Process>,
        /// Whether the three descriptors are a terminal, which is to be the process's own.
        #[serde(default, skip_serializing_if = "is_default")]
        terminal: bool,
    },
    /// Copies files of a running app as a tar archive, in a process like one of
    /// [`ToInit::Exec`], which is told of alike. Carries three descriptors; the archive goes to
    /// the second or comes from the first. Since version 2, like all that follows.
    Copy {
        /// A number of the supervisor's, used once.
        id: u32,
        /// Of which app.
        app: AppName,
        /// Which way.
        direction: Direction,
        /// What, or where to.
        path: PodPath,
    },
    /// Forgets an app that does not run.
    RemoveApp {
        /// Which.
        app: AppName,
    },
    /// Sends a signal.
    Signal {
        /// To whom.
        target: Target,
        /// The number, 1…64.
        signal: u8,
    },
    /// Stops all apps, last started first, then ends the pod.
    Shutdown {
        /// Milliseconds until SIGKILL, if other than each app's own grace.
        grace_ms: Option<u64>,
    },
    /// Asks for a [`FromInit::Pong`], which only a PID 1 that works gives. Since version 3.
    Ping,
}

/// What PID 1 must lay out before any app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Setup {
    /// [`crate::version::INNER`] of the supervisor; PID 1 ends if it is not its own.
    pub version: u32,
    /// The pod's hostname.
    pub hostname: String,
    /// Whether the network namespace is the pod's own, so that its loopback is to be brought up.
    pub own_network: bool,
    /// What ends the pod.
    pub exit_policy: ExitPolicy,
    /// Whether the processes are the host's, so that PID 1 is not process 1 but collects orphans
    /// all the same. Since version 2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shares_processes: bool,
}

/// Which descriptors come with [`ToInit::AddApp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppFds {
    /// The mount namespace that holds the app's root, kept for restarts.
    pub mount_namespace: bool,
    /// The directory of the app's cgroup, for `CLONE_INTO_CGROUP`.
    pub cgroup: bool,
    /// Standard input, output and error: three descriptors, kept for restarts.
    pub stdio: bool,
    /// How many sockets there are, kept for restarts: the last descriptors, in the order of the
    /// app's [`AppSpec::sockets`](crate::app::AppSpec::sockets). Since version 3.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sockets: u32,
}

/// Who gets a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// The main process of one app.
    App(AppName),
    /// The main process of every running app.
    AllApps,
    /// The process started by [`ToInit::Exec`] with this number.
    Exec(u32),
}

/// What an app says of itself on its `NOTIFY_SOCKET` beside readiness (`sd_notify(3)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AppWord {
    /// `STATUS=`, cut to [`MAX_STATUS`] bytes.
    Status(String),
    /// `RELOADING=1`; ended by the next [`FromInit::AppReady`].
    Reloading,
    /// `STOPPING=1`.
    Stopping,
    /// `WATCHDOG=1`.
    Alive,
    /// `EXTEND_TIMEOUT_USEC=`.
    MoreTime(u64),
}

/// The longest text of [`AppWord::Status`], in bytes.
pub const MAX_STATUS: usize = 512;

/// What PID 1 tells the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FromInit {
    /// [`ToInit::Setup`] is done.
    Ready,
    /// An app has been executed.
    AppStarted {
        /// Which.
        app: AppName,
        /// How often it was started before.
        restarts: u32,
        /// Its process id as PID 1 sees it.
        pid: u32,
    },
    /// An app has ended, or could not be executed.
    AppEnded {
        /// Which.
        app: AppName,
        /// How.
        exit: Ended,
        /// Why, if it could not be executed.
        error: Option<Box<Report>>,
        /// Whether it will be started again, and after how many milliseconds.
        restart_in_ms: Option<u64>,
    },
    /// Every app is ready; sent once.
    PodReady,
    /// An app is ready; sent after every start of it. Since version 2, like the next.
    AppReady {
        /// Which.
        app: AppName,
    },
    /// An app has said something of itself. Since version 3.
    AppSays {
        /// Which.
        app: AppName,
        /// What.
        word: AppWord,
    },
    /// The answer to [`ToInit::Ping`]. Since version 3.
    Pong,
    /// [`ToInit::RemoveApp`] is done.
    AppRemoved {
        /// Which.
        app: AppName,
    },
    /// The process of [`ToInit::Exec`] runs.
    ExecStarted {
        /// The supervisor's number.
        id: u32,
    },
    /// The process of [`ToInit::Exec`] has ended, or could not be executed.
    ExecEnded {
        /// The supervisor's number.
        id: u32,
        /// How.
        exit: Ended,
        /// Why, if it could not be executed.
        error: Option<Box<Report>>,
    },
    /// [`ToInit::StartApp`], [`ToInit::StopApp`] or [`ToInit::Signal`] makes no sense now.
    Refused {
        /// The app it was about, if any.
        app: Option<AppName>,
        /// Why.
        report: Box<Report>,
    },
    /// All is over; the last frame before PID 1 exits.
    PodEnded {
        /// The pod's exit status.
        code: u8,
    },
    /// PID 1 itself cannot go on; the last frame before it exits.
    Failed(Box<Report>),
}
