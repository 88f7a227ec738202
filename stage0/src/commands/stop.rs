//! `pod stop` and `pod rm`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use pod_abi::control::Request;
use pod_abi::phase::{Home, Phase};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::{Session, each};
use crate::cli::{PodsArgs, StopArgs};
use crate::control::Connection;
use crate::error::{CommandError, Context as _, Result};
use crate::leftovers;
use crate::pods::{Lock, Pod, Query};
use crate::{rundir, ui};

/// How long the end of a pod may take beyond its apps' grace: for killing, reaping, records.
const MARGIN: Duration = Duration::from_secs(10);

/// Stops pods in order; one that does not run is stopped already.
///
/// # Errors
///
/// The last pod's that could not be stopped.
pub(crate) fn stop(session: &Session, args: &StopArgs) -> Result<u8> {
    each(&session.context, &args.pods, |word| {
        let pod = session.pods.find(&Query(word))?;
        if pod.phase() == Phase::Running {
            stop_one(session, &pod, args.time)?;
        }
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}

/// Asks the supervisor to end its pod, and waits for that: for the time the apps are given, then
/// for a margin; then the supervisor is killed, and the pod with it.
fn stop_one(session: &Session, pod: &Pod, seconds: Option<u64>) -> Result<()> {
    let unreachable = || {
        CommandError::new("pod.unreachable", format!("pod `{}` cannot be reached", pod.id))
            .hint("was it started with another `--run-root`?")
    };
    let run = rundir::open(session.run_root(), &pod.id).ok_or_else(unreachable)?;
    let mut connection = match Connection::open(run.as_fd(), &pod.id) {
        Ok(connection) => connection,
        // It may have ended between our look and now.
        Err(_) if pod.phase() != Phase::Running => return Ok(()),
        Err(error) => return Err(error),
    };
    let supervisor = connection.supervisor()?;
    let grace_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
    connection.request(&Request::Shutdown { grace_ms }, &[])?;
    // No answer is waited for: it may end before it answers, or be too stuck to do either.
    let patience = patience(pod, seconds) + MARGIN;
    if ends_within(&supervisor, patience)? {
        return Ok(());
    }
    let _ = pidfd_send_signal(&supervisor, Signal::KILL); // it has ended, if this fails
    ends_within(&supervisor, MARGIN)?;
    if pod.lock() == Lock::Ours {
        leftovers::take_back(pod, session.run_root())?;
    }
    Ok(())
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
    let deadline = std::time::Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
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

/// Removes pods that do not run.
///
/// # Errors
///
/// The last pod's that could not be removed.
pub(crate) fn rm(session: &Session, args: &PodsArgs) -> Result<u8> {
    each(&session.context, &args.pods, |word| {
        let mut pod = session.pods.find(&Query(word))?;
        remove(session, &mut pod, word)?;
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}

fn remove(session: &Session, pod: &mut Pod, word: &str) -> Result<()> {
    if pod.lock() == Lock::Theirs {
        return Err(match pod.home {
            Home::Run => CommandError::new("pod.running", format!("pod `{word}` runs"))
                .hint(format!("`pod stop {word}` ends it")),
            _ => CommandError::new("pod.busy", format!("pod `{word}` is being worked on")),
        });
    }
    leftovers::take_back(pod, session.run_root())?;
    match pod.home {
        Home::Garbage | Home::ExitedGarbage => {}
        Home::Run => session.pods.rename(pod, Home::ExitedGarbage)?,
        _ => session.pods.rename(pod, Home::Garbage)?,
    }
    session.pods.sweep(pod)
}
