//! The leak check: after a test, nothing of what its pods held may be left anywhere.
//!
//! Two looks: one as the test left things, which finds what only `pod gc` would clean although
//! nobody was killed, and one after `pod gc`, which may leave nothing at all. The check only looks;
//! it cleans nothing up, so that it cannot hide what it was made to find.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::said::Said;

/// What may lie about before `pod gc` has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debris {
    /// Nothing but exited pods: nobody was killed.
    None,
    /// Everything but processes: somebody was killed.
    UntilGc,
    /// Everything: whoever comes after the machine's reboot looks.
    OfNextBoot,
}

/// How long the last process of a pod that has ended may take to be gone, in milliseconds.
const LAST_BREATH: u16 = 2_000;

/// The world of one test, as far as something can be left in it.
#[derive(Debug)]
pub struct World<'a> {
    /// Holds `root`, `run` and `tmp`, and what the test put there.
    pub directory: &'a Path,
    /// Holds all its processes, if the machine has cgroup v2.
    pub cgroup: Option<&'a Cgroup>,
    /// The `/proc` directory of a process in its namespaces.
    pub proc: &'a Path,
    /// Mountinfo as it was at first.
    pub mounts: &'a str,
}

/// Lists what pods left behind in `sandbox`. `pod` runs the command line, of which `gc` is asked:
/// it removes exited pods.
#[must_use]
pub fn of(sandbox: &World<'_>, debris: Debris, pod: &dyn Fn(&[&str]) -> Said) -> Vec<String> {
    let mut found = Vec::new();
    processes(sandbox, &mut found);
    mounts(sandbox, &mut found);
    links(sandbox, &mut found);
    if debris == Debris::None {
        volatile(sandbox, &mut found);
    }
    if !sandbox.directory.join("root/pods").is_dir() {
        return found;
    }
    found.extend(collect(pod));
    processes(sandbox, &mut found);
    mounts(sandbox, &mut found);
    volatile(sandbox, &mut found);
    durable(sandbox, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Has everything collected that `pod gc` collects; tells what failed.
#[must_use]
pub fn collect(pod: &dyn Fn(&[&str]) -> Said) -> Vec<String> {
    let said = [&["gc"][..], &["image", "gc"]].map(pod);
    let failed = said.into_iter().filter(|said| said.code != 0);
    failed.map(|said| format!("`{}` failed:\n{said}", said.command)).collect()
}

fn processes(sandbox: &World<'_>, found: &mut Vec<String>) {
    let Some(cgroup) = sandbox.cgroup else { return };
    let _ = cgroup.drains(LAST_BREATH);
    for pid in cgroup.processes() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        found.push(format!("process {pid}: {line}"));
    }
}

fn mounts(sandbox: &World<'_>, found: &mut Vec<String>) {
    let now = seen(sandbox, "mountinfo");
    let new = now.lines().filter(|line| !sandbox.mounts.contains(line));
    found.extend(new.map(|line| format!("mount {line}")));
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = sandbox.directory.display().to_string();
    let leaked = host.lines().filter(|line| line.contains(&ours));
    found.extend(leaked.map(|line| format!("mount of the host {line}")));
}

fn seen(sandbox: &World<'_>, file: &str) -> String {
    fs::read_to_string(sandbox.proc.join(file)).unwrap_or_default()
}

fn links(sandbox: &World<'_>, found: &mut Vec<String>) {
    // The kernel takes a namespace apart, and the links in it, in its own time.
    let deadline = Instant::now() + Duration::from_millis(LAST_BREATH.into());
    let mut left = names_of_links(sandbox);
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
        left = names_of_links(sandbox);
    }
    found.extend(left.iter().map(|name| format!("network interface {name}")));
}

fn names_of_links(sandbox: &World<'_>) -> Vec<String> {
    let table = seen(sandbox, "net/dev");
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "lo").collect()
}

/// What must be gone with the pod: cgroups, the run directory, temporary files.
fn volatile(sandbox: &World<'_>, found: &mut Vec<String>) {
    if let Some(cgroup) = sandbox.cgroup {
        found.extend(cgroup.children().iter().map(|child| format!("cgroup {child}")));
    }
    let run = sandbox.directory.join("run");
    for entry in entries(&run).into_iter().filter(|name| name != "userns") {
        // What is in it, and which home has its pod, tell who died over it.
        let within = entries(&run.join(&entry)).join(", ");
        let homes = entries(&sandbox.directory.join("root/pods"));
        let pod = |home: &String| sandbox.directory.join("root/pods").join(home).join(&entry);
        let known: Vec<_> = homes.into_iter().filter(|home| pod(home).exists()).collect();
        found.push(format!("run directory {entry} with [{within}], its pod in {known:?}"));
    }
    found.extend(entries(&run.join("userns")).iter().map(|name| format!("lease {name}")));
    found.extend(
        entries(&sandbox.directory.join("tmp")).iter().map(|name| format!("temporary {name}")),
    );
}

/// What must be gone with the pod's records: after `pod gc`.
fn durable(sandbox: &World<'_>, found: &mut Vec<String>) {
    let root = sandbox.directory.join("root");
    for home in entries(&root.join("pods")) {
        let pods = entries(&root.join("pods").join(&home));
        found.extend(pods.iter().map(|pod| format!("pod {home}/{pod}")));
    }
    let names = entries(&root.join("names")).into_iter().filter(|name| !name.starts_with('.'));
    found.extend(names.map(|name| format!("name {name}")));
    let joined = entries(&root.join("network/cni/attachments"));
    found.extend(joined.iter().map(|name| format!("network/cni/attachments/{name}")));
    let ledger = fs::read_to_string(root.join("network/ledger.json")).unwrap_or_default();
    if !ledger.is_empty() && !ledger.contains("\"entries\":[]") {
        found.push(format!("network/ledger.json {ledger}"));
    }
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
