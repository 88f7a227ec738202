//! `pod exec`: a command in an app of a running pod, started as the app itself was.

use pod_abi::app::{AppSpec, Stdio};
use pod_abi::control::{Request, SignalTarget, WindowSize};
use pod_abi::exit;

use super::Session;
use super::subject::{choose, connect, running};
use crate::attend::{Attendance, Manner, Outcome, Signals, Wishes};
use crate::caller::Caller;
use crate::cli::ExecArgs;
use crate::compose::{ExecRequest, compose_exec, resolve_user};
use crate::error::{CommandError, Result};
use crate::fetch;
use crate::keys::DetachKeys;
use crate::request::{self, ProcessRequest};
use crate::streams::{Input, Streams};
use crate::terminal::{self, Raw};

/// The size of a terminal whose user has none.
const UNSEEN: WindowSize = WindowSize { rows: 24, columns: 80 };

/// Runs a command and returns its exit status.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.not-found`, `terminal.none`, and what the supervisor
/// reports.
pub(crate) fn exec(session: &Session, args: ExecArgs) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let app = choose(&pod, args.app.as_deref(), "--app")?;
    let (name, word) = (app.name.clone(), args.pod.clone());
    let (fed, tty) = (args.process.interactive, args.process.tty);
    terminal::check(fed && tty)?;
    let process = Box::new(compose_exec(read(session, args, &app)?, &app));
    let signals = Signals::block()?;
    let mut connection = connect(session, &pod, &word)?;
    let input = if fed { Input::Passed(DetachKeys::none()) } else { Input::None };
    let streams = if tty { Streams::of_a_client(input)? } else { Streams::of_a_command(input)? };
    let terminal = tty.then(|| terminal::size().unwrap_or(UNSEEN));
    let request = Request::Exec { app: name, process, terminal };
    connection.request(&request, &streams.descriptors())?;
    let mut attendance = Attendance {
        connection: &mut connection,
        signals: &signals,
        pump: streams.handed_over(),
        manner: Manner::Command,
        target: SignalTarget::Exec,
        on_terminal: tty,
        raw: if fed && tty { Some(Raw::new()?) } else { None },
        wishes: Wishes::default(),
    };
    match attendance.attend()? {
        Outcome::Ended(exit) => Ok(exit.code()),
        Outcome::Left(signal) => Ok(exit::by_signal(signal)),
        Outcome::Detached => Ok(0),
        Outcome::PodEnded => {
            Err(CommandError::new("pod.ended", "the pod ended while the command ran"))
        }
    }
}

fn read(session: &Session, args: ExecArgs, app: &AppSpec) -> Result<ExecRequest> {
    let process = request::read_process(&args.process, &Caller::of_this_process())?;
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
    let terminal = process.stdio == Stdio::Terminal;
    let ProcessRequest { env, workdir, .. } = process;
    Ok(ExecRequest { args: args.command, env, workdir, user, terminal })
}
