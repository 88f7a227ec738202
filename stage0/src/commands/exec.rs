//! `pod exec`: a command in an app of a running pod, started as the app itself was.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod_abi::app::{AppSpec, Stdio};
use pod_abi::control::{Reply, Request, SignalTarget};
use pod_abi::phase::Phase;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Session;
use super::logs::unknown_app;
use crate::caller::Caller;
use crate::cli::ExecArgs;
use crate::compose::{ExecRequest, compose_exec, resolve_user};
use crate::control::Connection;
use crate::error::{CommandError, Context as _, Result};
use crate::fetch;
use crate::pods::{Pod, Query};
use crate::streams::{Relay, Streams};
use crate::{ending, request};

/// Signals that are meant for the command rather than for us.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// How long a supervisor may take to start a command. It is a `clone` and an `execve` away; a
/// minute is a stopped or hopelessly loaded one, and our signals are blocked as long as we wait.
const START: Duration = Duration::from_secs(60);

/// Runs a command and returns its exit status.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.not-found`, and what the supervisor reports.
pub(crate) fn exec(session: &Session, args: ExecArgs) -> Result<u8> {
    let pod = session.pods.find(&Query(&args.pod))?;
    if pod.phase() != Phase::Running {
        return Err(super::not_running(&pod, &args.pod));
    }
    let app = choose(&pod, args.app.as_deref())?;
    let (name, word) = (app.name.clone(), args.pod.clone());
    let process = Box::new(compose_exec(read(session, args, &app)?, &app));
    let signals = block_signals()?;
    let mut connection = ending::connect(session.run_root(), &pod)?
        .ok_or_else(|| super::not_running(&pod, &word))?;
    let streams = Streams::of_this_process()?;
    connection
        .request(&Request::Exec { app: name, process, terminal: None }, &streams.descriptors())?;
    let mut relays = streams.handed_over();
    let ended = attend(&mut connection, &signals, &mut relays);
    // What the command wrote last; what its children write later is nobody's.
    relays.iter().try_for_each(|relay| relay.copy().map(drop))?;
    ended
}

pub(super) fn choose(pod: &Pod, word: Option<&str>) -> Result<AppSpec> {
    let manifest = pod.manifest()?;
    let apps = &manifest.sandbox.apps;
    let name = match (word, &apps[..]) {
        (None, [only]) => only,
        (None, several) => {
            let names: Vec<String> = several.iter().map(|app| format!("`{app}`")).collect();
            return Err(CommandError::usage(format!("pod `{}` has several apps", pod.called()))
                .hint(format!("`--app` takes one of {}", names.join(", "))));
        }
        (Some(word), _) => apps
            .iter()
            .find(|app| app.as_str() == word)
            .ok_or_else(|| unknown_app(pod, word, apps))?,
    };
    pod.app(name)
}

fn read(session: &Session, args: ExecArgs, app: &AppSpec) -> Result<ExecRequest> {
    let process = request::read_process(&args.process, &Caller::of_this_process())?;
    if process.stdio == Stdio::Terminal {
        return Err(CommandError::usage("a command beside an app cannot have a terminal yet"));
    }
    let user = match &process.user {
        None => None,
        Some(word) => {
            let accounts = fetch::accounts(&session.store()?, &app.image.layers)?;
            let who = resolve_user(word, &accounts)
                .map_err(|error| CommandError::usage(error.to_string()))?;
            Some((who.user, who.home))
        }
    };
    if args.command.iter().any(|word| word.contains('\0')) || args.command[0].is_empty() {
        return Err(CommandError::usage("the command is empty or holds a NUL byte"));
    }
    Ok(ExecRequest { args: args.command, env: process.env, workdir: process.workdir, user })
}

fn block_signals() -> Result<SignalFd> {
    let set: SigSet = FORWARDED.into_iter().collect();
    set.thread_block().context(|| "cannot block signals".to_owned())?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(|| "cannot receive signals".to_owned())
}

/// Waits for the end of the command, passing on signals, and output that goes through us.
fn attend(connection: &mut Connection, signals: &SignalFd, relays: &mut Vec<Relay>) -> Result<u8> {
    let asked = Instant::now();
    let mut started = false;
    loop {
        while let Some(reply) = connection.take()? {
            match reply {
                Reply::ExecEnded { exit } => return Ok(exit.code()),
                Reply::Refused(report) => return Err(CommandError::reported(report.tamed())),
                Reply::ExecStarted => started = true,
                Reply::Done | Reply::Status(_) | Reply::Attached | Reply::AppEnded { .. } => {}
            }
        }
        let left = (!started).then(|| START.saturating_sub(asked.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(connection.silent());
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds =
            vec![PollFd::new(connection, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        fds.extend(relays.iter().map(|relay| PollFd::new(relay, PollFlags::IN)));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for the command".to_owned()),
        }
        let answered = !fds[0].revents().is_empty();
        drop(fds);
        copy(relays)?;
        while let Ok(Some(signal)) = signals.read_signal() {
            if let Ok(signal) = u8::try_from(signal.ssi_signo) {
                connection.request(&Request::Signal { target: SignalTarget::Exec, signal }, &[])?;
            }
        }
        if answered && !connection.receive()? {
            return Err(CommandError::new("pod.ended", "the pod ended while the command ran"));
        }
    }
}

/// Copies what there is, and forgets the pipes that have ended.
fn copy(relays: &mut Vec<Relay>) -> Result<()> {
    let mut open = Vec::with_capacity(relays.len());
    for relay in relays.drain(..) {
        if relay.copy()? {
            open.push(relay);
        }
    }
    *relays = open;
    Ok(())
}
