//! Limits that change while a pod runs, what it uses, and pods that stand still.

use std::fs;
use std::thread;
use std::time::Duration;

use pod_abi::status::AppState;
use serde_json::{Value, json};
use tests::sandbox::Sandbox;

use super::limited::Wanted;

const MIB: u64 = 1 << 20;
const SLEEPS: &str = "sleep 1000";
const SPINS: &str = "while true; do true; done";

#[test]
fn limits_that_change_are_in_force_at_once_and_new_controllers_come() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "change")
        .app("web", json!({ "memory": 32 * MIB }), SLEEPS)
        .app("other", json!({}), SLEEPS)
        .start();
    let flags = ["--memory", "48m", "--memory-swap", "48m", "--cpus", "0.5", "--cpuset-cpus", "1"];
    let words = [&["update", "change", "--app", "web", "--pids-limit", "12"][..], &flags].concat();
    pod.pod(&words).success();
    let expected = [
        ("memory.max", (48 * MIB).to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("cpu.max", "50000 100000".to_owned()),
        ("cpuset.cpus", "1".to_owned()),
        ("pids.max", "12".to_owned()),
    ];
    for (file, value) in expected {
        assert_eq!(pod.leaf("web", file), value, "{file}");
    }
    assert_eq!(pod.leaf("other", "memory.max"), "max");
    assert_eq!(pod.leaf("other", "cpuset.cpus"), "");
}

#[test]
fn a_change_of_which_a_part_cannot_be_had_changes_nothing() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "nothing")
        .app("web", json!({ "memory": 32 * MIB, "pids": 20, "cpuWeight": 50 }), SLEEPS)
        .start();
    let words = ["update", "nothing", "--app", "web", "--memory", "64m", "--cpu-weight", "70"];
    let said = pod.pod(&[&words[..], &["--cpuset-cpus", "0,9"]].concat());
    said.refuses(1, &["processors 0,9 are not all there", "hint: choose from 0-1"]);
    for (file, value) in [
        ("memory.max", (32 * MIB).to_string()),
        ("pids.max", "20".to_owned()),
        ("cpu.weight", "50".to_owned()),
        ("cpuset.cpus", String::new()),
    ] {
        assert_eq!(pod.leaf("web", file), value, "{file}");
    }
}

#[test]
fn memory_that_is_in_use_is_not_killed_for() {
    let machine = Sandbox::of_this_machine();
    // Files in memory cannot be given back; those on the disk can.
    let holds = "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 && echo held && exec sleep 1000";
    let caches =
        "dd if=/dev/zero of=/file bs=1M count=48 && sync && echo cached && exec sleep 1000";
    let pod = Wanted::new(&machine, "inuse")
        .app("holds", json!({ "memory": 64 * MIB }), holds)
        .app("caches", json!({ "memory": 64 * MIB }), caches)
        .start();
    let used = |app: &str| pod.leaf(app, "memory.current").parse::<u64>().unwrap_or(0);
    pod.wait_for("both use it", || {
        (used("holds") > 24 * MIB && used("caches") > 40 * MIB).then_some(())
    });
    thread::sleep(Duration::from_secs(2));
    let update = |app| {
        pod.pod(&["update", "inuse", "--app", app, "--memory", "16m", "--memory-swap", "16m"])
    };
    update("holds").refuses(1, &["app `holds` cannot be limited: it uses", "hint: give it more"]);
    assert_eq!(pod.leaf("holds", "memory.max"), (64 * MIB).to_string());
    assert_eq!(pod.leaf("holds", "memory.high"), "max");
    update("caches").success();
    assert_eq!(pod.leaf("caches", "memory.max"), (16 * MIB).to_string());
    assert!(used("caches") <= 16 * MIB);
    for app in ["holds", "caches"] {
        assert_eq!(pod.app(app).state, AppState::Running);
        assert_eq!(pod.count(app, "memory.events", "oom_kill"), 0);
    }
}

#[test]
fn limits_of_a_pod_change_beneath_a_unit_that_is_not_ours() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "beneath").app("web", json!({}), SLEEPS).start();
    pod.pod(&["update", "beneath", "--pids-limit", "25"]).success();
    let read = |file: &str| fs::read_to_string(pod.leaves().join(file)).unwrap_or_default();
    assert_eq!(read("pids.max"), "25\n");
    let said = pod.pod(&["update", "beneath", "--cpu-weight", "300"]);
    said.refuses(1, &["its unit has another share", "hint: set `CPUWeight=300` in the unit"]);
}

#[test]
fn what_is_used_is_counted_for_the_pod_and_for_each_app() {
    let machine = Sandbox::of_this_machine();
    let writes = "dd if=/dev/zero of=/file bs=1M count=8 && sync; exec sleep 1000";
    let pod = Wanted::new(&machine, "counted")
        .app("spins", json!({ "memory": 32 * MIB, "pids": 9 }), SPINS)
        .app("writes", json!({}), writes)
        .start();
    let stats = || -> Value {
        let said = pod.pod(&["stats", "--no-stream", "-o", "json", "counted"]);
        said.json::<Vec<Value>>().remove(0)
    };
    let usage = |stats: &Value, app: &str| {
        let apps = stats["apps"].as_array().cloned().unwrap_or_default();
        let found = apps.into_iter().find(|known| known["app"] == app);
        found.map(|found| found["usage"].clone()).unwrap_or_default()
    };
    pod.wait_for("it has written", || {
        let bytes = usage(&stats(), "writes")["writeBytes"].as_u64()?;
        (bytes >= 8 * MIB).then_some(())
    });
    let (first, second) = (stats(), stats());
    let spins = usage(&second, "spins");
    assert_eq!(spins["memoryMax"], 32 * MIB);
    assert_eq!(spins["pidsMax"], 9);
    assert_eq!((&spins["pids"], &spins["oomKills"]), (&json!(1), &json!(0)));
    assert!(spins["memory"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 32 * MIB));
    assert!(spins["cpuUs"].as_u64() > usage(&first, "spins")["cpuUs"].as_u64());
    assert_eq!(usage(&second, "writes").get("memoryMax"), None, "it has no limit");
    let whole = &second["usage"];
    assert!(whole["cpuUs"].as_u64() >= spins["cpuUs"].as_u64());
    assert!(whole["pids"].as_u64().is_some_and(|pids| pids >= 4), "{whole}");
}

#[test]
fn a_paused_pod_takes_no_time_and_can_be_ended() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "still").app("web", json!({}), SPINS).start();
    pod.pod(&["pause", "still"]).success();
    assert!(pod.status().paused);
    let spent = || pod.count("web", "cpu.stat", "usage_usec");
    let before = spent();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(spent(), before);
    let events = fs::read_to_string(pod.leaves().join("cgroup.events")).unwrap_or_default();
    assert!(events.contains("frozen 1"), "{events}");
    pod.pod(&["unpause", "still"]).success();
    pod.wait_for("it goes on", || (spent() > before).then_some(()));
    pod.pod(&["pause", "still"]).success();
    machine.program("systemctl").args(["kill", "--signal=KILL", "still"]).run().success();
    pod.wait_for("it is gone", || (!pod.unit().exists()).then_some(()));
}
