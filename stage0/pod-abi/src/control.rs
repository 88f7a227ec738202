//! The control protocol: what `pod` and a pod's supervisor say to each other.
//!
//! The supervisor listens on `RUN-ROOT/UUID/control.sock`, mode 0600, a stream of
//! [frames](crate::frame). A client sends [`Hello`] and then one [`Request`] at a time, and reads
//! [`Reply`]s until the one that ends the request. [`Request::Exec`] carries three descriptors
//! beside its first byte: standard input, output and error; so do [`Request::Attach`] and
//! [`Request::Copy`]. [`Request::AddApp`] carries one: the directory all layers lie beneath. A connection that breaks the rules, or
//! stays silent in the middle of a frame for [`DEADLINE_MS`], is closed.

use serde::{Deserialize, Serialize};

use crate::app::Process;
use crate::exit::Ended;
use crate::isolators::Resources;
use crate::name::AppName;
use crate::path::PodPath;
use crate::processes::Listing;
use crate::report::Report;
use crate::stage::AppOrder;
use crate::stats::PodStats;
use crate::status::PodStatus;

/// How long either side waits for the rest of a frame, in milliseconds. Both are local; a second
/// is already a fault, five leave room for a loaded machine.
pub const DEADLINE_MS: u64 = 5_000;

/// The first frame of a connection, from the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`crate::version::CONTROL`] of the client; the supervisor refuses any other than its own.
    pub version: u32,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Tells the state; ends with [`Reply::Status`].
    Ps,
    /// Starts an app that does not run; ends with [`Reply::Done`] when it has been executed.
    Start {
        /// Which.
        app: AppName,
    },
    /// Stops an app in order and leaves it stopped; ends with [`Reply::Done`] when it has ended.
    Stop {
        /// Which.
        app: AppName,
        /// Milliseconds until SIGKILL, if other than the app's own grace.
        grace_ms: Option<u64>,
    },
    /// Runs a process in an app, with three descriptors: [`Reply::ExecStarted`], then, when it
    /// has ended, [`Reply::ExecEnded`]. If the client goes away first, the process is killed.
    ///
    /// With a terminal, the process gets a new one of the app's, and the supervisor copies between
    /// it and the first two descriptors.
    Exec {
        /// In which app; it must be running.
        app: AppName,
        /// What.
        process: Box<Process>,
        /// The size of its terminal, if it is to have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<WindowSize>,
    },
    /// Connects three descriptors to an app, or to the output of all: [`Reply::Attached`], then,
    /// when the app has ended for good, [`Reply::AppEnded`]. Restarts keep a client attached.
    /// Whatever is not read holds the app up, as a pipe does. The client may go away at any time.
    Attach {
        /// To which app; with `None` to the output of all, line by line under their names if there
        /// are several.
        app: Option<AppName>,
        /// Whether the first descriptor feeds the app's input.
        input: bool,
        /// Whether the app's input ends when the first descriptor has and [`Request::EndInput`]
        /// says that this is meant.
        ends_input: bool,
        /// The size of the client's terminal, if the app has one too.
        size: Option<WindowSize>,
    },
    /// Tells that the first descriptor of [`Request::Attach`] ends because the input has: that of
    /// a client that was killed ends as well, and harms no app. Ends with [`Reply::Done`].
    EndInput,
    /// Changes the size of the terminal this connection has attached to or started a process with;
    /// ends with [`Reply::Done`].
    Resize {
        /// The new size.
        size: WindowSize,
    },
    /// Copies files of a running app, as a tar archive, to the second descriptor or from the
    /// first: [`Reply::ExecStarted`], then [`Reply::ExecEnded`].
    Copy {
        /// Of which app.
        app: AppName,
        /// Which way.
        direction: Direction,
        /// What, or where to.
        path: PodPath,
    },
    /// Makes an app known, without starting it; ends with [`Reply::Done`]. The supervisor writes
    /// its records.
    AddApp {
        /// The app and its layers.
        app: Box<AppOrder>,
    },
    /// Forgets an app that does not run, with its records and its writable layer; ends with
    /// [`Reply::Done`].
    RemoveApp {
        /// Which.
        app: AppName,
    },
    /// Sends a signal; ends with [`Reply::Done`].
    Signal {
        /// To whom.
        target: SignalTarget,
        /// The number, 1…64.
        signal: u8,
    },
    /// Changes limits while it runs, and for all its starts to come; what is not named stays. Ends
    /// with [`Reply::Done`], or refused with nothing changed. The limits of a pod that has a unit
    /// of ours are the unit's: its client has changed them there, and the supervisor writes them
    /// down. Since version 3, like the next three.
    Update {
        /// Whose; without one, the pod's.
        app: Option<AppName>,
        /// What.
        resources: Box<Resources>,
    },
    /// Tells what the pod uses; ends with [`Reply::Stats`].
    Stats,
    /// Lists the processes of the pod; ends with [`Reply::Processes`]. Since version 4.
    Processes {
        /// Only those of this app.
        app: Option<AppName>,
    },
    /// Freezes every process of the pod; ends with [`Reply::Done`] once they stand still. A pod
    /// that is to end is thawed first.
    Pause,
    /// Thaws them; ends with [`Reply::Done`].
    Resume,
    /// Ends the pod in order; [`Reply::Done`] comes at once. The pod has ended when the process
    /// on the other end of the connection has.
    Shutdown {
        /// Milliseconds until SIGKILL, if other than each app's own grace.
        grace_ms: Option<u64>,
    },
}

/// Who gets a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignalTarget {
    /// The main process of one app.
    App(AppName),
    /// The main process of every running app. SIGKILL ends the pod, with status 137.
    AllApps,
    /// The process this connection has started by [`Request::Exec`].
    Exec,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Which way files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Out of the app: an archive of the path, whose entries begin with its last component. A link
    /// is packed as a link. Of `/`, the entries are what it holds.
    Out,
    /// The same, but of what a link at the end of the path leads to.
    OutFollowed,
    /// Into the app: an archive is unpacked beneath the path, a directory or a link to one.
    In,
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Reply {
    /// It is done.
    Done,
    /// It cannot be done.
    Refused(Box<Report>),
    /// The state asked for.
    Status(Box<PodStatus>),
    /// The process runs.
    ExecStarted,
    /// The process has ended.
    ExecEnded {
        /// How.
        exit: Ended,
    },
    /// The descriptors are connected. Since version 2, like all that follows.
    Attached,
    /// The app attached to has ended for good, and all it has said is written.
    AppEnded {
        /// How.
        exit: Ended,
    },
    /// What the pod uses. Since version 3.
    Stats(Box<PodStats>),
    /// The processes of the pod; none if they are the host's, where anybody can look. Since version
    /// 4.
    Processes(Option<Box<Listing>>),
}
