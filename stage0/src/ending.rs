//! Ending a living pod from outside: in order, or at once.
//!
//! Where a service manager looks after the pod, it is told, so that it does not start the pod again,
//! and waits. Otherwise the supervisor is asked, or sent a signal while it makes the pod, and waited
//! for; one that does not end in time is killed, and what it held is taken back here. Nothing here removes a pod that was not started with
//! `--rm`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc::SIGKILL;
use pod_abi::control::{Request, SignalTarget};
use pod_abi::phase::Phase;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::control::Connection;
use crate::error::{Context as _, Result};
use crate::pods::{Lock, Pod, Pods, Watch};
use crate::supervision::Supervision;
use crate::{leftovers, rundir};

/// How long the end of a pod may take beyond its apps' grace: for killing, reaping, records.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a supervisor that holds its pod's lock may have no socket: before it listens, and
/// after it has closed it, as when two commands end one pod.
const SILENCE: Duration = Duration::from_secs(2);

/// What ends pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ender<'e> {
    pub(crate) pods: &'e Pods,
    pub(crate) run_root: BorrowedFd<'e>,
    pub(crate) supervision: &'e dyn Supervision,
}

impl Ender<'_> {
    /// Ends a pod in order, each app with `seconds` of grace if given, else with its own. One that
    /// does not run has ended already.
    ///
    /// Whoever would start it again tells the supervisor. Another grace than the apps' own only we
    /// can tell, and before: apps that are being stopped already keep the earlier end.
    ///
    /// # Errors
    ///
    /// `pod.unreachable`, or what kept its leftovers from being taken back.
    pub(crate) fn in_order(&self, pod: &Pod, seconds: Option<u64>) -> Result<()> {
        let grace_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
        let shutdown = Request::Shutdown { grace_ms };
        let mut told = None;
        if grace_ms.is_some()
            && let Ok(Some((mut connection, supervisor))) = self.reach(pod)
        {
            or_ended(connection.request(&shutdown, &[]), &supervisor)?;
            told = Some(supervisor);
        }
        if let Some(stopping) = self.supervision.stop(pod)? {
            return stopping.await_end();
        }
        let supervisor = match told {
            Some(supervisor) => supervisor,
            None => {
                let Some((mut connection, supervisor)) = self.reach(pod)? else { return Ok(()) };
                if is_being_made(pod)? {
                    let _ = pidfd_send_signal(&supervisor, Signal::TERM); // it may have ended
                } else {
                    or_ended(connection.request(&shutdown, &[]), &supervisor)?;
                }
                supervisor
            }
        };
        // No answer is waited for: it may end before it answers, or be too stuck to do either.
        let patience = patience(pod, seconds).saturating_add(MARGIN);
        self.await_end(pod, &supervisor, patience)
    }

    /// Kills everything in a pod. One that does not run is dead already.
    ///
    /// # Errors
    ///
    /// As [`Ender::in_order`].
    pub(crate) fn at_once(&self, pod: &Pod) -> Result<()> {
        // The end comes first: told by its unit, an app may be faster than the signal.
        let killed = match self.reach(pod) {
            Ok(Some((mut connection, supervisor))) => {
                let asked = or_ended(connection.request(&kill_all(), &[]), &supervisor);
                if is_being_made(pod)? {
                    let _ = pidfd_send_signal(&supervisor, Signal::TERM); // it may have ended
                }
                asked.map(|()| Some(supervisor))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(stopping) = self.supervision.stop(pod)? {
            if killed.is_err() {
                stopping.kill()?;
            }
            return stopping.await_end();
        }
        match killed? {
            Some(supervisor) => self.await_end(pod, &supervisor, MARGIN),
            None => Ok(()),
        }
    }

    /// Connects to a supervisor that is to end, and opens it; one that is just starting or ending
    /// is waited for.
    fn reach(&self, pod: &Pod) -> Result<Option<(Connection, OwnedFd)>> {
        let reach_now = || {
            let Some(connection) = connect(self.run_root, pod)? else { return Ok(None) };
            let supervisor = connection.supervisor()?;
            Ok(Some((connection, supervisor)))
        };
        let error = match reach_now() {
            Err(error) => error,
            reached => return reached,
        };
        let (watch, released) = (Watch::new()?, pod.released()?);
        watch.entries(self.run_root)?;
        let deadline = Instant::now() + SILENCE;
        loop {
            watch.settle();
            if let Some(run) = rundir::open(self.run_root, &pod.id) {
                watch.entries(run.as_fd())?;
            }
            match reach_now() {
                Err(_) => {}
                reached => return reached,
            }
            if !await_either(&watch, &released, deadline)? {
                return Err(error);
            }
        }
    }

    /// Waits for the end of a supervisor: for `patience`; then it is killed, and the pod with it.
    fn await_end(&self, pod: &Pod, supervisor: &OwnedFd, patience: Duration) -> Result<()> {
        if ends_within(supervisor, patience)? {
            return Ok(());
        }
        let _ = pidfd_send_signal(supervisor, Signal::KILL); // it has ended, if this fails
        ends_within(supervisor, MARGIN)?;
        match self.pods.open_id(&pod.id)? {
            Some(mut pod) if pod.lock() == Lock::Ours => {
                leftovers::take_back(&pod, self.run_root)?;
                leftovers::remove_if_asked(self.pods, &mut pod)
            }
            _ => Ok(()),
        }
    }
}

/// Tells whether nothing has been heard yet of a pod's PID 1: then its supervisor may be making what
/// the pod is to be in, a virtual machine above all, and hears signals but no requests. No app has a
/// grace to be told. A signal that comes a moment late is a stop like any other.
fn is_being_made(pod: &Pod) -> Result<bool> {
    Ok(pod.status()?.is_some_and(|status| status.init.is_none()))
}

fn kill_all() -> Request {
    let signal = u8::try_from(SIGKILL).expect("signals fit into a byte");
    Request::Signal { target: SignalTarget::AllApps, signal }
}

/// Connects to the supervisor of a pod; `None` if the pod does not run.
///
/// # Errors
///
/// `pod.unreachable`.
pub(crate) fn connect(run_root: BorrowedFd<'_>, pod: &Pod) -> Result<Option<Connection>> {
    if pod.phase() != Phase::Running {
        return Ok(None);
    }
    match Connection::of_pod(run_root, &pod.id) {
        Ok(connection) => Ok(Some(connection)),
        // It may have ended between our look and now.
        Err(_) if pod.phase() != Phase::Running => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until one of two descriptors is readable; `false` if that takes too long.
fn await_either(first: &impl AsFd, second: &impl AsFd, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for a pod".to_owned()),
        }
    }
}

/// A request that could not be sent to a supervisor which has just ended was not needed.
fn or_ended(sent: Result<()>, supervisor: &OwnedFd) -> Result<()> {
    match sent {
        Err(_) if ends_within(supervisor, SILENCE)? => Ok(()),
        sent => sent,
    }
}

/// The apps stop one after the other, so all their graces count.
fn patience(pod: &Pod, seconds: Option<u64>) -> Duration {
    let apps = pod.manifest().and_then(|manifest| pod.apps(&manifest)).unwrap_or_default();
    let grace = |ms: u64| seconds.map_or(Duration::from_millis(ms), Duration::from_secs);
    let sum = apps
        .iter()
        .map(|app| grace(app.stop.grace_ms))
        .fold(Duration::ZERO, |sum, grace| sum.saturating_add(grace));
    sum.min(Duration::from_secs(1 << 30))
}

fn ends_within(pidfd: &OwnedFd, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(ended) => return Ok(ended > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(error).context(|| "cannot wait for the supervisor".to_owned());
            }
        }
    }
}
