//! `pod app …`: the apps of a pod, one by one.

mod add;

use std::time::{Duration, Instant};

use pod_abi::control::{Reply, Request};
use pod_abi::status::{AppState, AppStatus};
use pod_abi::{AppName, report::Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::subject::{connect, named, running};
use super::{Session, each};
use crate::cli::{AppArgs, AppStopArgs, AppVerb};
use crate::control::Connection;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Query;
use crate::ui::{self, Format};

pub(crate) use add::add;

/// How long a supervisor may take to lay an app out, start one or forget one. It stops nothing
/// meanwhile; a minute is a stopped or hopelessly loaded one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does what `verb` says with the apps of a pod.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.…`, and what the supervisor reports.
pub(crate) fn app(session: &Session, verb: AppVerb) -> Result<u8> {
    match verb {
        AppVerb::Add => Err(CommandError::usage("no pod is given")),
        AppVerb::Start(args) => on_each(session, &args, PATIENCE, |app| Request::Start { app }),
        AppVerb::Stop(AppStopArgs { time, apps }) => {
            let grace_ms = time.map(|seconds| seconds.saturating_mul(1000));
            stop(session, &apps, grace_ms)
        }
        AppVerb::Rm(args) => {
            let pod = session.pods.find(&Query(&args.pod))?;
            let _changes = pod.lock_changes()?;
            let removed = on_each(session, &args, PATIENCE, |app| Request::RemoveApp { app });
            // What is gone keeps no image any more.
            pod.replace_pins(&pod.apps(&pod.manifest()?)?)?;
            pod.sweep_removed()?;
            removed
        }
        AppVerb::Ls(args) => ls(session, &args.pod),
    }
}

/// A grace ends in SIGKILL, so the wait for it is as long as it is.
fn stop(session: &Session, args: &AppArgs, grace_ms: Option<u64>) -> Result<u8> {
    let pod = session.pods.find(&Query(&args.pod))?;
    let longest = pod.apps(&pod.manifest()?)?.into_iter().map(|app| app.stop.grace_ms).max();
    let grace = grace_ms.or(longest).unwrap_or_default();
    let patience = PATIENCE.saturating_add(Duration::from_millis(grace));
    on_each(session, args, patience, |app| Request::Stop { app, grace_ms })
}

/// Asks the same for each app named, and prints the names of those it was done for.
fn on_each(
    session: &Session,
    args: &AppArgs,
    patience: Duration,
    request: impl Fn(AppName) -> Request,
) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let known = pod.manifest()?.sandbox.apps;
    each(&session.context, &args.apps, |word| {
        let app = named(&pod, word, &known)?;
        let mut connection = connect(session, &pod, &args.pod)?;
        connection.request(&request(app.clone()), &[])?;
        settle(&mut connection, patience)?;
        ui::out(&format!("{word}\n"))
    })?;
    Ok(0)
}

/// Waits until what was asked for is done.
fn settle(connection: &mut Connection, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match connection.take()? {
            Some(Reply::Done) => return Ok(()),
            Some(Reply::Refused(report)) => return Err(refused(*report)),
            Some(_) => {}
            None => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(connection.silent());
                }
                let left = Timespec::try_from(left).ok();
                let mut fds = [PollFd::new(&*connection, PollFlags::IN)];
                match poll(&mut fds, left.as_ref()) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => {}
                    Ok(_) if connection.receive()? => {}
                    Ok(_) => {
                        return Err(CommandError::new("pod.ended", "the pod ended meanwhile"));
                    }
                    Err(error) => {
                        return Err(error).context(|| "cannot wait for the supervisor".to_owned());
                    }
                }
            }
        }
    }
}

/// What the supervisor says of an app is a refusal here, whatever status it stands for elsewhere.
fn refused(report: Report) -> CommandError {
    CommandError::reported(report.tamed().exit(pod_abi::exit::REFUSED))
}

/// One app in the list; `pod app ls -o json` prints an array of these.
#[derive(Debug, Serialize)]
struct Row {
    image: String,
    #[serde(flatten)]
    status: Option<AppStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<AppName>,
}

fn ls(session: &Session, word: &str) -> Result<u8> {
    let pod = session.pods.find(&Query(word))?;
    let status = pod.status()?;
    let known = status.map(|status| status.apps).unwrap_or_default();
    let rows: Vec<(AppName, Row)> = pod
        .apps(&pod.manifest()?)?
        .into_iter()
        .map(|app| {
            let status = known.iter().find(|status| status.name == app.name).cloned();
            let name = status.is_none().then(|| app.name.clone());
            (app.name, Row { image: app.image.reference, status, name })
        })
        .collect();
    if session.context.format == Format::Json {
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        ui::json(&rows)?;
        return Ok(0);
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|(name, row)| cells(name, row)).collect();
    ui::out(&ui::table(&["NAME", "STATE", "READY", "RESTARTS", "IMAGE"], &cells))?;
    Ok(0)
}

fn cells(name: &AppName, row: &Row) -> Vec<String> {
    let status = row.status.as_ref();
    let state = match status.map(|status| (status.state, status.exit)) {
        None | Some((AppState::Waiting, _)) => "waiting".to_owned(),
        Some((AppState::Running, _)) => "running".to_owned(),
        Some((AppState::BackingOff, _)) => "backing off".to_owned(),
        Some((AppState::Exited, exit)) => {
            exit.map_or("exited".to_owned(), |exit| format!("exited {}", exit.code()))
        }
    };
    let ready = status
        .is_some_and(|status| status.state == AppState::Running && status.ready >= status.started);
    vec![
        name.to_string(),
        state,
        if ready { "yes" } else { "no" }.to_owned(),
        status.map_or(0, |status| status.restarts).to_string(),
        row.image.clone(),
    ]
}
