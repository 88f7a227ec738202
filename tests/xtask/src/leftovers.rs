//! What a job must leave as it found it on the whole machine: mounts, cgroups, processes of ours,
//! network, run directory and temporary files.
//!
//! Looked at before and after; only what is new counts, and of processes and cgroups only what runs
//! programs of this build or nothing at all, so that pods of somebody else who works on the same
//! machine are no concern of ours. It never cleans up.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::build;

/// The state of the machine at one moment, as lines that say what each thing is.
#[derive(Debug)]
pub(crate) struct Machine(BTreeSet<String>);

/// Programs of this build that are no pods: those that are looking.
const TOOLS: [&str; 1] = ["xtask"];
/// How long things may take to go by themselves.
const LAST_BREATH: Duration = Duration::from_secs(3);
/// How long to wait before looking again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Directories whose entries are compared.
const PLACES: [&str; 4] = ["/run/pod", "/run/netns", "/tmp", "/var/lib/pod"];

impl Machine {
    /// Looks at the machine.
    pub(crate) fn now() -> Self {
        let mut seen = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        seen.extend(mounts.lines().filter_map(point).map(|at| format!("mount {at}")));
        if let Some(own) = harness::cgroup::own() {
            let groups = names(&own).into_iter().filter(|name| name.starts_with("pod-"));
            let left = groups.map(|name| own.join(name)).filter(|group| !is_anothers(group));
            seen.extend(left.map(|group| format!("cgroup {}", group.display())));
        }
        let links = names(Path::new("/sys/class/net"));
        seen.extend(links.into_iter().map(|name| format!("network interface {name}")));
        for place in PLACES {
            let entries = names(Path::new(place));
            let ours = entries.into_iter().filter(|name| place != "/tmp" || is_temporary(name));
            seen.extend(ours.map(|name| format!("{place}/{name}")));
        }
        seen.extend(processes());
        Self(seen)
    }

    /// Lists what is there now and was not there then. What goes by itself meanwhile, such as the
    /// empty cgroup of somebody else's pod that is just ending, was not left behind.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let new = || Self::now().0.difference(&self.0).cloned().collect::<BTreeSet<_>>();
        let mut left = new();
        let end = Instant::now() + LAST_BREATH;
        while !left.is_empty() && Instant::now() < end {
            thread::sleep(BETWEEN_LOOKS);
            left = &left & &new();
        }
        left.into_iter().collect()
    }
}

/// Tells whether an entry of `/tmp` could be of our making.
fn is_temporary(name: &str) -> bool {
    name.starts_with("pod") || name.starts_with(".tmp")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Tells whether a cgroup lives, and by programs of another build, or is that of a test that runs.
fn is_anothers(group: &Path) -> bool {
    let test = group.file_name().and_then(|name| name.to_str()?.strip_prefix("pod-tests-"));
    if let Some((pid, _)) = test.and_then(|name| name.split_once('-')) {
        return Path::new("/proc").join(pid).exists() && !is_ours(pid);
    }
    let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    events.contains("populated 1") && !processes_in(group).iter().any(|pid| is_ours(pid))
}

fn processes_in(group: &Path) -> Vec<String> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    for name in names(group) {
        found.extend(processes_in(&group.join(name)));
    }
    found
}

/// Tells whether process `pid` runs a program of this build.
fn is_ours(pid: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(build::target()))
}

fn processes() -> Vec<String> {
    let pids = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    pids.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim();
        let ours = is_ours(&pid) && !TOOLS.contains(&name);
        ours.then(|| format!("process {pid} ({name})"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_machine_has_nothing_left_behind() {
        let before = Machine(BTreeSet::from(["mount /nowhere".to_owned()]));
        let has = |line: &str| before.left_behind().iter().any(|left| left == line);
        assert!(!has("mount /nowhere"));
        assert!(has("mount /proc"), "it was not there before");
    }
}
