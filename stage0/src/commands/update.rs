//! `pod update`: other limits, for a pod that runs and for its starts to come.
//!
//! All of a line is done or nothing: a limit that the kernel or the service manager refuses leaves
//! the pod as it was. A running pod is changed by its supervisor, which writes down what it has
//! done; one that does not run is only written about.

use pod_abi::AppName;
use pod_abi::app::AppSpec;
use pod_abi::control::{Reply, Request};
use pod_abi::isolators::Resources;
use pod_abi::phase::Phase;

use super::Session;
use super::subject::{connect, named, state};
use crate::caller::Caller;
use crate::cli::UpdateArgs;
use crate::control::Connection;
use crate::error::{CommandError, Result};
use crate::pods::{Lock, Pod, Query};
use crate::request::{ResourceRequest, read_resources};
use crate::stage1;
use crate::systemd::{self, Lasting, service};
use crate::ui;

/// Changes limits.
///
/// # Errors
///
/// Usage if none is named or two contradict each other; `limit.…` for what cannot be had. Nothing
/// has changed then.
pub(crate) fn update(session: &Session, args: &UpdateArgs) -> Result<u8> {
    let request = read_resources(&args.resources.0, &Caller::of_this_process())?;
    if request.is_empty() {
        return Err(CommandError::usage("no limit is named")
            .hint("`pod update POD --memory 1g`; `pod update --help` lists all limits"));
    }
    let pod = session.pods.find(&Query(&args.pod))?;
    let _changes = pod.lock_changes()?;
    let app = match &args.app {
        None => None,
        Some(word) => Some(pod.app(named(&pod, word, &pod.manifest()?.sandbox.apps)?)?),
    };
    if pod.phase() == Phase::Running {
        of_running(session, &pod, args, app.as_ref(), &request)?;
    } else {
        of_resting(session, &pod, args, app, &request)?;
    }
    ui::out(&format!("{}\n", args.pod)).map(|()| 0)
}

/// Returns the limits in force of a pod or of its app.
fn in_force(pod: &Pod, app: Option<&AppSpec>) -> Result<Resources> {
    match app {
        Some(app) => Ok(app.resources.clone()),
        None => Ok(pod.manifest()?.sandbox.resources),
    }
}

fn of_running(
    session: &Session,
    pod: &Pod,
    args: &UpdateArgs,
    app: Option<&AppSpec>,
    request: &ResourceRequest,
) -> Result<()> {
    let before = in_force(pod, app)?;
    let changes = request.beside(&before)?.with_swap_said(&before);
    let unit = match app {
        Some(_) => None,
        None => unit_of_ours(pod)?,
    };
    let app: Option<AppName> = app.map(|app| app.name.clone());
    let overhead = stage1::find(&pod.manifest()?.sandbox.stage1)?.overhead;
    // What has memory of its own, in which the pod is limited, has it from its start to its end.
    let has_memory = overhead.memory > 0;
    let mut connection = connect(session, pod, &args.pod)?;
    let in_unit = |limits: &Resources| {
        let Some(unit) = &unit else { return Ok(()) };
        let mut limits = overhead.around(limits);
        if has_memory {
            limits = Resources { memory: None, memory_high: None, swap: None, ..limits };
        }
        let properties = service::limits(&limits);
        systemd::Manager::connect()?.set_properties(unit, Lasting::UntilReboot, &properties)
    };
    if unit.is_some() && !has_memory {
        make_room(&mut connection, &before, &changes, in_unit)?;
    }
    in_unit(&changes)?;
    let request = Request::Update { app, resources: Box::new(changes.clone()) };
    match connection.ask(&request) {
        Ok(_) => Ok(()),
        Err(error) => match in_unit(&before.undoing(&changes)) {
            Ok(()) => Err(error),
            Err(undoing) => Err(error.because(&undoing)),
        },
    }
}

/// Refuses less memory than a pod uses: the service manager would simply say so to the kernel, which
/// would kill for it, the supervisor first. What can be taken back is taken back before.
fn make_room(
    connection: &mut Connection,
    before: &Resources,
    changes: &Resources,
    in_unit: impl Fn(&Resources) -> Result<()>,
) -> Result<()> {
    let Some(most) = changes.memory else { return Ok(()) };
    let mut used = || match connection.ask(&Request::Stats)? {
        Reply::Stats(stats) => Ok(stats.pod.memory.unwrap_or(0)),
        _ => Ok(0),
    };
    if used()? <= most {
        return Ok(());
    }
    let high = Resources { memory_high: Some(most), ..Resources::default() };
    in_unit(&high)?;
    // The kernel takes back while this is written. It is not left so while anybody is asked: who
    // has more than he may is slowed down, and the supervisor would be.
    in_unit(&before.undoing(&high))?;
    match used()? {
        used if used <= most => Ok(()),
        used => Err(CommandError::new(
            "pod.limit",
            format!("the pod cannot be limited: it uses {used} bytes of memory, more than {most}"),
        )
        .hint("give it more, or stop it first")),
    }
}

/// Returns the unit that was made for the pod, whose limits are the pod's; a unit that somebody else
/// has written is not ours to change.
fn unit_of_ours(pod: &Pod) -> Result<Option<String>> {
    let ours = systemd::unit_name(&pod.manifest()?.name);
    let unit = pod.status()?.and_then(|status| status.unit);
    Ok(unit.filter(|unit| *unit == ours))
}

/// Writes down what holds from the next start on. The pod's lock keeps it from starting meanwhile.
fn of_resting(
    session: &Session,
    pod: &Pod,
    args: &UpdateArgs,
    app: Option<AppSpec>,
    request: &ResourceRequest,
) -> Result<()> {
    let word = &args.pod;
    let phase = pod.phase();
    if !matches!(phase, Phase::Prepared | Phase::Exited) {
        let what = format!("pod `{word}` cannot be changed: {}", state(phase));
        return Err(CommandError::new("pod.busy", what));
    }
    // Found anew: the descriptor of a command that locks must be its own.
    let locked = session.pods.find(&Query(pod.id.as_str()))?;
    if locked.lock() == Lock::Theirs {
        let what = format!("pod `{word}` is just being started or removed");
        return Err(CommandError::new("pod.busy", what).hint("try again"));
    }
    session.pods.check_in_place(&locked)?;
    let before = in_force(pod, app.as_ref())?;
    let limits = before.clone().overridden_by(&request.beside(&before)?).settled();
    match app {
        None => locked.write_limits(&limits),
        Some(app) => locked.write_app(&AppSpec { resources: limits, ..app }),
    }
}
