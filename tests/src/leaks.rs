//! The leak check: after a test, nothing of what its pods held may be left anywhere.
//!
//! Two looks: one as the test left things, which finds what only `pod gc` would clean although
//! nobody was killed, and one after `pod gc`, which may leave nothing at all. The check only looks;
//! it cleans nothing up, so that it cannot hide what it was made to find.

use std::fs;
use std::path::Path;

use crate::sandbox::Sandbox;

/// What may lie about before `pod gc` has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debris {
    /// Nothing but exited pods: nobody was killed.
    None,
    /// Everything but processes: somebody was killed.
    UntilGc,
}

/// How long the last process of a pod that has ended may take to be gone, in milliseconds.
const LAST_BREATH: u16 = 2_000;

/// Lists what the pods of `sandbox` left behind. Runs `pod gc`, which removes exited pods.
#[must_use]
pub fn of(sandbox: &Sandbox, debris: Debris) -> Vec<String> {
    let mut found = Vec::new();
    processes(sandbox, &mut found);
    mounts(sandbox, &mut found);
    links(sandbox, &mut found);
    if debris == Debris::None {
        volatile(sandbox, &mut found);
    }
    if !sandbox.path("root").join("pods").is_dir() {
        return found;
    }
    for args in [&["gc"][..], &["image", "gc"]] {
        let said = sandbox.pod(args);
        if said.code != 0 {
            found.push(format!("`{}` failed:\n{said}", said.command));
        }
    }
    processes(sandbox, &mut found);
    mounts(sandbox, &mut found);
    volatile(sandbox, &mut found);
    durable(sandbox, &mut found);
    found.sort();
    found.dedup();
    found
}

fn processes(sandbox: &Sandbox, found: &mut Vec<String>) {
    let Some(cgroup) = sandbox.cgroup() else { return };
    let _ = cgroup.drains(LAST_BREATH);
    for pid in cgroup.processes() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        found.push(format!("process {pid}: {line}"));
    }
}

fn mounts(sandbox: &Sandbox, found: &mut Vec<String>) {
    let now = sandbox.mountinfo();
    let new = now.lines().filter(|line| !sandbox.mountinfo_at_birth().contains(line));
    found.extend(new.map(|line| format!("mount {line}")));
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = sandbox.path("").display().to_string();
    let leaked = host.lines().filter(|line| line.contains(ours.trim_end_matches('/')));
    found.extend(leaked.map(|line| format!("mount of the host {line}")));
}

fn links(sandbox: &Sandbox, found: &mut Vec<String>) {
    let table = sandbox.seen("net/dev");
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    let others = names.map(|(name, _)| name.trim()).filter(|name| *name != "lo");
    found.extend(others.map(|name| format!("network interface {name}")));
}

/// What must be gone with the pod: cgroups, the run directory, temporary files.
fn volatile(sandbox: &Sandbox, found: &mut Vec<String>) {
    if let Some(cgroup) = sandbox.cgroup() {
        found.extend(cgroup.children().iter().map(|child| format!("cgroup {child}")));
    }
    let run = sandbox.path("run");
    for entry in entries(&run).into_iter().filter(|name| name != "userns") {
        found.push(format!("run directory {entry}"));
    }
    found.extend(entries(&run.join("userns")).iter().map(|name| format!("lease {name}")));
    found.extend(entries(&sandbox.path("tmp")).iter().map(|name| format!("temporary {name}")));
}

/// What must be gone with the pod's records: after `pod gc`.
fn durable(sandbox: &Sandbox, found: &mut Vec<String>) {
    let root = sandbox.path("root");
    for home in entries(&root.join("pods")) {
        let pods = entries(&root.join("pods").join(&home));
        found.extend(pods.iter().map(|pod| format!("pod {home}/{pod}")));
    }
    let names = entries(&root.join("names")).into_iter().filter(|name| !name.starts_with('.'));
    found.extend(names.map(|name| format!("name {name}")));
    for place in ["tmp", "trash", "leases"] {
        let left = entries(&root.join("images").join(place));
        let left = left.iter().filter(|name| !name.starts_with('.'));
        found.extend(left.map(|name| format!("images/{place}/{name}")));
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
