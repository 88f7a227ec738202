//! Where pods are in the tree of cgroups, and what a limit means there.

use std::fs;
use std::thread;
use std::time::Duration;

use pod_abi::status::AppState;
use serde_json::json;
use tests::sandbox::Sandbox;

use super::limited::{CGROUPS, Limited, Wanted};

const MIB: u64 = 1 << 20;
const SLEEPS: &str = "sleep 1000";

/// Lists all directories of a unit, as paths beneath its own.
fn tree(pod: &Limited<'_>) -> Vec<String> {
    let (root, mut left, mut found) = (pod.unit(), vec![pod.unit()], Vec::new());
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let children: Vec<_> =
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        let name = |path: &std::path::PathBuf| {
            path.strip_prefix(&root).map(|path| path.display().to_string()).unwrap_or_default()
        };
        found.extend(children.iter().map(name));
        left.extend(children);
    }
    found.sort();
    found
}

#[test]
fn the_pod_of_a_unit_is_in_its_directory() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "tree")
        .app("a", json!({}), SLEEPS)
        .app("b", json!({}), SLEEPS)
        .start();
    let whole = ["pod", "pod/app-a", "pod/app-b", "pod/init", "supervisor"];
    assert_eq!(tree(&pod), whole);
    let status = pod.status();
    assert_eq!(status.cgroup.as_deref(), Some("/system.slice/tree.service/pod"));
    let members = |leaf: &str| fs::read_to_string(pod.unit().join(leaf).join("cgroup.procs"));
    // Beside it there may be, for a moment, who tells machined of the pod.
    let alone = format!("{}\n", status.supervisor);
    let is_alone = |_| {
        thread::sleep(Duration::from_millis(100));
        members("supervisor").is_ok_and(|members| members == alone)
    };
    assert!((0..100).any(is_alone), "{:?}", members("supervisor"));
    let init = status.init.expect("it runs");
    assert_eq!(members("pod/init").ok(), Some(format!("{init}\n")));
    assert_eq!(fs::read_to_string(pod.unit().join("cgroup.procs")).ok().as_deref(), Some(""));
    // What each app uses is counted though nothing is limited.
    assert!(pod.leaf("a", "memory.current").parse::<u64>().is_ok_and(|bytes| bytes > 0));
}

#[test]
fn nobody_is_moved_but_the_supervisor_once() {
    let machine = Sandbox::of_this_machine();
    let shell = |line: &str| machine.program("sh").args(["-c", line]).run().success();
    let _ = machine.fixture(tests::fixtures::Fixture::App);
    shell("mount -t tracefs tracefs /mnt && echo 1 >/mnt/events/cgroup/cgroup_attach_task/enable");
    let pod = Wanted::new(&machine, "moves")
        .app("a", json!({ "pids": 50 }), SLEEPS)
        .app("b", json!({}), SLEEPS)
        .start();
    pod.pod(&["exec", "--app", "a", "moves", "true"]).success();
    let trace = shell("cat /mnt/trace");
    shell("echo 0 >/mnt/events/cgroup/cgroup_attach_task/enable; : >/mnt/trace; umount /mnt");
    let to = trace.lines().filter_map(|line| line.split("dst_path=").nth(1));
    let to = to.filter_map(|rest| rest.split(' ').next());
    let unit = "/system.slice/moves.service";
    // What systemd itself has put there is not of ours.
    let moves: Vec<&str> = to.filter(|path| path.contains(unit) && *path != unit).collect();
    assert_eq!(moves, [format!("{unit}/supervisor")], "{trace}");
}

#[test]
fn a_unit_that_comes_back_is_limited_again_and_its_old_pod_takes_nothing_away() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "back")
        .properties(&["Delegate=yes", "Restart=always", "RestartSec=100ms"])
        .app("web", json!({ "memory": 32 * MIB, "pids": 9 }), SLEEPS)
        .start();
    let first = pod.status();
    machine.program("systemctl").args(["kill", "--signal=KILL", "back"]).run().success();
    let second = pod.wait_for("it is back", || {
        let told = machine.status_if_told("back");
        told.filter(|status| status.supervisor != first.supervisor)
    });
    pod.wait_for("it runs", || (pod.app("web").state == AppState::Running).then_some(()));
    assert_eq!(second.cgroup, first.cgroup);
    assert_eq!(pod.leaf("web", "memory.max"), (32 * MIB).to_string());
    assert_eq!(pod.leaf("web", "pids.max"), "9");
    pod.pod(&["gc", "--grace", "0"]).success();
    assert_eq!(pod.app("web").state, AppState::Running);
    assert_eq!(tree(&pod), ["pod", "pod/app-web", "pod/init", "supervisor"]);
}

#[test]
fn where_systemd_keeps_its_hands_on_a_limit_is_refused() {
    let machine = Sandbox::of_this_machine();
    let limits =
        [json!({ "memory": 32 * MIB }), json!({ "cpuWeight": 5 }), json!({ "cpusetCpus": "0" })];
    for limit in limits {
        let wanted = Wanted::new(&machine, "held").properties(&[]);
        let said = wanted.app("web", limit, SLEEPS).refused();
        assert!(said.contains("app `web` cannot be limited"), "{said}");
        assert!(said.contains("Delegate=yes"), "{said}");
    }
    // Without one it runs, in a directory of its own.
    let pod = Wanted::new(&machine, "unheld").properties(&[]).app("web", json!({}), SLEEPS).start();
    let recorded = pod.status().cgroup.expect("it has one");
    assert!(recorded.starts_with("/system.slice/unheld.service/pod-"), "{recorded}");
    assert!(fs::exists(format!("{CGROUPS}{recorded}/pod/app-web")).is_ok_and(|there| there));
}

#[test]
fn what_a_pod_is_limited_to_holds_for_all_of_it() {
    let machine = Sandbox::of_this_machine();
    let cpu = json!({ "quotaUs": 50_000, "periodUs": 100_000 });
    let hog = "sleep 1; exec tail /dev/zero";
    let pod = Wanted::new(&machine, "whole")
        .field("resources", json!({ "memory": 48 * MIB, "pids": 40, "cpu": cpu }))
        .app("hog", json!({}), hog)
        .app("other", json!({}), SLEEPS)
        .start();
    let read = |file: &str| fs::read_to_string(pod.leaves().join(file)).unwrap_or_default();
    assert_eq!(read("memory.max"), format!("{}\n", 48 * MIB));
    assert_eq!(read("memory.swap.max"), "0\n");
    assert_eq!(read("pids.max"), "40\n");
    assert_eq!(read("cpu.max"), "50000 100000\n");
    pod.end_of("hog");
    assert_eq!(pod.app("other").state, AppState::Running);
    let unit = fs::read_to_string(pod.unit().join("memory.max"));
    assert_eq!(unit.ok().as_deref(), Some("max\n"), "the unit's own is systemd's");
}

#[test]
fn what_the_unit_says_is_not_said_twice() {
    let machine = Sandbox::of_this_machine();
    let limits = json!({ "memory": 64 * MIB, "pids": 40, "cpuWeight": 300 });
    let wanted = |name, weight| {
        Wanted::new(&machine, name)
            .properties(&[
                "Delegate=yes",
                "MemoryMax=64M",
                "MemorySwapMax=0",
                "TasksMax=30",
                weight,
            ])
            .field("resources", limits.clone())
            .app("web", json!({}), SLEEPS)
    };
    let pod = wanted("says", "CPUWeight=300").start();
    for file in ["memory.max", "memory.swap.max", "pids.max"] {
        let text = fs::read_to_string(pod.leaves().join(file));
        assert_eq!(text.ok().as_deref(), Some("max\n"), "{file}");
    }
    // A share counts against what is beside the unit, so nobody else can give it.
    let said = wanted("shares", "CPUWeight=200").refused();
    assert!(said.contains("the pod cannot be limited: its unit has another share"), "{said}");
    assert!(said.contains("hint: set `CPUWeight=300` in the unit"), "{said}");
}

#[test]
fn devices_are_denied_in_the_leaf_of_a_unit() {
    let machine = Sandbox::of_this_machine();
    let pod =
        Wanted::new(&machine, "devices").flags(&["--userns", "host"]).app("web", json!({}), SLEEPS);
    let pod = pod.capability("CAP_MKNOD").start();
    let tries = "mknod /dev/mine c 1 3 && cat /dev/mine && echo null; mknod /dev/disk b 259 0; \
                 head -c1 /dev/disk >/dev/null && echo disk; true";
    let said = pod.pod(&["exec", "devices", "sh", "-c", tries]);
    assert_eq!(said.stdout, "null\n", "{said}");
}
