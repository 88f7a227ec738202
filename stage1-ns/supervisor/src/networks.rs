//! Joining the networks of a pod whose namespace has just been made.
//!
//! Which networks there are and how they are joined is stage0's: `pod` is executed, and
//! waited for as long as nobody wants the pod to end. What it has made is undone by `pod reap`, also
//! if it was killed in the middle: it writes down beforehand what is to be undone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, Stdio};

use pod_abi::network::{Answer, Joined};
use pod_abi::stage::{self, Order};

use crate::errand::{Errand, attend, interrupted};
use crate::error::{During, Failure};
use crate::handover::Inherited;
use crate::signals;

/// Joins networks, for a wall that has made a network namespace.
pub trait Networks {
    /// Joins all networks of the pod in `namespace`, whose interfaces are there when this returns.
    ///
    /// # Errors
    ///
    /// Which could not be joined, and why; nothing is joined then.
    fn join(&self, namespace: BorrowedFd<'_>) -> Result<Joined, Failure>;
}

/// The networks of a pod on the host.
#[derive(Debug)]
pub(crate) struct OfHost<'a> {
    pub(crate) order: &'a Order,
    pub(crate) inherited: &'a Inherited,
}

impl Networks for OfHost<'_> {
    fn join(&self, namespace: BorrowedFd<'_>) -> Result<Joined, Failure> {
        let signals = signals::ending(self.order.service.is_none())
            .during(|| "cannot see signals, signalfd4()")?;
        let Inherited { pod, program, .. } = self.inherited;
        // A descriptor of ours, as another process names it.
        let ours = |fd: BorrowedFd<'_>| format!("/proc/{}/fd/{}", process::id(), fd.as_raw_fd());
        let arguments =
            stage::attach_argv(&self.order.pod.uuid, &ours(pod.as_fd()), &ours(namespace));
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0("pod").args(arguments).stdin(Stdio::null());
        let doing = || "cannot join the pod's networks";
        let said = match attend(command, Some(signals.as_fd()), None).during(doing)? {
            Errand::Done(said) => said,
            Errand::Interrupted | Errand::Late => return Err(interrupted()),
        };
        match serde_json::from_slice(&said).map_err(|error| Failure::of(doing(), error))? {
            Answer::Joined(joined) => Ok(joined),
            Answer::Refused(report) => Err(Failure::from(report)),
        }
    }
}
