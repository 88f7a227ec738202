//! What a machine with systemd holds at one moment, so that a test in it can tell what it left:
//! units, cgroups, processes, files in the places of temporary things.
//!
//! Tests of a machine run one after the other, so whatever is new is the test's. Services that
//! systemd starts on demand are the machine's own and stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::said;

/// How long things may take to go by themselves.
const LAST_BREATH: Duration = Duration::from_secs(3);
/// How long to wait before looking again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What comes on demand and stays: services of the bus, the slices all pods share, and that the network
/// is up.
const ON_DEMAND: &[&str] = &[
    "machine-pods.slice",
    "machine.slice",
    "network-online.target",
    "polkit.service",
    "system-pod.slice",
    "systemd-hostnamed.service",
    "systemd-localed.service",
    "systemd-machined.service",
    "systemd-timedated.service",
];
/// Directories whose entries are compared.
const PLACES: [&str; 4] = ["/run/netns", "/run/systemd/transient", "/tmp", "/dev/shm"];

/// The cgroups of a machine.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The state of the machine at one moment, as lines that say what each thing is.
#[derive(Debug)]
pub struct System(BTreeSet<String>);

impl System {
    /// Looks at the machine.
    ///
    /// # Panics
    ///
    /// When systemd does not answer.
    #[must_use]
    pub fn now() -> Self {
        let mut seen: BTreeSet<String> =
            units().iter().map(|(name, state)| format!("unit {name}, {state}")).collect();
        cgroups(Path::new(CGROUPS), &mut seen);
        processes(&mut seen);
        for place in PLACES {
            seen.extend(names(Path::new(place)).iter().map(|name| format!("{place}/{name}")));
        }
        Self(seen)
    }

    /// Lists what is there now and was not there then.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        let new = || Self::now().0.difference(&self.0).cloned().collect::<BTreeSet<_>>();
        let mut left = new();
        let end = Instant::now() + LAST_BREATH * said::slowness();
        while !left.is_empty() && Instant::now() < end {
            thread::sleep(BETWEEN_LOOKS);
            left = &left & &new();
        }
        left.into_iter().collect()
    }

    /// Kills and forgets every unit and process that was not there then.
    pub fn clean_up(&self) {
        let before = |name: &str| {
            let line = format!("unit {name}, ");
            self.0.iter().any(|seen| seen.starts_with(&line))
        };
        let new: Vec<String> =
            units().into_iter().map(|(name, _)| name).filter(|name| !before(name)).collect();
        for verb in [&["kill", "--signal=KILL"][..], &["stop"], &["reset-failed"]] {
            // What is not there any more need not be stopped.
            let _ = Command::new("systemctl").args(verb).args(&new).output();
        }
        // Pods need not be units.
        for line in Self::now().0.difference(&self.0) {
            let pid = line.strip_prefix("process ").and_then(|rest| rest.split(' ').next());
            if let Some(pid) = pid.and_then(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Lists all units that are up, have failed, or are on their way, but devices; with their state.
fn units() -> Vec<(String, String)> {
    let mut command = Command::new("systemctl");
    let said = command.args(["list-units", "--plain", "--no-legend", "--full"]).output();
    let said = said.expect("systemctl is installed");
    assert!(said.status.success(), "systemd does not answer");
    let text = String::from_utf8_lossy(&said.stdout);
    let unit = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let state = words.nth(1)?.to_owned();
        let ours = !is_on_demand(&name) && !is_of_the_kernel(&name);
        ours.then_some((name, state))
    };
    text.lines().filter_map(unit).collect()
}

fn is_on_demand(name: &str) -> bool {
    ON_DEMAND.contains(&name)
}

/// Devices come and go with the kernel, and so do mounts in `/proc`.
fn is_of_the_kernel(name: &str) -> bool {
    name.ends_with(".device") || name.ends_with(".automount")
}

/// Adds every cgroup beneath `directory`.
fn cgroups(directory: &Path, seen: &mut BTreeSet<String>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if !entry.file_name().to_str().is_some_and(is_on_demand) {
            seen.insert(format!("cgroup {}", entry.path().display()));
        }
        cgroups(&entry.path(), seen);
    }
}

/// Adds every process that is not the kernel's, not the machine's own, and not beneath us.
fn processes(seen: &mut BTreeSet<String>) {
    let own = cgroup_of("self");
    for pid in names(Path::new("/proc")).iter().filter(|name| name.parse::<u32>().is_ok()) {
        let cgroup = cgroup_of(pid);
        let unit = cgroup.rsplit('/').next().unwrap_or_default();
        let alive = fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        if alive && !is_on_demand(unit) && (cgroup != own || !is_ours(pid)) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            seen.insert(format!("process {pid} ({}) in {cgroup}", name.trim()));
        }
    }
}

/// Tells whether a process is this one or a child of it, such as the `systemctl` that is looking.
fn is_ours(pid: &str) -> bool {
    let own = std::process::id().to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    pid == own || parent.is_some_and(|parent| parent.trim() == own)
}

fn cgroup_of(pid: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
