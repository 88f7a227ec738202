//! Many pods: twenty at one moment, two thousand in a row, a hundred alive at once. All run, none
//! leaks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::fixtures::Fixture;
use tests::programs::Programs;
use tests::require;
use tests::sandbox::Sandbox;

#[test]
fn twenty_pods_start_at_one_moment() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let runs: Vec<_> = (0..20)
        .map(|number| {
            let word = format!("pod {number}");
            (sandbox.call().args(["run", "--rm", &image, "echo", &word]).start(), word)
        })
        .collect();
    for (run, word) in runs {
        assert_eq!(run.wait().success().trim(), word);
    }
}

#[test]
fn twenty_pods_live_beside_each_other() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["fetch", &image]).success();
    let starts: Vec<_> = (0..20)
        .map(|number| {
            let name = format!("pod-{number}");
            let args = ["run", "-d", "--name", &name, &image, "/probe", "wait"];
            (sandbox.call().args(args).start(), name)
        })
        .collect();
    let names: Vec<String> = starts
        .into_iter()
        .map(|(start, name)| {
            start.wait().success();
            name
        })
        .collect();
    let listed = sandbox.pod(["ps", "-q"]).success();
    assert_eq!(listed.lines().count(), 20, "{listed}");
    sandbox.call().args(["stop", "-t", "2"]).args(&names).run().success();
    assert_eq!(sandbox.pod(["ps", "-q"]).success(), "");
}

/// Returns the sandbox of the release build if there is one: two thousand starts of the debug build
/// would take most of the suite's time.
fn fast_sandbox() -> Sandbox {
    let release = Programs::of_this_build().directory().with_file_name("release");
    let there = release.join("stage1/ns/stage1-ns").is_file() && release.join("sandbox").is_file();
    if there { Sandbox::with(Programs::beneath(&release)) } else { Sandbox::new() }
}

/// Counts what a sandbox holds on disk and in its cgroup.
fn holdings(sandbox: &Sandbox) -> (usize, usize) {
    fn entries(directory: &Path) -> usize {
        let inner = fs::read_dir(directory).into_iter().flatten().flatten();
        let sizes = inner.map(|entry| {
            let kind = entry.file_type();
            1 + if kind.is_ok_and(|kind| kind.is_dir()) { entries(&entry.path()) } else { 0 }
        });
        sizes.sum()
    }
    let cgroups = sandbox.cgroup().map_or(0, |cgroup| cgroup.children().len());
    let disk = ["root/pods", "root/names", "root/images/leases", "root/images/tmp", "run", "tmp"];
    (disk.iter().map(|place| entries(&sandbox.path(place))).sum(), cgroups)
}

#[test]
fn two_thousand_pods_run_in_a_row_and_leave_the_host_as_it_was() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    const RUNS: u32 = 2_000;
    let sandbox = fast_sandbox();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.programs().path("pod").display().to_string();
    let script = "for i in $(seq \"$3\"); do \"$1\" run --rm \"$2\" true || exit 1; done";
    // One shell for all: what a test itself costs would be most of it. It is given ten times what
    // a start takes on a busy machine.
    let run = |count: u32| {
        let count = count.to_string();
        let words = ["-c", script, "sh", &pod, &image, &count];
        let patience = Duration::from_secs(600);
        sandbox.program("sh").args(words).patience(patience).run().success();
    };
    run(20);
    let before = holdings(&sandbox);
    run(RUNS - 20);
    assert_eq!(holdings(&sandbox), before, "files and cgroups before and after");
    assert!(sandbox.cgroup().is_none_or(|cgroup| cgroup.processes().is_empty()));
}

#[test]
fn a_hundred_pods_live_at_once() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    const PODS: u32 = 100;
    const AT_ONCE: usize = 10;
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    for batch in names.chunks(AT_ONCE) {
        let start = |name: &String| {
            let args = ["run", "-d", "--name", name, &image, "/probe", "wait"];
            sandbox.call().args(args).start()
        };
        let starts: Vec<_> = batch.iter().map(start).collect();
        starts.into_iter().for_each(|start| drop(start.wait().success()));
    }
    let listed = sandbox.pod(["ps", "-q"]).success();
    assert_eq!(listed.lines().count(), names.len(), "{listed}");
    if let Some(cgroup) = sandbox.cgroup() {
        let processes = cgroup.processes();
        let held: u64 = processes.iter().map(|pid| pss(*pid)).sum();
        println!("{PODS} pods: {} processes, {} MiB", processes.len(), held >> 10);
    }
    for (name, word) in [("pod-0", "first"), ("pod-99", "last")] {
        assert_eq!(sandbox.pod(["exec", name, "echo", word]).success().trim(), word);
    }
    sandbox.call().args(["stop"]).args(&names).run().success();
    assert_eq!(sandbox.pod(["ps", "-q"]).success(), "");
}

/// Returns the proportional set size of a process in KiB; 0 if it has just ended.
fn pss(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
