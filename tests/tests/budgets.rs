//! Figures that are promised: memory of a sleeping pod, system calls of a start, and that a start
//! does not grow with the image. All are counted, none is timed, and on the programs as they are
//! installed. `docs/budgets.md` explains each.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
use tests::programs::Programs;
use tests::require::{self, Met};
use tests::sandbox::Sandbox;

/// The most that supervisor and stage2-init of one pod may hold together, in KiB of PSS.
const MEMORY_KIB: u64 = 4 << 10;
/// The most system calls of stage1 and its helpers from `execve` to the end, for one app.
const STAGE1_CALLS: u64 = 400;

/// The sandbox of a test for the release build, if it is there.
fn sandbox(reason: &str) -> Option<Sandbox> {
    if !require::root("a pod takes namespaces") {
        return None;
    }
    let debug = Programs::of_this_build();
    let release = debug.directory().with_file_name("release");
    let there = if release.join("stage1/ns/stage1-ns").is_file() { Met::Yes } else { Met::No };
    require::that(there, "the release build of `cargo xtask build --release`", reason)
        .then(|| Sandbox::with(Programs::beneath(&release)))
}

/// Returns the proportional set size of a process in KiB (`proc_pid_smaps(5)`).
fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.unwrap_or_else(|| panic!("process {pid} has no PSS:\n{rollup}"))
}

#[test]
fn a_sleeping_pod_costs_at_most_four_mebibytes() {
    let Some(sandbox) = sandbox("memory is promised of the programs as installed") else { return };
    let pod = sandbox.detached("asleep", [&sandbox.fixture(Fixture::App), "sleep", "1000"]);
    // The promise is about five seconds after the start, when everything has settled.
    thread::sleep(Duration::from_secs(5));
    let status = pod.status();
    let (supervisor, init) = (pss(status.supervisor), pss(status.init.expect("it runs")));
    assert!(
        supervisor + init <= MEMORY_KIB,
        "supervisor {supervisor} KiB and stage2-init {init} KiB are more than {MEMORY_KIB} KiB"
    );
}

/// Counts the system calls of stage1 and its helpers in `strace -ff` traces.
///
/// A process begins as what forked it and goes on as what it executes. Those that execute nothing,
/// or stage2-init, began as stage1; those that execute an app began as stage2-init.
fn calls_of_stage1(traces: &Path) -> u64 {
    let mut calls = 0;
    for entry in fs::read_dir(traces).expect("strace wrote it").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let executes = |line: &str| line.starts_with("execve(") || line.starts_with("execveat(");
        let first = text.lines().find(|line| executes(line));
        let mut ours = first.is_none_or(|line| line.contains("\"stage2-init\""));
        for line in text.lines().filter(|line| !line.starts_with(['+', '-'])) {
            if executes(line) && line.ends_with("= 0") {
                ours = line.contains("stage1-ns");
            }
            calls += u64::from(ours);
        }
    }
    calls
}

/// Starts a prepared pod under strace and returns the directory of its traces.
fn traced(sandbox: &Sandbox, image: &str, name: &str) -> std::path::PathBuf {
    sandbox.pod(["prepare", "--name", name, image, "/probe", "exit", "0"]).success();
    let traces = sandbox.path(&format!("traces-{name}"));
    fs::create_dir(&traces).expect("the sandbox can be written");
    let pod = sandbox.programs().path("pod");
    sandbox
        .program("strace")
        .args(["-ff", "-qq", "-o"])
        .args([traces.join("trace").as_path(), &pod])
        .args(["start", name])
        .run()
        .success();
    traces
}

#[test]
fn a_start_takes_at_most_four_hundred_system_calls_in_stage1() {
    let Some(sandbox) = sandbox("system calls are promised of the programs as installed") else {
        return;
    };
    if !require::program("strace", "system calls are counted with it") {
        return;
    }
    // A loop that wakes twice for what could have come together adds a few; the least of three
    // starts is what a start takes.
    let image = sandbox.fixture(Fixture::Scratch);
    let count = |name| calls_of_stage1(&traced(&sandbox, &image, name));
    let calls = ["first", "second", "third"].into_iter().map(count).min().unwrap_or(0);
    println!("stage1 and its helpers made {calls} system calls");
    assert!((1..=STAGE1_CALLS).contains(&calls), "stage1 and its helpers made {calls} calls");
}

/// Counts all system calls in `traces`, those of the app included, and how many of them mount.
fn totals(traces: &Path) -> (u64, u64) {
    let (mut all, mut mounts) = (0, 0);
    for entry in fs::read_dir(traces).expect("strace wrote it").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with(['+', '-'])) {
            all += 1;
            let mounting = ["mount(", "move_mount(", "open_tree(", "fsmount(", "mount_setattr("];
            mounts += u64::from(mounting.iter().any(|call| line.starts_with(call)));
        }
    }
    (all, mounts)
}

#[test]
fn a_start_does_not_grow_with_the_image() {
    let Some(sandbox) = sandbox("starts are promised of the programs as installed") else { return };
    if !require::program("strace", "system calls are counted with it") {
        return;
    }
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    let image = |megabytes: usize| {
        let mut layer = Layer::new().file("probe", 0o755, &probe).dir("data/", 0o755);
        let content = vec![0; 1 << 20];
        for number in 0..megabytes {
            layer = layer.file(&format!("data/{number}"), 0o644, &content);
        }
        Image::new().layer(layer).set("Cmd", json!(["/probe"]))
    };
    let small = traced(&sandbox, &sandbox.image("small", &image(1)), "small");
    let large = traced(&sandbox, &sandbox.image("large", &image(500)), "large");
    let ((small, small_mounts), (large, large_mounts)) = (totals(&small), totals(&large));
    assert_eq!(small_mounts, large_mounts, "mounts");
    // What a start asks the clock or waits for differs from run to run by a few calls.
    assert!(large.abs_diff(small) * 20 <= small, "{small} and {large} system calls");
}
