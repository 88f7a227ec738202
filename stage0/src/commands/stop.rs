//! `pod stop`, `pod restart` and `pod kill`: ending living pods, and telling their apps something.

use nix::libc::SIGKILL;
use pod_abi::control::{Request, SignalTarget};
use pod_abi::exit;
use pod_abi::phase::Phase;

use super::start::check_startable;
use super::subject::{chosen, connect, named};
use super::{Session, each};
use crate::cli::{KillArgs, RestartArgs, StopArgs};
use crate::error::{CommandError, Result};
use crate::launch::Background;
use crate::pods::{Pod, Query};
use crate::ui;

/// Stops pods in order; one that does not run is stopped already.
///
/// # Errors
///
/// The last pod's that could not be stopped.
pub(crate) fn stop(session: &Session, args: &StopArgs) -> Result<u8> {
    let words = chosen(session, &args.pods, |phase| phase == Phase::Running)?;
    each(&session.context, &words, |word| {
        let pod = session.pods.find(&Query(word))?;
        session.ender().in_order(&pod, args.time)?;
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}

/// Stops pods in order and starts them again, in the background. One that does not run is started.
///
/// # Errors
///
/// The last pod's that could not be stopped or did not become ready.
pub(crate) fn restart(session: &Session, args: &RestartArgs) -> Result<u8> {
    let store = session.store()?;
    let mut status = 0;
    each(&session.context, &args.pods, |word| {
        let pod = session.pods.find(&Query(word))?;
        if session.supervision().restart(&pod)? {
            return ui::out(&format!("{word}\n"));
        }
        if pod.phase() == Phase::Running {
            check_outlives_stop(&pod, word)?;
            session.ender().in_order(&pod, args.time)?;
        }
        session.sweep_leftovers();
        // Found anew: the descriptor of before may hold the pod's lock.
        let pod = session.pods.find(&Query(pod.id.as_str()))?;
        check_startable(&pod, pod.phase())?;
        match session.launcher(&store).in_background(&pod, None)? {
            Background::Ready => ui::out(&format!("{word}\n")),
            Background::Failed(_) => {
                status = exit::REFUSED;
                Ok(())
            }
        }
    })?;
    Ok(status)
}

/// A pod that goes with its end has nothing left to be started.
fn check_outlives_stop(pod: &Pod, word: &str) -> Result<()> {
    if pod.manifest()?.remove {
        return Err(CommandError::new(
            "pod.removed-at-end",
            format!("pod `{word}` was started with `--rm`: stopped, it is gone"),
        )
        .hint(format!("`pod cat-manifest {word}` prints what `pod run --spec` runs again")));
    }
    Ok(())
}

/// Sends a signal to the apps of pods that run. SIGKILL to all apps of a pod ends the pod at once,
/// with status 137, whatever its apps' restart policies.
///
/// # Errors
///
/// The last pod's that does not run or could not be reached.
pub(crate) fn kill(session: &Session, args: &KillArgs) -> Result<u8> {
    let words = chosen(session, &args.pods, |phase| phase == Phase::Running)?;
    each(&session.context, &words, |word| {
        let pod = session.pods.find(&Query(word))?;
        let mut connection = connect(session, &pod, word)?;
        let target = match &args.app {
            None if i32::from(args.signal) == SIGKILL => {
                session.ender().at_once(&pod)?;
                return ui::out(&format!("{word}\n"));
            }
            None => SignalTarget::AllApps,
            Some(name) => {
                let known = pod.manifest()?.sandbox.apps;
                SignalTarget::App(named(&pod, name, &known)?.clone())
            }
        };
        connection.ask(&Request::Signal { target, signal: args.signal })?;
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}
