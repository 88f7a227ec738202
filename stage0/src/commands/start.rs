//! `pod start`: runs a prepared pod, or one that has ended once more.

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
use crate::pods::{Pod, Query};
use crate::{leftovers, volumes};

/// Starts a pod. In the foreground, and as a supervisor, this process becomes the supervisor and
/// does not return.
///
/// # Errors
///
/// Whatever kept the pod from running.
pub(crate) fn start(context: Context, args: &StartArgs) -> Result<u8> {
    if args.supervised {
        leave_session();
    }
    // Descriptors are adopted before anything else opens one.
    let handed = args.locked.map(pod_sys::inherited).transpose();
    let handed = handed.context(|| "cannot adopt the lock of a pod".to_owned())?;
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
            if args.detach {
                check_startable(&pod, pod.phase())?;
                let background = session.launcher(&store).in_background(&pod, None)?;
                return super::announced(&session.context, &pod, background);
            }
            if args.interactive {
                check_startable(&pod, pod.phase())?;
                let audience = audience(&pod, args)?;
                return session.launcher(&store).attended(&pod, None, &audience);
            }
            lock_to_start(&pod)?;
            check_startable(&pod, Phase::of(pod.home, false))?;
            session.pods.check_in_place(&pod)?;
            leftovers::take_back(&pod, session.run_root())?;
            pod
        }
    };
    let manifest = pod.manifest()?;
    let apps = pod.apps(&manifest)?;
    let attempt = pod.status()?.map_or(0, |status| status.attempt).saturating_add(1);
    for volumes in apps.iter().map(|app| &app.volumes).chain([&manifest.sandbox.volumes]) {
        volumes::check(volumes, &session.context.root)?;
    }
    let output = if args.supervised { Output::Logged } else { Output::Shown };
    let launch = Launch { manifest, apps, attempt, output, hold: args.hold };
    let never = session.launcher(&store).in_place(launch, || into_run(&session, pod))?;
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
