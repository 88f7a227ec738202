//! `pod start`: runs a prepared pod, or one that has ended once more.

use std::os::fd::OwnedFd;

use images::Store;
use pod_abi::PodId;
use pod_abi::phase::{Home, Phase};
use pod_abi::stage::Output;

use super::Session;
use super::subject::state;
use crate::cli::StartArgs;
use crate::client::Audience;
use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::launch::{Launch, leave_session, lock_to_start};
use crate::pods::{Pod, Pods, Query};
use crate::supervision::{Place, Wish};
use crate::{leftovers, supervision, volumes};

/// Starts a pod. As a supervisor, or in its place, this process does not return.
///
/// # Errors
///
/// Whatever kept the pod from running.
pub(crate) fn start(context: Context, args: &StartArgs) -> Result<u8> {
    if args.supervised {
        return supervised(context, args);
    }
    let session = Session::open(context, "start")?;
    let store = session.store()?;
    session.sweep_leftovers();
    let pod = session.pods.find(&Query(&args.pod))?;
    let wish = Wish { detached: args.detach, talks: args.interactive, in_place: args.in_place };
    let place = session.place(wish)?;
    if place == Place::Apart {
        check_startable(&pod, pod.phase())?;
    }
    let manner = match (args.detach, args.interactive) {
        (true, _) => Manner::Background,
        (false, true) => Manner::Foreground(Some(audience(&pod, args)?)),
        (false, false) => Manner::Foreground(None),
    };
    again(&session, &store, pod, place, manner)
}

/// How a pod that is there is started.
#[derive(Debug)]
pub(super) enum Manner {
    /// It is waited for until it is ready.
    Background,
    /// It is watched, or talked to, until it ends.
    Foreground(Option<Audience>),
}

/// Starts a pod that is there. As a supervisor this process does not return.
///
/// # Errors
///
/// Whatever kept the pod from running.
pub(super) fn again(
    session: &Session,
    store: &Store,
    pod: Pod,
    place: Place,
    manner: Manner,
) -> Result<u8> {
    if place == Place::Here {
        take(session, &pod)?;
        return begin(session, store, pod, Output::Shown, |_| false);
    }
    check_startable(&pod, pod.phase())?;
    let launcher = session.launcher(store);
    match manner {
        Manner::Background => {
            let background = launcher.in_background(&pod, None)?;
            super::announced(&session.context, &pod, background)
        }
        Manner::Foreground(audience) => {
            launcher.attended(&pod, None, &audience.unwrap_or_else(Audience::of_all))
        }
    }
}

/// Becomes the supervisor of a pod that somebody else has started. What goes wrong before is
/// recorded in the pod, for that one to read.
fn supervised(context: Context, args: &StartArgs) -> Result<u8> {
    leave_session();
    // Descriptors are adopted before anything else opens one.
    let handed = args.locked.map(pod_sys::inherited).transpose();
    let handed = handed.context(|| "cannot adopt the lock of a pod".to_owned())?;
    let surroundings = context.clone();
    become_supervisor(context, args, handed).inspect_err(|error| {
        // Of a pod that runs, its own supervisor tells.
        if error.code() != "pod.running"
            && let Ok(pod) = found_anew(&surroundings, &args.pod)
        {
            pod.record_start_error(error.report());
        }
    })
}

/// Finds a pod through nothing that was opened before: descriptors may have been replaced.
fn found_anew(context: &Context, word: &str) -> Result<Pod> {
    Pods::open(context.open_root()?)?.find(&Query(word))
}

fn become_supervisor(context: Context, args: &StartArgs, handed: Option<OwnedFd>) -> Result<u8> {
    let session = Session::open(context, "start")?;
    let store = session.store()?;
    let pod = match handed {
        Some(dir) => {
            let id =
                PodId::parse(&args.pod).map_err(|error| CommandError::usage(error.to_string()))?;
            Pod::adopt(id, Home::Prepare, dir)
        }
        None => {
            session.sweep_leftovers();
            let pod = session.pods.find(&Query(&args.pod))?;
            take(&session, &pod)?;
            pod
        }
    };
    let note = pod.awaited();
    let is_held =
        |attempt| args.hold || note.is_some_and(|note| note.hold && note.attempt == attempt);
    begin(&session, &store, pod, Output::Logged, is_held)
}

/// Takes hold of a pod that is to be started, and takes back what an earlier run has left.
fn take(session: &Session, pod: &Pod) -> Result<()> {
    lock_to_start(pod)?;
    check_startable(pod, Phase::of(pod.home, false))?;
    session.pods.check_in_place(pod)?;
    pod.forget_start_error();
    leftovers::take_back(pod, session.run_root())
}

/// Becomes the supervisor of a pod whose lock is ours.
fn begin(
    session: &Session,
    store: &Store,
    pod: Pod,
    output: Output,
    is_held: impl Fn(u32) -> bool,
) -> Result<u8> {
    let manifest = pod.manifest()?;
    let apps = pod.apps(&manifest)?;
    let attempt = pod.status()?.map_or(0, |status| status.attempt).saturating_add(1);
    for volumes in apps.iter().map(|app| &app.volumes).chain([&manifest.sandbox.volumes]) {
        volumes::check(volumes, &session.context.root)?;
    }
    let (hold, service) = (is_held(attempt), supervision::service());
    let launch = Launch { manifest, apps, attempt, output, hold, service };
    let never = session.launcher(store).in_place(launch, || into_run(session, pod))?;
    match never {}
}

/// Finds the app that is to be fed.
fn audience(pod: &Pod, args: &StartArgs) -> Result<Audience> {
    let apps = pod.apps(&pod.manifest()?)?;
    Audience::of(&apps, |_, _| true, args.detach_keys.as_deref())?.ok_or_else(|| {
        CommandError::usage(format!("no app of pod `{}` takes input", args.pod))
            .hint("`pod run -i` and `pod prepare -i` make apps that do")
    })
}

fn into_run(session: &Session, mut pod: Pod) -> Result<Pod> {
    if pod.home != Home::Run {
        session.pods.rename(&mut pod, Home::Run)?;
    }
    Ok(pod)
}

/// Refuses a pod that is not at rest.
///
/// # Errors
///
/// `pod.running`, or `pod.not-startable`.
pub(super) fn check_startable(pod: &Pod, phase: Phase) -> Result<()> {
    match phase {
        Phase::Prepared | Phase::Exited => Ok(()),
        Phase::Running => lock_to_start(pod),
        phase => Err(CommandError::new(
            "pod.not-startable",
            format!("pod `{}` cannot be started: {}", pod.id, state(phase)),
        )),
    }
}
