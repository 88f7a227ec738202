//! `pod top`: the processes of a pod, read from the host.
//!
//! Found by the pod's cgroup, and where it has none, as descendants of its PID 1. What a process
//! says of itself, above all its command line, is a stranger's text: it is bounded, and nothing
//! that could drive a terminal is left in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use pod_abi::status::PodStatus;
use pod_abi::{AppName, text};
use serde::Serialize;

use super::Session;
use super::subject::{named, not_running, running};
use crate::cli::TopArgs;
use crate::error::{CommandError, Result};
use crate::pods::Pod;
use crate::ui::{self, Format};
use crate::{cgroup, fetch};

/// The most of a file of `/proc` that is read, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// The longest command shown, in characters.
const MAX_COMMAND: usize = 4096;
/// Clock ticks a second, as every kernel shows them to programs (`USER_HZ`, `proc(5)`).
const TICKS: u64 = 100;

/// One process; `pod top -o json` prints an array of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    /// Its id on the host.
    pid: u32,
    /// Its id in the innermost process namespace it is in.
    pid_inside: u32,
    /// Its app; none is the pod's own PID 1.
    app: Option<AppName>,
    /// Its user, by the numbers of the pod.
    uid: u32,
    /// By the names of the app's image, if it knows the number.
    user: String,
    /// As `ps` writes it: `R`, `S`, `D`, `Z`, `T`, ….
    state: char,
    /// Seconds of processor time.
    seconds: u64,
    command: String,
}

/// Shows the processes of a pod.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `app.not-found`, or `storage`.
pub(crate) fn top(session: &Session, args: &TopArgs) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let status = pod.status()?.ok_or_else(|| not_running(&pod, &args.pod))?;
    let known: Vec<AppName> = status.apps.iter().map(|app| app.name.clone()).collect();
    let only = match &args.app {
        None => None,
        Some(word) => Some(named(&pod, word, &known)?),
    };
    let names = names(session, &pod)?;
    let mut processes = Vec::new();
    for (pid, app) in members(&status, &pod)? {
        let app = app.filter(|app| known.contains(app));
        if only.is_some() && app.as_ref() != only {
            continue;
        }
        let passwd = app.as_ref().and_then(|app| names.get(app)).map_or("", String::as_str);
        processes.extend(look(pid, app, passwd));
    }
    processes.sort_by(|a, b| (&a.app, a.pid).cmp(&(&b.app, b.pid)));
    match session.context.format {
        Format::Json => ui::json(&processes)?,
        Format::Table => {
            let rows: Vec<Vec<String>> = processes.iter().map(cells).collect();
            let headings = ["PID", "INSIDE", "APP", "USER", "STATE", "TIME", "COMMAND"];
            ui::out(&ui::table(&headings, &rows))?;
        }
    }
    Ok(0)
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
        if let Some(stat) = text(pid, "stat").as_deref().and_then(Stat::parse) {
            children.entry(stat.parent).or_default().push(pid);
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
fn look(pid: u32, app: Option<AppName>, passwd: &str) -> Option<Process> {
    let stat = Stat::parse(&text(pid, "stat")?)?;
    let status = text(pid, "status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let pid_inside = field("NSpid:")?.split_whitespace().last()?.parse().ok()?;
    // Real, effective, saved, file system.
    let uid: u32 = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let uid = inside(uid, &text(pid, "uid_map")?);
    let command = text(pid, "cmdline").unwrap_or_default();
    Some(Process {
        pid,
        pid_inside,
        app,
        uid,
        user: name_of(uid, passwd).unwrap_or_else(|| uid.to_string()),
        state: stat.state,
        seconds: stat.ticks / TICKS,
        command: tamed(&if command.is_empty() { format!("[{}]", stat.name) } else { command }),
    })
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, parentheses too: it ends at the last one.
        let (front, rest) = text.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9);
        let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
        Some(Self { name, state, parent, ticks: user.saturating_add(system) })
    }
}

/// Reads a file of `/proc/PID`, the words of a command line parted by blanks.
fn text(pid: u32, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// Returns the number that user `uid` of the host has in a user namespace.
fn inside(uid: u32, map: &str) -> u32 {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    });
    let hit = ranges
        .filter_map(|(first, outside, count)| {
            let offset = uid.checked_sub(outside).filter(|offset| *offset < count)?;
            first.checked_add(offset)
        })
        .next();
    hit.unwrap_or(uid)
}

/// Looks a number up in `/etc/passwd` of an image, which may hold anything.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| tamed(&name.chars().take(32).collect::<String>()))
    })
}

/// Makes a stranger's text fit to be shown, with an end.
fn tamed(text: &str) -> String {
    text::tame(text, MAX_COMMAND)
}

fn cells(process: &Process) -> Vec<String> {
    let seconds = process.seconds;
    vec![
        process.pid.to_string(),
        process.pid_inside.to_string(),
        process.app.as_ref().map_or("-", AppName::as_str).to_owned(),
        process.user.clone(),
        process.state.to_string(),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        process.command.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "7 (a) R 9 (b)) S 5 7 7 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 1 0 9 9 9";
        let expected = Stat { name: "a) R 9 (b)".to_owned(), state: 'S', parent: 5, ticks: 300 };
        assert_eq!(Stat::parse(line), Some(expected));
        for bad in ["", "7", "7 (x", "7 (x) S", "7 (x) S 1 2"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_user_has_its_number_of_the_pod() {
        let map = "         0     100000      65536\n";
        assert_eq!(inside(101_000, map), 1000);
        assert_eq!(inside(5, map), 5);
        assert_eq!(inside(1000, "0 0 4294967295\n"), 1000);
        assert_eq!(inside(1, "nonsense"), 1);
    }

    #[test]
    fn users_have_the_names_of_the_image() {
        let passwd = "root:x:0:0::/:/bin/sh\nbad\nw\x1beb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(1000, passwd).as_deref(), Some("w\u{fffd}eb"));
        assert_eq!(name_of(1, passwd), None);
    }

    #[test]
    fn a_command_line_cannot_drive_a_terminal() {
        assert_eq!(tamed("a\x1b[2J\u{202e}b\nc"), "a\u{fffd}[2J\u{fffd}b\u{fffd}c");
        assert_eq!(tamed(&"x".repeat(10_000)).len(), MAX_COMMAND);
    }
}
