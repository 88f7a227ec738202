//! What clients ask for, and what is to be done about it. Pure: a request and what is known of
//! the pod in, an [`Answer`] out.
//!
//! One connection waits for one thing at a time, except that a signal may be sent to the process
//! it has started or the app it is attached to, and that its terminal may change its size; an
//! attached one may also end the pod. Whatever else it asks in between breaks the rules.

use pod_abi::app::{MAX_ID, Process};
use pod_abi::control::{Direction, Reply, Request, SignalTarget, WindowSize};
use pod_abi::inner::{Target, ToInit};
use pod_abi::isolators::Resources;
use pod_abi::stage::AppOrder;
use pod_abi::status::AppState;
use pod_abi::{AppName, PodPath, Report};

use crate::client::{Over, Waiting};
use crate::pod::Pod;
use crate::signals::SIGKILL;

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
    /// Kill the pod, and reply that it is done.
    Kill,
    /// Start a process on a terminal of its own, and reply when the word about it comes.
    OnTerminal(OnTerminal),
    /// Add an app, and reply that it is done.
    Add(Box<AppOrder>),
    /// Attach the client, and reply that it is.
    Attach(Attach),
    /// End the input the client feeds, once it has passed it on, and reply that it is done.
    EndInput,
    /// Change the size of the client's terminal, and reply that it is done.
    Resize(WindowSize),
    /// Change the limits these name, and reply that it is done.
    Limit(Option<AppName>, Box<Resources>),
    /// Count what the pod uses, and reply it.
    Count,
    /// List the processes of an app, or of the pod, and reply them.
    List(Option<AppName>),
    /// Freeze the pod, and reply that it is done.
    Pause,
    /// Thaw the pod, and reply that it is done.
    Resume,
}

/// A process to start on a terminal of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OnTerminal {
    /// The number it has between us and PID 1.
    pub(crate) id: u32,
    /// In which app.
    pub(crate) app: AppName,
    /// What.
    pub(crate) process: Box<Process>,
    /// The size of its terminal.
    pub(crate) size: WindowSize,
}

/// What a client is to be attached to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attach {
    /// The app, or the output of all.
    pub(crate) app: Option<AppName>,
    /// Whether it feeds the app.
    pub(crate) input: bool,
    /// Whether the app's input ends with its own.
    pub(crate) ends_input: bool,
    /// The size of its terminal.
    pub(crate) size: Option<WindowSize>,
}

/// Answers a request of a client that waits for `waiting`.
pub(crate) fn answer(
    pod: &mut Pod,
    waiting: Option<&Waiting>,
    request: Request,
) -> Result<Answer, Over> {
    if !may_ask(waiting, &request) {
        return Err(Over);
    }
    if pod.status.paused && needs_motion(&request) {
        return Ok(paused(pod));
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
        Request::Exec { app, process, terminal } => exec(pod, app, process, terminal),
        Request::Attach { app, input, ends_input, size } => {
            attach(pod, Attach { app, input, ends_input, size })
        }
        Request::Resize { size } => Answer::Resize(size),
        Request::EndInput => Answer::EndInput,
        Request::AddApp { app } => match pod.roster.admits(&app.spec) {
            Ok(()) => Answer::Add(app),
            Err(error) => {
                Answer::Reply(Reply::Refused(Box::new(Report::of("app.invalid", &error))))
            }
        },
        Request::RemoveApp { app } => remove(pod, app),
        Request::Copy { app, direction, path } => copy(pod, app, direction, path),
        Request::Signal { target, signal } => self::signal(pod, waiting, target, signal)?,
        Request::Shutdown { grace_ms } => Answer::Stop(grace_ms),
        Request::Update { app, resources } => update(pod, app, *resources),
        Request::Stats => Answer::Count,
        Request::Processes { app } => match app.as_ref().map(|app| state(pod, app)) {
            Some(Err(refused)) => refused,
            _ => Answer::List(app),
        },
        Request::Pause if pod.status.paused => Answer::Reply(Reply::Done),
        Request::Pause => Answer::Pause,
        Request::Resume if pod.status.paused => Answer::Resume,
        Request::Resume => Answer::Reply(Reply::Done),
    })
}

/// Tells whether a request can only be fulfilled by processes that run. Signals are kept until the
/// pod goes on, as the kernel keeps them for a process that stands still.
fn needs_motion(request: &Request) -> bool {
    match request {
        Request::Start { .. }
        | Request::Stop { .. }
        | Request::Exec { .. }
        | Request::Attach { .. }
        | Request::Copy { .. }
        | Request::AddApp { .. }
        | Request::RemoveApp { .. } => true,
        Request::Ps
        | Request::EndInput
        | Request::Resize { .. }
        | Request::Signal { .. }
        | Request::Update { .. }
        | Request::Stats
        | Request::Processes { .. }
        | Request::Pause
        | Request::Resume
        | Request::Shutdown { .. } => false,
    }
}

fn paused(pod: &Pod) -> Answer {
    let name = &pod.name;
    let report = Report::new("pod.paused", format!("pod `{name}` is paused"))
        .hint(format!("`pod unpause {name}` lets it go on"));
    Answer::Reply(Reply::Refused(Box::new(report)))
}

fn update(pod: &mut Pod, app: Option<AppName>, changes: Resources) -> Answer {
    if let Some(Err(refused)) = app.as_ref().map(|app| state(pod, app)) {
        return refused;
    }
    let before = pod.roster.resources(app.as_ref());
    let limits = before.clone().overridden_by(&changes);
    if let Some((one, other)) = limits.contradiction() {
        return refuse("limit.invalid", format!("`{other}` would be above `{one}`"));
    }
    if !limits.is_sound() {
        return refuse("limit.invalid", "one of the limits is none".to_owned());
    }
    Answer::Limit(app, Box::new(changes.with_swap_said(&before)))
}

/// Tells whether a client that waits for `waiting` may ask this meanwhile.
fn may_ask(waiting: Option<&Waiting>, request: &Request) -> bool {
    match waiting {
        None => true,
        Some(Waiting::Attached) => matches!(
            request,
            Request::Signal { .. }
                | Request::Resize { .. }
                | Request::EndInput
                | Request::Shutdown { .. }
        ),
        Some(Waiting::Exec(_)) => matches!(
            request,
            Request::Signal { target: SignalTarget::Exec, .. } | Request::Resize { .. }
        ),
        Some(Waiting::Start(_) | Waiting::Stop(_) | Waiting::Remove(_)) => false,
    }
}

fn attach(pod: &mut Pod, wanted: Attach) -> Answer {
    let Some(app) = &wanted.app else {
        return match wanted.input {
            true => refuse("attach.input", "input goes to one app, and none is named".to_owned()),
            false => Answer::Attach(wanted),
        };
    };
    match state(pod, app) {
        Err(refused) => refused,
        Ok(AppState::Exited) => refuse("app.not-running", format!("app `{app}` has ended")),
        Ok(_) => Answer::Attach(wanted),
    }
}

fn remove(pod: &mut Pod, app: AppName) -> Answer {
    match state(pod, &app) {
        Err(refused) => return refused,
        Ok(AppState::Running | AppState::BackingOff) => {
            let what = format!("app `{app}` runs and has to be stopped first");
            let report = Report::new("app.running", what).hint("`pod app stop` stops it");
            return Answer::Reply(Reply::Refused(Box::new(report)));
        }
        Ok(AppState::Waiting | AppState::Exited) => {}
    }
    match pod.roster.spares(&app) {
        Ok(()) => {
            pod.asked_to_remove(&app);
            Answer::Wait(ToInit::RemoveApp { app: app.clone() }, Waiting::Remove(app))
        }
        Err(error) => {
            let report = Report::new("app.needed", format!("the pod needs app `{app}`"));
            let report = Report { causes: vec![error.to_string()], ..report };
            Answer::Reply(Reply::Refused(Box::new(report)))
        }
    }
}

fn state(pod: &mut Pod, app: &AppName) -> Result<AppState, Answer> {
    let unknown = || {
        let names: Vec<_> = pod.status.apps.iter().map(|app| app.name.as_str()).collect();
        let report = Report::new("app.unknown", format!("the pod has no app `{app}`"));
        let hint = match &names[..] {
            [] => "it has none; `pod app add` adds one".to_owned(),
            names => format!("name one of: {}", names.join(", ")),
        };
        Answer::Reply(Reply::Refused(Box::new(report.hint(hint))))
    };
    match pod.status.apps.iter().find(|known| known.name == *app) {
        Some(known) => Ok(known.state),
        None => Err(unknown()),
    }
}

fn refuse(code: &str, what: String) -> Answer {
    Answer::Reply(Reply::Refused(Box::new(Report::new(code, what))))
}

fn copy(pod: &mut Pod, app: AppName, direction: Direction, path: PodPath) -> Answer {
    if let Err(refused) = may_run(pod, &app) {
        return refused;
    }
    match pod.new_exec() {
        Some(id) => Answer::Wait(ToInit::Copy { id, app, direction, path }, Waiting::Exec(id)),
        None => too_many(),
    }
}

/// Refuses what is to be in an app that runs. Of one that has not begun PID 1 decides: what the app
/// does may be heard of before PID 1's word that it runs.
fn may_run(pod: &mut Pod, app: &AppName) -> Result<(), Answer> {
    match state(pod, app)? {
        AppState::Exited => Err(refuse("app.not-running", format!("app `{app}` does not run"))),
        AppState::Waiting | AppState::BackingOff | AppState::Running => Ok(()),
    }
}

fn too_many() -> Answer {
    refuse("exec.too-many", "too many processes were started in the pod".to_owned())
}

fn exec(
    pod: &mut Pod,
    app: AppName,
    process: Box<Process>,
    terminal: Option<WindowSize>,
) -> Answer {
    if let Err(refused) = may_run(pod, &app) {
        return refused;
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
    match (pod.new_exec(), terminal) {
        (Some(id), None) => {
            Answer::Wait(ToInit::Exec { id, app, process, terminal: false }, Waiting::Exec(id))
        }
        (Some(id), Some(size)) => Answer::OnTerminal(OnTerminal { id, app, process, size }),
        (None, _) => too_many(),
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
        (SignalTarget::Exec, _) => return Err(Over),
        // What kills all apps ends the pod, whatever their restart policies and whatever PID 1
        // makes of it.
        (SignalTarget::AllApps, _) if signal == SIGKILL => return Ok(Answer::Kill),
        (SignalTarget::AllApps, _) => Target::AllApps,
        (SignalTarget::App(app), waiting) => match (state(pod, &app), waiting) {
            (Err(refused), _) => return Ok(refused),
            (Ok(AppState::Running), _) => Target::App(app),
            // Its client has seen it, or is about to: what it does may be heard of before PID 1's
            // word that it runs.
            (Ok(AppState::Waiting | AppState::BackingOff), Some(Waiting::Attached)) => {
                pod.keep_signal(app, signal);
                return Ok(Answer::Reply(Reply::Done));
            }
            (Ok(_), _) => {
                return Ok(refuse("app.not-running", format!("app `{app}` does not run")));
            }
        },
    };
    if pod.status.paused {
        pod.keep_for_resume(target, signal);
        return Ok(Answer::Reply(Reply::Done));
    }
    Ok(Answer::Done(ToInit::Signal { target, signal }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hostile::ORDER;
    use pod_abi::Timestamp;
    use pod_abi::inner::FromInit;
    use pod_abi::stage::Order;

    pub(crate) fn order() -> Order {
        serde_json::from_str(ORDER).unwrap()
    }

    fn web() -> AppName {
        AppName::parse("web").unwrap()
    }

    /// A pod whose app waits, or runs.
    fn pod(running: Option<u32>) -> Pod {
        let mut pod = Pod::new(&order(), 1, String::new(), Timestamp(0));
        pod.hear(FromInit::Ready, Timestamp(0)).unwrap();
        if let Some(pid) = running {
            let word = FromInit::AppStarted { app: web(), restarts: 0, pid };
            pod.hear(word, Timestamp(0)).unwrap();
        }
        pod
    }

    fn refused(answer: Result<Answer, Over>) -> String {
        match answer {
            Ok(Answer::Reply(Reply::Refused(report))) => report.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn what_makes_no_sense_now_is_refused() {
        let (waits, runs) = (None, Some(2));
        let other = || AppName::parse("other").unwrap();
        let exec = |change: fn(&mut Process)| {
            let mut process = order().apps.remove(0).spec.process;
            change(&mut process);
            Request::Exec { app: web(), process: Box::new(process), terminal: None }
        };
        let add = |change: fn(&mut AppOrder)| {
            let mut app = order().apps.remove(0);
            app.spec.name = other();
            change(&mut app);
            Request::AddApp { app: Box::new(app) }
        };
        let signal = |target, signal| Request::Signal { target, signal };
        let (all, web_only) = (SignalTarget::AllApps, SignalTarget::App(web()));
        for (running, request, code) in [
            (runs, Request::Start { app: web() }, "app.runs"),
            (runs, Request::Start { app: other() }, "app.unknown"),
            (runs, Request::Stop { app: other(), grace_ms: None }, "app.unknown"),
            (runs, add(|app| app.spec.name = web()), "app.invalid"),
            (runs, add(|app| app.spec.after = vec![AppName::parse("x").unwrap()]), "app.invalid"),
            (runs, add(|app| app.spec.process.args.clear()), "app.invalid"),
            (runs, Request::Processes { app: Some(other()) }, "app.unknown"),
            (runs, Request::RemoveApp { app: web() }, "app.running"),
            (waits, Request::RemoveApp { app: web() }, "app.needed"),
            (waits, Request::RemoveApp { app: other() }, "app.unknown"),
            (runs, exec(|process| process.args.clear()), "exec.program"),
            (runs, exec(|process| process.args.push("\0".to_owned())), "exec.program"),
            (runs, exec(|process| process.user.uid = u32::MAX), "exec.user"),
            (runs, signal(all.clone(), 0), "signal.unknown"),
            (runs, signal(all, 65), "signal.unknown"),
            (waits, signal(web_only, 1), "app.not-running"),
        ] {
            let asked = format!("{request:?}");
            assert_eq!(refused(answer(&mut pod(running), None, request)), code, "{asked}");
        }
    }

    #[test]
    fn what_takes_processes_that_run_is_refused_while_the_pod_is_paused() {
        let process = Box::new(order().apps.remove(0).spec.process);
        let path = PodPath::parse("/x").unwrap();
        let mut paused = pod(Some(2));
        paused.status.paused = true;
        for request in [
            Request::Start { app: web() },
            Request::Stop { app: web(), grace_ms: None },
            Request::Exec { app: web(), process, terminal: None },
            Request::Attach { app: None, input: false, ends_input: false, size: None },
            Request::Copy { app: web(), direction: Direction::Out, path },
            Request::RemoveApp { app: web() },
        ] {
            let asked = format!("{request:?}");
            assert_eq!(refused(answer(&mut paused, None, request)), "pod.paused", "{asked}");
        }
        let done = Answer::Reply(Reply::Done);
        let list = answer(&mut paused, None, Request::Processes { app: None }).ok();
        assert_eq!(list, Some(Answer::List(None)));
        assert_eq!(answer(&mut paused, None, Request::Pause).ok(), Some(done));
        assert_eq!(answer(&mut paused, None, Request::Resume).ok(), Some(Answer::Resume));
        let shutdown = Request::Shutdown { grace_ms: None };
        assert_eq!(answer(&mut paused, None, shutdown).ok(), Some(Answer::Stop(None)));
        assert_eq!(answer(&mut pod(None), None, Request::Pause).ok(), Some(Answer::Pause));
    }

    #[test]
    fn signals_for_a_paused_pod_are_kept_once_each_and_its_kill_is_not() {
        let mut pod = pod(Some(2));
        pod.status.paused = true;
        let signal = |target, signal| Request::Signal { target, signal };
        for (target, number) in
            [(SignalTarget::AllApps, 1), (SignalTarget::App(web()), 10), (SignalTarget::AllApps, 1)]
        {
            let kept = answer(&mut pod, None, signal(target, number)).ok();
            assert_eq!(kept, Some(Answer::Reply(Reply::Done)));
        }
        let kept = vec![(Target::AllApps, 1), (Target::App(web()), 10)];
        assert_eq!(pod.standing_signals(), kept);
        assert_eq!(pod.standing_signals(), Vec::new());
        let kill = answer(&mut pod, None, signal(SignalTarget::AllApps, 9)).ok();
        assert_eq!(kill, Some(Answer::Kill));
    }

    #[test]
    fn limits_are_changed_as_far_as_the_whole_of_them_is_sound() {
        let mut pod = pod(Some(2));
        let now = Resources { memory: Some(1 << 20), pids: Some(9), ..Resources::default() };
        pod.roster.limit(Some(&web()), &now);
        let update = |app: Option<AppName>, resources: Resources| Request::Update {
            app,
            resources: Box::new(resources),
        };
        let more = Resources { memory: Some(2 << 20), ..Resources::default() };
        let without_swap = Resources { swap: Some(0), ..more.clone() };
        for app in [Some(web()), None] {
            let answered = answer(&mut pod, None, update(app.clone(), more.clone())).ok();
            assert_eq!(answered, Some(Answer::Limit(app, Box::new(without_swap.clone()))));
        }
        let high = Resources { memory_high: Some(1 << 19), ..Resources::default() };
        let answered = answer(&mut pod, None, update(Some(web()), high.clone())).ok();
        assert_eq!(answered, Some(Answer::Limit(Some(web()), Box::new(high))));
        let low = Resources { memory_low: Some(2 << 20), ..Resources::default() };
        let none = Resources { pids: Some(0), ..Resources::default() };
        for wrong in [low, none] {
            let answered = answer(&mut pod, None, update(Some(web()), wrong));
            assert_eq!(refused(answered), "limit.invalid");
        }
        let other = AppName::parse("other").unwrap();
        let answered = answer(&mut pod, None, update(Some(other), Resources::default()));
        assert_eq!(refused(answered), "app.unknown");
    }

    #[test]
    fn a_kill_of_all_apps_is_one_of_the_pod() {
        let kill = |target| Request::Signal { target, signal: 9 };
        let killed = answer(&mut pod(Some(2)), None, kill(SignalTarget::AllApps));
        assert_eq!(killed.ok(), Some(Answer::Kill));
        let of_app = answer(&mut pod(Some(2)), None, kill(SignalTarget::App(web())));
        let message = ToInit::Signal { target: Target::App(web()), signal: 9 };
        assert_eq!(of_app.ok(), Some(Answer::Done(message)));
    }

    #[test]
    fn one_connection_waits_for_one_thing() {
        let mut pod = pod(Some(2));
        let waiting = Waiting::Exec(1);
        assert!(answer(&mut pod, Some(&waiting), Request::Ps).is_err());
        let request = Request::Signal { target: SignalTarget::Exec, signal: 2 };
        let message = ToInit::Signal { target: Target::Exec(1), signal: 2 };
        assert_eq!(
            answer(&mut pod, Some(&waiting), request.clone()).ok(),
            Some(Answer::Done(message))
        );
        assert!(answer(&mut pod, None, request).is_err());
        let request = || Request::Signal { target: SignalTarget::AllApps, signal: 2 };
        let resize = || Request::Resize { size: WindowSize { rows: 1, columns: 1 } };
        assert!(answer(&mut pod, Some(&waiting), request()).is_err());
        for waiting in [Waiting::Start(web()), Waiting::Stop(web()), Waiting::Remove(web())] {
            assert!(answer(&mut pod, Some(&waiting), request()).is_err(), "{waiting:?}");
            assert!(answer(&mut pod, Some(&waiting), resize()).is_err(), "{waiting:?}");
        }
        assert!(answer(&mut pod, Some(&Waiting::Attached), request()).is_ok());
    }

    #[test]
    fn a_signal_of_an_attached_client_is_kept_until_the_app_runs() {
        let mut pod = pod(None);
        let mut ask = |signal| {
            let request = Request::Signal { target: SignalTarget::App(web()), signal };
            answer(&mut pod, Some(&Waiting::Attached), request).ok()
        };
        for signal in [15, 2, 15] {
            assert_eq!(ask(signal), Some(Answer::Reply(Reply::Done)));
        }
        assert_eq!(pod.kept_signals(&web()), [15, 2], "one of a kind, as the kernel has it");
        assert!(pod.kept_signals(&web()).is_empty(), "each is sent once");
    }

    #[test]
    fn processes_of_exec_are_bounded() {
        let mut pod = pod(Some(2));
        let process = Box::new(order().apps.remove(0).spec.process);
        let mut ask = || {
            let request = Request::Exec { app: web(), process: process.clone(), terminal: None };
            answer(&mut pod, None, request)
        };
        for _ in 0..256 {
            assert!(matches!(ask(), Ok(Answer::Wait(ToInit::Exec { .. }, Waiting::Exec(_)))));
        }
        assert_eq!(refused(ask()), "exec.too-many");
    }
}
