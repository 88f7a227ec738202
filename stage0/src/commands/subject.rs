//! What a command is about: the pods and the apps that its line names, or the refusal of those that
//! are not there or do not run.

use pod_abi::AppName;
use pod_abi::app::AppSpec;
use pod_abi::phase::{Home, Phase};

use super::Session;
use crate::cli;
use crate::control::Connection;
use crate::ending;
use crate::error::{CommandError, Result};
use crate::pods::{Entry, Pod, Query};

/// Returns the pods a line names, or with `--all` the ids of those in a phase `wanted`.
///
/// # Errors
///
/// `storage`.
pub(super) fn chosen(
    session: &Session,
    pods: &cli::Pods,
    wanted: impl Fn(Phase) -> bool,
) -> Result<Vec<String>> {
    if !pods.all {
        return Ok(pods.pods.clone());
    }
    let mut ids = Vec::new();
    for home in Home::ALL {
        for entry in session.pods.list(home)? {
            if let Entry::Pod(pod) = entry?
                && wanted(pod.phase())
            {
                ids.push(pod.id.to_string());
            }
        }
    }
    ids.sort_unstable();
    ids.dedup(); // one that moved while we looked was met twice
    Ok(ids)
}

/// Returns the refusal of a pod that does not run and would have to.
pub(super) fn not_running(pod: &Pod, word: &str) -> CommandError {
    let phase = pod.phase();
    let error = CommandError::new(
        "pod.not-running",
        format!("pod `{word}` does not run: {}", state(phase)),
    );
    match phase {
        Phase::Prepared | Phase::Exited => error.hint(format!("`pod start -d {word}` starts it")),
        _ => error.hint("`pod ps -a` tells what becomes of it"),
    }
}

/// Says what a pod in `phase` is, to follow a colon.
pub(super) const fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Embryo | Phase::Preparing => "it is just being laid out",
        Phase::PrepareFailed => "whoever laid it out died half-way",
        Phase::Prepared => "it is prepared and was never started",
        Phase::Running => "it is just starting or ending",
        Phase::Exited => "it has ended",
        Phase::Garbage => "it is being removed",
    }
}

/// Finds a pod that runs.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`.
pub(super) fn running(session: &Session, word: &str) -> Result<Pod> {
    let pod = session.pods.find(&Query(word))?;
    if pod.phase() == Phase::Running { Ok(pod) } else { Err(not_running(&pod, word)) }
}

/// Connects to the supervisor of a pod that ran a moment ago.
///
/// # Errors
///
/// `pod.not-running`, `pod.unreachable`.
pub(super) fn connect(session: &Session, pod: &Pod, word: &str) -> Result<Connection> {
    ending::connect(session.run_root(), pod)?.ok_or_else(|| not_running(pod, word))
}

/// Chooses an app of a pod: the one that is named, or the only one. `naming` is where a command
/// line names it.
///
/// # Errors
///
/// `app.not-found`, also if there is none to choose; usage if there are several.
pub(super) fn choose(pod: &Pod, word: Option<&str>, naming: &str) -> Result<AppSpec> {
    let manifest = pod.manifest()?;
    let apps = &manifest.sandbox.apps;
    let name = match (word, &apps[..]) {
        (None, [only]) => only,
        (None, []) => return Err(without_apps(pod, "has no app")),
        (None, several) => {
            let names: Vec<String> = several.iter().map(|app| format!("`{app}`")).collect();
            return Err(CommandError::usage(format!("pod `{}` has several apps", pod.called()))
                .hint(format!("`{naming}` takes one of {}", names.join(", "))));
        }
        (Some(word), _) => named(pod, word, apps)?,
    };
    pod.app(name)
}

/// Finds the app that is called `word` among those `known` of a pod.
///
/// # Errors
///
/// `app.not-found`.
pub(super) fn named<'k>(pod: &Pod, word: &str, known: &'k [AppName]) -> Result<&'k AppName> {
    known.iter().find(|app| app.as_str() == word).ok_or_else(|| {
        let what = format!("has no app `{word}`");
        if known.is_empty() {
            return without_apps(pod, &what);
        }
        let names: Vec<String> = known.iter().map(|app| format!("`{app}`")).collect();
        CommandError::new("app.not-found", format!("pod `{}` {what}", pod.called()))
            .hint(format!("it has {}", names.join(", ")))
    })
}

/// Returns the refusal of an app where a pod has none at all.
fn without_apps(pod: &Pod, what: &str) -> CommandError {
    let name = pod.called();
    CommandError::new("app.not-found", format!("pod `{name}` {what}"))
        .hint(format!("`pod app add --start {name} IMAGE` adds one and starts it"))
}
