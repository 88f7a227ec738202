//! `pod rm`: removes pods that do not run, or makes them such first.

use pod_abi::phase::{Home, Phase};

use super::subject::chosen;
use super::{Session, each};
use crate::cli::RmArgs;
use crate::error::{CommandError, Result};
use crate::pods::{Lock, Pod, Query};
use crate::{leftovers, ui};

/// Removes pods. With force those that run are killed, and one that is gone is no error.
///
/// # Errors
///
/// The last pod's that could not be removed.
pub(crate) fn rm(session: &Session, args: &RmArgs) -> Result<u8> {
    let removable = |phase| match phase {
        Phase::Prepared | Phase::Exited => true,
        Phase::Running => args.force,
        _ => false,
    };
    let words = chosen(session, &args.pods, removable)?;
    each(&session.context, &words, |word| {
        let removed =
            if args.force { remove_by_force(session, word) } else { remove(session, word) };
        match removed {
            Err(error) if args.force && error.code() == "pod.not-found" => Ok(()),
            Err(error) => Err(error),
            Ok(()) => ui::out(&format!("{word}\n")),
        }
    })?;
    Ok(0)
}

fn remove_by_force(session: &Session, word: &str) -> Result<()> {
    let pod = session.pods.find(&Query(word))?;
    session.ender().at_once(&pod)?;
    // One that was started with `--rm` is gone by now.
    match session.pods.open_id(&pod.id)? {
        Some(mut pod) => take_away(session, &mut pod, word).or_else(vanished),
        None => Ok(()),
    }
}

fn vanished(error: CommandError) -> Result<()> {
    if error.code() == "pod.vanished" { Ok(()) } else { Err(error) }
}

fn remove(session: &Session, word: &str) -> Result<()> {
    let mut pod = session.pods.find(&Query(word))?;
    take_away(session, &mut pod, word)
}

/// Removes a pod that does not run.
///
/// # Errors
///
/// `pod.running`, `pod.busy`, or `storage`.
pub(super) fn take_away(session: &Session, pod: &mut Pod, word: &str) -> Result<()> {
    if pod.lock() == Lock::Theirs {
        return Err(match pod.home {
            Home::Run => CommandError::new("pod.running", format!("pod `{word}` runs")).hint(
                format!("`pod stop {word}` ends it; `pod rm -f {word}` kills and removes it"),
            ),
            _ => CommandError::new("pod.busy", format!("pod `{word}` is being worked on")),
        });
    }
    session.supervision().forget(pod)?;
    leftovers::take_back(pod, session.run_root())?;
    match pod.home {
        Home::Garbage | Home::ExitedGarbage => {}
        Home::Run => session.pods.rename(pod, Home::ExitedGarbage)?,
        _ => session.pods.rename(pod, Home::Garbage)?,
    }
    session.pods.sweep(pod)
}
