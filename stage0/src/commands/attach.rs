//! `pod attach`: the caller's streams, connected to an app that runs.

use std::io::{IsTerminal, stdin};

use pod_abi::app::{AppSpec, Stdio};
use pod_abi::exit;

use super::Session;
use super::subject::{choose, connect, running};
use crate::attend::{Attendance, Manner, Outcome, Signals, Wishes};
use crate::cli::AttachArgs;
use crate::client::{Audience, attach};
use crate::error::{CommandError, Result};
use crate::keys::DetachKeys;
use crate::terminal;

/// Attaches to an app, and returns its exit status if it ends meanwhile.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.not-found`, `terminal.none`, and what the supervisor
/// reports.
pub(crate) fn attach_to(session: &Session, args: &AttachArgs) -> Result<u8> {
    let keys = DetachKeys::asked(args.detach_keys.as_deref())
        .map_err(|error| CommandError::usage(error.to_string()))?;
    let pod = running(session, &args.pod)?;
    let app = choose(&pod, args.app.as_deref(), "--app")?;
    let fed = app.stdio != Stdio::Logged && !args.no_stdin;
    terminal::check(fed && app.stdio == Stdio::Terminal)?;
    let signals = Signals::block()?;
    let mut connection = connect(session, &pod, &args.pod)?;
    let audience =
        Audience { app: Some(app.name.clone()), stdio: app.stdio, fed, ends_input: false, keys };
    let client = attach(&mut connection, &audience)?;
    let mut attendance = Attendance {
        connection: &mut connection,
        signals: &signals,
        manner: manner(&app, args, client.raw.is_some()),
        target: audience.target(),
        pump: client.pump,
        on_terminal: app.stdio == Stdio::Terminal,
        raw: client.raw,
        wishes: Wishes::default(),
    };
    match attendance.attend()? {
        Outcome::Ended(exit) => Ok(exit.code()),
        Outcome::Left(signal) => Ok(exit::by_signal(signal)),
        Outcome::Detached => Ok(0),
        Outcome::PodEnded => Err(CommandError::new("pod.ended", "the pod has ended")),
    }
}

fn manner(app: &AppSpec, args: &AttachArgs, raw: bool) -> Manner {
    // An app on a terminal hears what is typed there, and we are only one who looks on.
    if raw || !args.sig_proxy || (app.stdio == Stdio::Terminal && stdin().is_terminal()) {
        Manner::OnTerminal
    } else {
        Manner::Guest
    }
}
