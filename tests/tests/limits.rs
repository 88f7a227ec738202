//! Limits that change, counts of what is used, and pods that stand still, where the kernel has no
//! controllers: what of it needs none, and how the rest is refused.
//!
//! That limits hold is tested in a machine that has controllers.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixtures::Fixture;
use tests::require::{self, Met};
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// An app that never rests, and tells which signals it hears.
const BUSY: &str = "trap 'echo hup' HUP; echo up; while :; do :; done";

/// Microseconds on processors of everything in the sandbox.
fn used(sandbox: &Sandbox) -> u64 {
    let cgroup = sandbox.cgroup().expect("a sandbox on a host with cgroups has one");
    let text = fs::read_to_string(cgroup.path().join("cpu.stat")).expect("it is counted");
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    usage.and_then(|usage| usage.parse().ok()).expect("time is counted in every cgroup")
}

fn has_cgroups(sandbox: &Sandbox) -> bool {
    let there = if sandbox.cgroup().is_some() { Met::Yes } else { Met::No };
    require::that(there, "cgroup v2", "its freezer stops processes and it counts their time")
}

#[test]
fn a_paused_pod_stands_still_until_it_goes_on() {
    let sandbox = sandbox!();
    if !has_cgroups(&sandbox) {
        return;
    }
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("busy", [&image, "sh", "-c", BUSY]);
    pod.logs_until("up");
    assert_eq!(sandbox.pod(["pause", "busy"]).success(), "busy\n");
    let before = used(&sandbox);
    sleep(Duration::from_millis(400));
    // Looking at it costs something, a loop would have cost all of it.
    let cost = used(&sandbox) - before;
    assert!(cost < 100_000, "{cost} us of 400 ms");
    sandbox.pod(["pause", "busy"]).success();

    let paused = ["pod `busy` is paused", "`pod unpause busy` lets it go on"];
    sandbox.pod(["exec", "busy", "true"]).refuses(125, &paused);
    sandbox.pod(["attach", "busy"]).refuses(125, &paused);
    let copy = sandbox.path("copy").display().to_string();
    sandbox.pod(["cp", "busy:/etc/passwd", &copy]).refuses(1, &paused);
    sandbox.pod(["app", "stop", "busy", "app"]).refuses(1, &paused);
    sandbox.pod(["app", "rm", "busy", "app"]).refuses(1, &paused);
    // What takes no process of the pod goes on working.
    assert!(sandbox.pod(["ps"]).success().contains(", paused"));
    assert_eq!(sandbox.pod(["ps", "--format", "{{.State}}"]).success(), "paused\n");
    assert_eq!(sandbox.pod(["ps", "-qf", "status=paused"]).success().lines().count(), 1);
    let status = sandbox.pod(["status", "busy"]).success();
    assert!(status.contains("paused:") && status.contains("app  paused"), "{status}");
    assert!(sandbox.pod(["top", "busy"]).success().contains("sh -c"));
    sandbox.pod(["kill", "-s", "HUP", "busy"]).success();
    sandbox.pod(["kill", "-s", "HUP", "busy"]).success();
    sleep(Duration::from_millis(50));
    assert!(!sandbox.pod(["logs", "busy"]).success().contains("hup"));

    assert_eq!(sandbox.pod(["unpause", "--all"]).success().lines().count(), 1);
    pod.logs_until("hup");
    sandbox.pod(["unpause", "busy"]).success();
    sandbox.pod(["exec", "busy", "true"]).success();
    assert_eq!(sandbox.pod(["ps", "-qf", "status=paused"]).success(), "");
    let events = sandbox.pod(["events", "busy"]).success();
    let count = |word: &str| events.matches(word).count();
    assert_eq!((count("pod-paused"), count("pod-resumed")), (1, 1), "{events}");
    sandbox.pod(["rm", "-f", "busy"]).success();
    sandbox.pod(["pause", "busy"]).refuses(1, &["there is no pod `busy`"]);
}

#[test]
fn a_paused_pod_can_be_stopped_killed_removed_and_restarted() {
    let sandbox = sandbox!();
    if !has_cgroups(&sandbox) {
        return;
    }
    let image = sandbox.fixture(Fixture::App);
    // It ends in order, which it can only once it goes on.
    let quits = "trap 'echo bye; exit 0' TERM; echo up; while :; do read -t 1 x; done";
    let pod = sandbox.detached("web", [&image, "sh", "-c", quits]);
    pod.logs_until("up");
    sandbox.pod(["pause", "web"]).success();
    sandbox.pod(["stop", "web"]).success();
    assert!(sandbox.pod(["logs", "web"]).success().contains("bye"));
    sandbox.pod(["pause", "web"]).refuses(1, &["pod `web` does not run: it has ended"]);

    sandbox.pod(["start", "-d", "web"]).success();
    sandbox.pod(["pause", "web"]).success();
    sandbox.pod(["restart", "web"]).success();
    assert_eq!(sandbox.pod(["ps", "-qf", "status=paused"]).success(), "");

    sandbox.pod(["pause", "web"]).success();
    let begin = Instant::now();
    sandbox.pod(["kill", "web"]).success();
    assert_eq!(sandbox.pod(["wait", "web"]).success(), "137\n");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());

    sandbox.pod(["start", "-d", "web"]).success();
    sandbox.pod(["pause", "--all"]).success();
    sandbox.pod(["rm", "-f", "web"]).success();
    assert_eq!(sandbox.leaks(), Vec::<String>::new());
}

#[test]
fn what_pods_use_is_counted_as_far_as_the_kernel_counts() {
    let sandbox = sandbox!();
    if !has_cgroups(&sandbox) {
        return;
    }
    let image = sandbox.fixture(Fixture::App);
    let idle = [&image, "--name", "idle", "sleep", "100", "---"];
    let busy = [&image, "--name", "busy", "sh", "-c", BUSY];
    let pod = sandbox.detached("two", idle.iter().chain(&busy));
    pod.logs_until("up");
    let rows: Value =
        serde_json::from_str(&sandbox.pod(["stats", "--no-stream", "-o", "json"]).success())
            .unwrap();
    let row = &rows[0];
    assert_eq!((rows.as_array().unwrap().len(), &row["name"]), (1, &Value::from("two")));
    // One loop on one processor, which it may have to share with the rest of this host.
    let share = |value: &Value| value["cpuPercent"].as_f64().unwrap_or(-1.0);
    let app = |name: &str| {
        let apps = row["apps"].as_array().unwrap();
        apps.iter().find(|app| app["app"] == name).unwrap().clone()
    };
    let (whole, busy, idle) = (share(row), share(&app("busy")), share(&app("idle")));
    assert!((5.0..110.0).contains(&busy), "{row}");
    assert!((0.0..5.0).contains(&idle), "{row}");
    assert!(whole >= busy && whole < 150.0, "{row}");
    let used = app("busy")["usage"]["cpuUs"].as_u64().unwrap();
    assert!(used > 50_000 && used < 120_000_000, "{row}");

    let table = sandbox.pod(["stats", "--no-stream", "--apps", "two"]).success();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert_eq!((lines[1][2], lines[2][2], lines[3][2]), ("-", "idle", "busy"), "{table}");
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !there.contains("memory") {
        assert_eq!(lines[3][4..=6], ["-", "-", "-"], "{table}");
    }
    let line = sandbox.pod(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]).success();
    assert!(line.starts_with("two "), "{line}");
    sandbox.pod(["stats", "--no-stream", "--format", "{{.No}}"]).refuses(2, &["is no field"]);
    sandbox.pod(["stats", "--no-stream", "nosuch"]).refuses(1, &["there is no pod"]);
    sandbox.pod(["stop", "-t", "0", "two"]).success();
    sandbox.pod(["stats", "--no-stream", "two"]).refuses(1, &["does not run"]);
    let none = sandbox.pod(["stats", "--no-stream", "-o", "json"]).success();
    assert_eq!(none, "[]\n");
}

#[test]
fn a_stream_of_counts_ends_with_the_pods_that_were_named() {
    let sandbox = sandbox!();
    if !has_cgroups(&sandbox) {
        return;
    }
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("short", [&image, "sleep", "100"]);
    let stats = sandbox.call().args(["stats", "--json", "short"]).start();
    stats.wait_for("\"cpuPercent\"");
    pod.stop(&["-t", "0"]).success();
    let said = stats.wait().success();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|rows| rows[0]["name"] == "short"), "{said}");
}

#[test]
fn limits_of_a_pod_that_does_not_run_hold_from_its_next_start_on() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "web", &image, "touch", "/ran"]).success();
    let update = |words: &[&str]| sandbox.call().args(["update", "web"]).args(words).run();
    assert_eq!(update(&["--memory", "64m", "--cpus", "1.5"]).success(), "web\n");
    update(&["--memory-swap", "96m", "--pids-limit", "9"]).success();
    update(&["-c", "app", "--memory", "32m"]).success();
    update(&["-c", "app", "--memory-reservation", "16m", "--cpu-shares", "1024"]).success();
    let inspected: Value =
        serde_json::from_str(&sandbox.pod(["inspect", "web"]).success()).unwrap();
    let limits = serde_json::json!({
        "memory": 64 << 20, "swap": 32 << 20, "pids": 9,
        "cpu": { "quotaUs": 150_000, "periodUs": 100_000 },
    });
    assert_eq!(inspected["manifest"]["sandbox"]["resources"], limits);
    let of_app = serde_json::json!({ "memory": 32 << 20, "memoryLow": 16 << 20, "cpuWeight": 100 });
    assert_eq!(inspected["apps"][0]["resources"], of_app);
    let status = sandbox.pod(["status", "web"]).success();
    assert!(
        status.contains("limits:  memory 64.0 MiB, swap 32.0 MiB, cpus 1.5, pids 9"),
        "{status}"
    );
    assert!(status.contains("app app: memory 32.0 MiB"), "{status}");

    // What is refused changes nothing, however much of the line is sound.
    update(&[]).refuses(2, &["no limit is named", "--memory 1g"]);
    update(&["--pids-limit", "8", "--memory-swap", "1m"]).refuses(2, &["less than the memory"]);
    update(&["--cpus", "3", "-c", "app", "--memory", "8m"])
        .refuses(2, &["`--memory-reservation` would be above `--memory`"]);
    update(&["-c", "nosuch", "--cpus", "3"]).refuses(1, &["no app `nosuch`"]);
    update(&["--pod-memory", "1g"]).refuses(2, &["`pod update POD --memory 1g`"]);
    let again: Value = serde_json::from_str(&sandbox.pod(["inspect", "web"]).success()).unwrap();
    assert_eq!(again, inspected);

    // The start asks for them.
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let without = if there.contains("memory") { Met::No } else { Met::Yes };
    if require::that(without, "a host without controllers of cgroup v2", "limits are refused") {
        sandbox.pod(["start", "web"]).refuses(125, &["cannot be limited", "hint: "]);
    }
    for app in [&[][..], &["-c", "app"]] {
        let none = ["--memory", "-1", "--memory-swap", "-1", "--pids-limit", "-1", "--cpus", "-1"];
        update(&[app, &none].concat()).success();
    }
    update(&["-c", "app", "--memory-reservation", "1"]).success();
    let spec = sandbox.pod(["inspect", "--spec", "web"]).success();
    let spec: Value = serde_json::from_str(&spec).unwrap();
    assert_eq!(spec["sandbox"].get("resources"), None, "{spec}");
}

#[test]
fn a_limit_that_cannot_be_had_leaves_a_running_pod_as_it_is() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let without = if there.contains("memory") { Met::No } else { Met::Yes };
    if !require::that(without, "a host without controllers of cgroup v2", "limits are refused") {
        return;
    }
    let _pod = sandbox.detached("web", [&image, "sleep", "100"]);
    let before = sandbox.pod(["inspect", "web"]).success();
    for words in [
        &["update", "web", "--memory", "64m"][..],
        &["update", "web", "-c", "app", "--pids-limit", "9"],
    ] {
        let said = sandbox.call().args(words).run();
        said.refuses(1, &["cannot be limited", "hint: "]);
    }
    assert_eq!(sandbox.pod(["inspect", "web"]).success(), before);
    sandbox.pod(["exec", "web", "true"]).success();
    sandbox.pod(["rm", "-f", "web"]).success();
}
