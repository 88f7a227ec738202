//! `pod top`: the processes of a pod.
//!
//! The supervisor lists those that a wall keeps from the host. All others are read here: found by
//! the pod's cgroup, and where it has none, as descendants of its PID 1. What a process says of
//! itself, above all its command line, is a stranger's text: it is bounded, and nothing that could
//! drive a terminal is left in it.

use std::collections::BTreeMap;

use pod_abi::control::{Reply, Request};
use pod_abi::processes::{Listed, Listing, MAX_COMMAND};
use pod_abi::status::PodStatus;
use pod_abi::{AppName, text};
use pod_sys::{look_at, parent_of};
use serde::Serialize;

use super::Session;
use super::subject::{connect, named, not_running, running};
use crate::cli::TopArgs;
use crate::error::{CommandError, Result};
use crate::pods::Pod;
use crate::ui::{self, Format};
use crate::{cgroup, fetch};

/// One process; `pod top -o json` prints an array of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    process: Listed,
    /// Its user by the names of the app's image, if it knows the number.
    user: String,
}

/// Shows the processes of a pod.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.not-found`, `pod.unreachable`, or `storage`.
pub(crate) fn top(session: &Session, args: &TopArgs) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let status = pod.status()?.ok_or_else(|| not_running(&pod, &args.pod))?;
    let known: Vec<AppName> = status.apps.iter().map(|app| app.name.clone()).collect();
    let only = match &args.app {
        None => None,
        Some(word) => Some(named(&pod, word, &known)?),
    };
    let listing = match ask(session, &pod, &args.pod, only.cloned())? {
        Some(listing) => listing.tamed(|app| known.contains(app)),
        None => Listing { processes: on_host(&status, &pod, &known, only)?, left_out: 0 },
    };
    let names = names(session, &pod)?;
    let row = |process: Listed| {
        let passwd = process.app.as_ref().and_then(|app| names.get(app)).map_or("", String::as_str);
        let user = name_of(process.uid, passwd).unwrap_or_else(|| process.uid.to_string());
        Row { process, user }
    };
    let rows: Vec<Row> = listing.processes.into_iter().map(row).collect();
    match session.context.format {
        Format::Json => ui::json(&rows)?,
        Format::Table => {
            let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
            let headings = ["PID", "INSIDE", "APP", "USER", "STATE", "TIME", "COMMAND"];
            ui::out(&ui::table(&headings, &rows))?;
        }
    }
    if listing.left_out > 0 {
        ui::note(&format!("{} more are not shown", listing.left_out));
    }
    Ok(0)
}

/// Asks the supervisor; `None` if the processes are the host's.
fn ask(session: &Session, pod: &Pod, word: &str, app: Option<AppName>) -> Result<Option<Listing>> {
    match connect(session, pod, word)?.ask(&Request::Processes { app })? {
        Reply::Processes(listing) => Ok(listing.map(|listing| *listing)),
        _ => Ok(None),
    }
}

/// Lists processes of the host, those of app `only` or all.
fn on_host(
    status: &PodStatus,
    pod: &Pod,
    known: &[AppName],
    only: Option<&AppName>,
) -> Result<Vec<Listed>> {
    let mut processes = Vec::new();
    for (pid, app) in members(status, pod)? {
        let app = app.filter(|app| known.contains(app));
        if only.is_none() || app.as_ref() == only {
            processes.extend(look(pid, app));
        }
    }
    processes.sort_by(|a, b| (&a.app, a.pid).cmp(&(&b.app, b.pid)));
    Ok(processes)
}

/// Returns what the image of each app calls its users.
fn names(session: &Session, pod: &Pod) -> Result<BTreeMap<AppName, String>> {
    let store = session.store()?;
    let apps = pod.apps(&pod.manifest()?)?;
    let passwd = |layers: &[pod_abi::Digest]| {
        // An image that cannot be read has no names; its numbers are shown.
        fetch::accounts(&store, layers).map(|accounts| accounts.passwd).unwrap_or_default()
    };
    Ok(apps.into_iter().map(|app| (app.name, passwd(&app.image.layers))).collect())
}

fn members(status: &PodStatus, pod: &Pod) -> Result<Vec<(u32, Option<AppName>)>> {
    match (&status.cgroup, status.init) {
        (Some(recorded), _) => Ok(cgroup::members(recorded, &pod.id)),
        (None, Some(init)) => Ok(descendants(status, init)),
        (None, None) => Err(CommandError::new(
            "pod.no-processes",
            format!("the processes of pod `{}` cannot be seen from the host", pod.called()),
        )),
    }
}

/// Finds the processes beneath PID 1, where there is no cgroup to ask. An app's are those beneath
/// its main process.
fn descendants(status: &PodStatus, init: u32) -> Vec<(u32, Option<AppName>)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let main = |pid: u32| status.apps.iter().find(|app| app.pid == Some(pid));
    let mut found = Vec::new();
    let mut left = vec![(init, None)];
    while let Some((pid, app)) = left.pop() {
        let app = main(pid).map(|app| app.name.clone()).or(app);
        // Each is taken out, so that a table read while it changed cannot lead in circles.
        let beneath = children.remove(&pid).unwrap_or_default();
        left.extend(beneath.into_iter().map(|child| (child, app.clone())));
        found.push((pid, app));
    }
    found
}

/// Looks at one process; `None` if it is gone.
fn look(pid: u32, app: Option<AppName>) -> Option<Listed> {
    let process = look_at(pid)?;
    let listed = Listed {
        pid,
        pid_inside: process.pid_inside,
        app,
        uid: process.uid,
        state: process.state,
        seconds: process.seconds,
        command: process.command,
    };
    Some(listed.tamed(MAX_COMMAND))
}

/// Looks a number up in `/etc/passwd` of an image, which may hold anything.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| text::tame(name, 32))
    })
}

fn cells(row: &Row) -> Vec<String> {
    let Row { process, user } = row;
    let seconds = process.seconds;
    vec![
        process.pid.to_string(),
        process.pid_inside.to_string(),
        process.app.as_ref().map_or("-", AppName::as_str).to_owned(),
        user.clone(),
        process.state.to_string(),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        process.command.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_names_of_the_image() {
        let passwd = "root:x:0:0::/:/bin/sh\nbad\nw\x1beb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(1000, passwd).as_deref(), Some("w\u{fffd}eb"));
        assert_eq!(name_of(1, passwd), None);
    }
}
