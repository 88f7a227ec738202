//! `pod pause` and `pod unpause`: making pods stand still, and letting them go on.
//!
//! Every process of the pod stands still, PID 1 included; the supervisor does not, so the pod can
//! be looked at, stopped and removed all the same.

use pod_abi::control::Request;
use pod_abi::phase::Phase;

use super::subject::{connect, running};
use super::{Session, each};
use crate::cli::Pods;
use crate::error::Result;
use crate::pods::Query;
use crate::ui;

/// Makes every process of pods stand still; returns once they do. One that is paused is left so.
///
/// # Errors
///
/// The last pod's that does not run or cannot be paused.
pub(crate) fn pause(session: &Session, pods: &Pods) -> Result<u8> {
    ask(session, pods, &Request::Pause)
}

/// Lets pods go on. One that is not paused is left alone.
///
/// # Errors
///
/// The last pod's that does not run or could not be reached.
pub(crate) fn unpause(session: &Session, pods: &Pods) -> Result<u8> {
    ask(session, pods, &Request::Resume)
}

fn ask(session: &Session, pods: &Pods, request: &Request) -> Result<u8> {
    let words = chosen(session, pods, request)?;
    each(&session.context, &words, |word| {
        let pod = running(session, word)?;
        connect(session, &pod, word)?.ask(request)?;
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}

/// With `--all` only those are named for which there is something to do.
fn chosen(session: &Session, pods: &Pods, request: &Request) -> Result<Vec<String>> {
    let mut words = super::subject::chosen(session, pods, |phase| phase == Phase::Running)?;
    if pods.all {
        let paused = |word: &String| {
            let status = session.pods.find(&Query(word)).and_then(|pod| pod.status());
            status.ok().flatten().is_some_and(|status| status.paused)
        };
        words.retain(|word| paused(word) == (*request == Request::Resume));
    }
    Ok(words)
}
