//! The control protocol: what `pod` and a pod's supervisor say to each other.
//!
//! The supervisor listens on `RUN-ROOT/UUID/control.sock`, mode 0600, a stream of
//! [frames](crate::frame). A client sends [`Hello`] and then one [`Request`] at a time, and reads
//! [`Reply`]s until the one that ends the request. [`Request::Exec`] carries three descriptors
//! beside its first byte: standard input, output and error. A connection that breaks the rules, or
//! stays silent in the middle of a frame for [`DEADLINE_MS`], is closed.

use serde::{Deserialize, Serialize};

use crate::app::Process;
use crate::exit::Ended;
use crate::name::AppName;
use crate::report::Report;
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
    Exec {
        /// In which app; it must be running.
        app: AppName,
        /// What.
        process: Box<Process>,
    },
    /// Sends a signal; ends with [`Reply::Done`].
    Signal {
        /// To whom.
        target: SignalTarget,
        /// The number, 1…64.
        signal: u8,
    },
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
    /// The main process of every running app.
    AllApps,
    /// The process this connection has started by [`Request::Exec`].
    Exec,
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
}
