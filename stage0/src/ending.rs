//! Ending a living pod from outside: in order, or at once.
//!
//! Both ask the supervisor and wait for its end; one that does neither in time is killed, and what
//! it held is taken back here. Nothing here removes a pod that was not started with `--rm`.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc::SIGKILL;
use pod_abi::control::{Request, SignalTarget};
use pod_abi::phase::Phase;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::control::Connection;
use crate::error::{Context as _, Result};
use crate::leftovers;
use crate::pods::{Lock, Pod, Pods};

/// How long the end of a pod may take beyond its apps' grace: for killing, reaping, records.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a supervisor that holds its pod's lock may have no socket: before it listens, and
/// after it has closed it, as when two commands end one pod.
const SILENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(10);

/// Ends a pod in order, each app with `seconds` of grace if given, else with its own. One that
/// does not run has ended already.
///
/// # Errors
///
/// `pod.unreachable`, or what kept its leftovers from being taken back.
pub(crate) fn in_order(
    pods: &Pods,
    run_root: BorrowedFd<'_>,
    pod: &Pod,
    seconds: Option<u64>,
) -> Result<()> {
    let Some((mut connection, supervisor)) = reach(run_root, pod)? else { return Ok(()) };
    let grace_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
    let sent = connection.request(&Request::Shutdown { grace_ms }, &[]);
    or_ended(sent, &supervisor)?;
    // No answer is waited for: it may end before it answers, or be too stuck to do either.
    let patience = patience(pod, seconds).saturating_add(MARGIN);
    await_end(pods, run_root, pod, &supervisor, patience)
}

/// Kills everything in a pod. One that does not run is dead already.
///
/// # Errors
///
/// As [`in_order`].
pub(crate) fn at_once(pods: &Pods, run_root: BorrowedFd<'_>, pod: &Pod) -> Result<()> {
    let Some((mut connection, supervisor)) = reach(run_root, pod)? else { return Ok(()) };
    let signal = u8::try_from(SIGKILL).expect("signals fit into a byte");
    let sent = connection.request(&Request::Signal { target: SignalTarget::AllApps, signal }, &[]);
    or_ended(sent, &supervisor)?;
    await_end(pods, run_root, pod, &supervisor, MARGIN)
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

/// Connects to a supervisor that is to end, and opens it; one that is just starting or ending is
/// waited for.
fn reach(run_root: BorrowedFd<'_>, pod: &Pod) -> Result<Option<(Connection, OwnedFd)>> {
    let reach_now = || {
        let Some(connection) = connect(run_root, pod)? else { return Ok(None) };
        let supervisor = connection.supervisor()?;
        Ok(Some((connection, supervisor)))
    };
    let deadline = Instant::now() + SILENCE;
    loop {
        match reach_now() {
            Err(_) if Instant::now() < deadline => sleep(PAUSE),
            reached => return reached,
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

/// Waits for the end of a supervisor: for `patience`; then it is killed, and the pod with it.
fn await_end(
    pods: &Pods,
    run_root: BorrowedFd<'_>,
    pod: &Pod,
    supervisor: &OwnedFd,
    patience: Duration,
) -> Result<()> {
    if ends_within(supervisor, patience)? {
        return Ok(());
    }
    let _ = pidfd_send_signal(supervisor, Signal::KILL); // it has ended, if this fails
    ends_within(supervisor, MARGIN)?;
    match pods.open_id(&pod.id)? {
        Some(mut pod) if pod.lock() == Lock::Ours => {
            leftovers::take_back(&pod, run_root)?;
            leftovers::remove_if_asked(pods, &mut pod)
        }
        _ => Ok(()),
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
