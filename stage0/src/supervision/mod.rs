//! Who looks after supervisors on this host: systemd, each in a unit of its own ([`Units`]), or
//! nobody, each in a session of its own ([`Sessions`]). Commands do not know which.
//!
//! | | with systemd | without |
//! |---|---|---|
//! | a supervisor is | the main process of a transient service `pod-NAME.service` | a process in a session of its own |
//! | it is ready when | the job that starts the unit is done | it says so on a socket of ours |
//! | it is stopped by | a job that stops the unit | a request over its control socket |
//! | the pod lies, until it runs, in | `prepared/` | `prepare/`, its lock handed on |

mod farewell;
mod obstacle;
mod place;
mod session;
mod surroundings;
mod unit;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use pod_abi::PodName;

use crate::context::Context;
use crate::error::Result;
use crate::notify::Heard;
use crate::pods::{Draft, Pod, Pods};
use crate::service_manager::ServiceManager;

pub(crate) use place::{Facts, Place, Wish, place};
pub(crate) use surroundings::{service, shows_in_journal};

/// Returns what looks after supervisors. systemd is connected to only once it is needed.
pub(crate) fn by(manager: ServiceManager) -> Box<dyn Supervision> {
    if manager.is_systemd() {
        Box::new(unit::Units::default())
    } else {
        Box::new(session::Sessions)
    }
}

/// What starts supervisors, and stops them again.
pub(crate) trait Supervision: fmt::Debug {
    /// Has a supervisor started for a pod.
    ///
    /// # Errors
    ///
    /// If it cannot be started; nothing is left of a pod that was just being laid out.
    fn start<'s>(&'s self, start: Start<'s>) -> Result<Box<dyn Started + 's>>;

    /// Refuses a name for a new pod that somebody else has on this host, before anything is made.
    ///
    /// # Errors
    ///
    /// `systemd.unit-exists`.
    fn check_name(&self, pods: &Pods, name: &PodName) -> Result<()>;

    /// Has the end of a pod begun by whoever would otherwise start it again; `None` if there is
    /// nobody but its supervisor to tell.
    ///
    /// # Errors
    ///
    /// If there is somebody and cannot be told.
    fn stop(&self, pod: &Pod) -> Result<Option<Box<dyn Stopping + '_>>>;

    /// Has the unit of a pod started anew if it is not one of ours, and what it then runs is for it to
    /// say; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If that fails.
    fn restart(&self, pod: &Pod) -> Result<bool>;

    /// Tells who this is, for `pod info`.
    fn describe(&self) -> String;

    /// Forgets what is known of a pod that has ended and is to be removed.
    ///
    /// # Errors
    ///
    /// `pod.running` if it is about to be started again, or its unit does not end; as
    /// [`Supervision::stop`].
    fn forget(&self, pod: &Pod) -> Result<()>;
}

/// A pod that is to get a supervisor.
#[derive(Debug)]
pub(crate) struct Start<'s> {
    /// The surroundings.
    pub(crate) context: &'s Context,
    /// The pods.
    pub(crate) pods: &'s Pods,
    /// The run root.
    pub(crate) run_root: BorrowedFd<'s>,
    /// The pod, by a descriptor that holds no lock.
    pub(crate) pod: &'s Pod,
    /// The pod being laid out; without, its lock must be free.
    pub(crate) draft: Option<Draft<'s>>,
    /// When its apps begin.
    pub(crate) begin: Begin,
}

/// When the apps of a pod begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At once.
    AtOnce,
    /// When a client has attached.
    WithClient,
}

/// A supervisor that was started. What it leaves for us alone is taken away when this is dropped.
pub(crate) trait Started: fmt::Debug {
    /// Waits until all apps are ready, the supervisor has ended, or the user has had enough.
    ///
    /// # Errors
    ///
    /// `storage`.
    fn await_ready(&mut self) -> Result<Heard>;

    /// Waits until a client can attach; otherwise as [`Started::await_ready`].
    ///
    /// # Errors
    ///
    /// `storage`.
    fn await_held(&mut self) -> Result<Heard>;

    /// Returns what becomes readable once the supervisor has ended. To be asked for while it lives.
    ///
    /// # Errors
    ///
    /// `storage`.
    fn ending(&self) -> Result<OwnedFd>;

    /// Waits for its end, and returns the exit status; `None` if it was killed.
    ///
    /// # Errors
    ///
    /// `storage`.
    fn end(&mut self) -> Result<Option<u8>>;

    /// Shows what went wrong where the pod's records do not tell; `false` if that is nothing.
    fn show_errors(&mut self) -> bool;

    /// Ends a pod whose client has gone before it could attach.
    ///
    /// # Errors
    ///
    /// `storage`.
    fn abandon(&mut self) -> Result<()>;
}

/// The end of a pod that was begun by its service manager.
pub(crate) trait Stopping: fmt::Debug {
    /// Kills everything of it at once.
    ///
    /// # Errors
    ///
    /// As [`Supervision::stop`].
    fn kill(&self) -> Result<()>;

    /// Waits until nothing of it is left.
    ///
    /// # Errors
    ///
    /// `storage`, or what became of the wish.
    fn await_end(self: Box<Self>) -> Result<()>;
}
