//! What clients ask for, and what is to be done about it. Pure: a request and what is known of
//! the pod in, an [`Answer`] out.
//!
//! One connection waits for one thing at a time, except that a signal may be sent to the process
//! it has started. Whatever else it asks in between breaks the rules.

use pod_abi::app::{MAX_ID, Process};
use pod_abi::control::{Reply, Request, SignalTarget};
use pod_abi::inner::{Target, ToInit};
use pod_abi::status::AppState;
use pod_abi::{AppName, Report};

use crate::client::{Over, Waiting};
use crate::pod::Pod;

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Reply at once.
    Reply(Reply),
    /// Tell PID 1, and reply when its word about it comes.
    Wait(ToInit, Waiting),
    /// Tell PID 1, and reply that it is done.
    Done(ToInit),
    /// End the pod, and reply that it is done.
    Stop(Option<u64>),
}

/// Answers a request of a client that waits for `waiting`.
pub(crate) fn answer(
    pod: &mut Pod,
    waiting: Option<&Waiting>,
    request: Request,
) -> Result<Answer, Over> {
    if waiting.is_some() && !matches!(request, Request::Signal { .. }) {
        return Err(Over);
    }
    Ok(match request {
        Request::Ps => Answer::Reply(Reply::Status(Box::new(pod.status.clone()))),
        Request::Start { app } => match state(pod, &app) {
            Err(refused) => refused,
            Ok(AppState::Running) => refuse("app.runs", format!("app `{app}` runs already")),
            Ok(_) => Answer::Wait(ToInit::StartApp { app: app.clone() }, Waiting::Start(app)),
        },
        Request::Stop { app, grace_ms } => match state(pod, &app) {
            Err(refused) => refused,
            Ok(AppState::Exited) => Answer::Reply(Reply::Done),
            Ok(AppState::Running) => {
                let message = ToInit::StopApp { app: app.clone(), grace_ms };
                Answer::Wait(message, Waiting::Stop(app))
            }
            // Nothing of it runs, so no end of it will be told.
            Ok(AppState::Waiting | AppState::BackingOff) => {
                Answer::Done(ToInit::StopApp { app, grace_ms })
            }
        },
        Request::Exec { app, process } => exec(pod, app, process),
        Request::Signal { target, signal } => self::signal(pod, waiting, target, signal)?,
        Request::Shutdown { grace_ms } => Answer::Stop(grace_ms),
    })
}

fn state(pod: &mut Pod, app: &AppName) -> Result<AppState, Answer> {
    let unknown = || {
        let names: Vec<_> = pod.status.apps.iter().map(|app| app.name.as_str()).collect();
        let report = Report::new("app.unknown", format!("the pod has no app `{app}`"));
        Answer::Reply(Reply::Refused(Box::new(
            report.hint(format!("name one of: {}", names.join(", "))),
        )))
    };
    match pod.status.apps.iter().find(|known| known.name == *app) {
        Some(known) => Ok(known.state),
        None => Err(unknown()),
    }
}

fn refuse(code: &str, what: String) -> Answer {
    Answer::Reply(Reply::Refused(Box::new(Report::new(code, what))))
}

fn exec(pod: &mut Pod, app: AppName, process: Box<Process>) -> Answer {
    match state(pod, &app) {
        Err(refused) => return refused,
        Ok(AppState::Running) => {}
        Ok(_) => return refuse("app.not-running", format!("app `{app}` does not run")),
    }
    let user = &process.user;
    let ids = [user.uid, user.gid].into_iter().chain(user.additional_gids.iter().copied());
    let program = process.args.first().is_some_and(|program| !program.is_empty());
    if !program || process.args.iter().any(|arg| arg.contains('\0')) {
        return refuse("exec.program", "there is no program to execute".to_owned());
    }
    if ids.into_iter().any(|id| id > MAX_ID) {
        return refuse("exec.user", format!("an id is beyond {MAX_ID}"));
    }
    match pod.new_exec() {
        Some(id) => Answer::Wait(ToInit::Exec { id, app, process }, Waiting::Exec(id)),
        None => refuse("exec.too-many", "too many processes were started in the pod".to_owned()),
    }
}

fn signal(
    pod: &mut Pod,
    waiting: Option<&Waiting>,
    target: SignalTarget,
    signal: u8,
) -> Result<Answer, Over> {
    if !(1..=64).contains(&signal) {
        return Ok(refuse("signal.unknown", format!("{signal} is no signal")));
    }
    let target = match (target, waiting) {
        (SignalTarget::Exec, Some(Waiting::Exec(id))) => Target::Exec(*id),
        (SignalTarget::Exec, _) | (_, Some(_)) => return Err(Over),
        (SignalTarget::AllApps, None) => Target::AllApps,
        (SignalTarget::App(app), None) => match state(pod, &app) {
            Err(refused) => return Ok(refused),
            Ok(AppState::Running) => Target::App(app),
            Ok(_) => return Ok(refuse("app.not-running", format!("app `{app}` does not run"))),
        },
    };
    Ok(Answer::Done(ToInit::Signal { target, signal }))
}
