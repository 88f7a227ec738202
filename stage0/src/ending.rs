//! Ending a living pod from outside: in order, or at once.
//!
//! Both ask the supervisor and wait for its end; one that does neither in time is killed, and what
//! it held is taken back here. Nothing here removes a pod that was not started with `--rm`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc::SIGKILL;
use pod_abi::control::{Request, SignalTarget};
use pod_abi::phase::Phase;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::control::Connection;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::{Lock, Pod, Pods};
use crate::{leftovers, rundir};

/// How long the end of a pod may take beyond its apps' grace: for killing, reaping, records.
const MARGIN: Duration = Duration::from_secs(10);

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
    connection.request(&Request::Shutdown { grace_ms }, &[])?;
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
    connection.request(&Request::Signal { target: SignalTarget::AllApps, signal }, &[])?;
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
    let opened = match rundir::open(run_root, &pod.id) {
        Some(run) => Connection::open(run.as_fd(), &pod.id),
        None => Err(CommandError::new(
            "pod.unreachable",
            format!("pod `{}` has no run directory", pod.called()),
        )
        .hint("was it started with another `--run-root`?")),
    };
    match opened {
        Ok(connection) => Ok(Some(connection)),
        // It may have ended between our look and now.
        Err(_) if pod.phase() != Phase::Running => Ok(None),
        Err(error) => Err(error),
    }
}

fn reach(run_root: BorrowedFd<'_>, pod: &Pod) -> Result<Option<(Connection, OwnedFd)>> {
    let Some(connection) = connect(run_root, pod)? else { return Ok(None) };
    let supervisor = connection.supervisor()?;
    Ok(Some((connection, supervisor)))
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
