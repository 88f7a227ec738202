//! A hundred SIGKILLs at random moments of fetch, prepare and run, to any process of ours.
//!
//! Afterwards `pod gc` leaves a clean host, `fsck` is content, and every image that is reported as
//! fetched is whole. The moments come from a seeded generator and are printed with a failure, so
//! that a bad one can be tried again; how far the victim has come by then is the machine's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
use tests::random::Random;
use tests::registry::Registry;
use tests::require;
use tests::said::Running;
use tests::sandbox::Sandbox;

/// How many processes are killed, in all rounds together.
const KILLS: u32 = 100;

/// What is fetched: one image, from a layout and, where there is one, from a registry.
#[derive(Debug)]
struct Victims {
    references: Vec<String>,
    _registry: Option<Registry>,
}

/// Three layers of a few megabytes, so that a fetch takes long enough to be met in the middle.
fn victims(sandbox: &Sandbox) -> Victims {
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    let mut random = Random::fixed();
    let mut noise =
        || -> Vec<u8> { (0..1 << 19).flat_map(|_| random.below(1 << 31).to_le_bytes()).collect() };
    let image = Image::new()
        .layer(Layer::new().file("probe", 0o755, &probe))
        .layer(Layer::new().file("noise-1", 0o644, &noise()))
        .layer(Layer::new().file("noise-2", 0o644, &noise()));
    let mut references = vec![sandbox.image("victim", &image)];
    let there = require::program("docker-registry", "fetches from a registry are killed, too");
    let registry = there.then(|| sandbox.registry());
    if let Some(registry) = &registry {
        let pushed = registry.push(&sandbox.path("layout"), "victim", "victim:1");
        references.push(pushed.expect("skopeo pushes"));
    }
    Victims { references, _registry: registry }
}

/// Starts one of the commands that are killed; one in three begins with an empty store.
fn start(sandbox: &Sandbox, reference: &str, round: u64) -> (Running, u64) {
    let args: &[&str] = match round % 4 {
        0 => &["fetch", reference],
        1 => &["prepare", reference, "/probe", "exit", "0"],
        2 => &["run", "--rm", reference, "/probe", "wait"],
        _ => &["run", "-d", reference, "/probe", "wait"],
    };
    // Milliseconds within which the kill comes: a fetch takes longer than a start.
    let window = if round.is_multiple_of(4) { 400 } else { 60 };
    (sandbox.call().args(args).start(), window)
}

/// Kills one process of the sandbox, chosen by `random`; tells whether there was one.
fn kill_one(sandbox: &Sandbox, random: &mut Random) -> bool {
    let processes = sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default();
    let there = !processes.is_empty();
    there && kill(Pid::from_raw(*random.one_of(&processes)), Signal::SIGKILL).is_ok()
}

#[test]
fn a_hundred_kills_leave_nothing_that_gc_does_not_clean() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.expect_debris();
    let victims = victims(&sandbox);
    let mut random = Random::of_the_environment();
    let (mut killed, mut round) = (0, 0);
    while killed < KILLS {
        round += 1;
        assert!(round < 20 * u64::from(KILLS), "only {killed} processes could be killed");
        let reference = random.one_of(&victims.references);
        if random.below(3) == 0 {
            let _ = sandbox.pod(["image", "rm", reference]);
            let _ = sandbox.pod(["image", "gc"]);
        }
        let (running, window) = start(&sandbox, reference, round);
        // A command that has ended by now is never seen to have begun, which does no harm.
        let _ = sandbox.cgroup().is_none_or(|cgroup| cgroup.fills(1_000));
        let moment = random.below(window * 1000);
        // The moment is the point of the test; nothing can be waited for.
        thread::sleep(Duration::from_micros(moment));
        killed += u32::from(kill_one(&sandbox, &mut random));
        // Whoever survived the kill of another is ended, too: by its own means where it can.
        let pids = sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default();
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let drained = sandbox.cgroup().is_none_or(|cgroup| cgroup.drains(20_000));
        let left = sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default();
        assert!(drained, "round {round}, {moment} us: {left:?} do not end");
        let _ = running.wait();
        if round.is_multiple_of(10) {
            check(&sandbox, &victims, round);
        }
    }
    sandbox.pod(["image", "fsck", "-q"]).success();
    check(&sandbox, &victims, round);
    for reference in &victims.references {
        sandbox.pod(["fetch", reference]).success();
        let listed = sandbox.pod(["image", "ls", "-o", "json"]).raw;
        assert!(listed.contains(reference), "{reference} is not in {listed}");
    }
    check(&sandbox, &victims, round);
}

/// The calls that make names and take them away: whoever dies in one of them leaves half of something.
const NAMING: [&str; 4] = ["mkdirat", "symlinkat", "renameat", "unlinkat"];
/// At how many of each a process is killed.
const DEATHS: u32 = 5;

/// A kill by the clock hardly ever hits the moment between two calls; this one comes in the call.
#[test]
fn a_death_in_a_call_that_makes_or_removes_a_name_leaves_nothing() {
    if !require::root("a pod takes namespaces")
        || !require::program("strace", "it kills in a call that is chosen")
    {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.expect_debris();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["fetch", "-q", &image]).success();
    // Each process counts its own calls; the first to come so far dies in it.
    let counted = |call| (1..=DEATHS).map(move |at| format!("{call}:signal=KILL:when={at}"));
    for death in NAMING.into_iter().flat_map(counted) {
        for words in [&["run", "-d"][..], &["run", "--rm"]] {
            let inject = format!("inject={death}");
            let traced = ["-f", "-qq", "-o", "/dev/null", "-e", inject.as_str()];
            let traced = sandbox.program("strace").args(traced);
            let traced = traced.args([sandbox.programs().path("pod")]).args(words);
            let _ = traced.args([image.as_str(), "/probe", "exit", "0"]).run();
            assert!(sandbox.cgroup().is_none_or(|cgroup| cgroup.drains(20_000)), "{death}");
            sandbox.pod(["gc"]).success();
            let leaks = sandbox.leaks();
            assert!(leaks.is_empty(), "{words:?}, {death}:\n  {}", leaks.join("\n  "));
        }
    }
}

#[test]
fn a_run_directory_that_somebody_died_over_is_known_by_its_name() {
    let sandbox = Sandbox::new();
    sandbox.pod(["ps"]).success();
    let root = fs::metadata(sandbox.path("root")).expect("it was made");
    let id = "00000000-0000-4000-8000-000000000000";
    let ours = sandbox.path(&format!("run/{id}~{}:{}", root.dev(), root.ino()));
    let others = sandbox.path(&format!("run/{id}~{}:0", root.dev()));
    for directory in [&ours, &others] {
        fs::create_dir_all(directory).expect("the sandbox can be written");
    }
    sandbox.pod(["gc"]).success();
    assert!(!ours.exists(), "whoever made it is dead, and so is its pod");
    assert!(others.exists(), "it belongs to another root");
    fs::remove_dir(&others).expect("it is empty");
}

fn check(sandbox: &Sandbox, victims: &Victims, round: u64) {
    sandbox.pod(["gc"]).success();
    let fsck = sandbox.pod(["image", "fsck", "--quick"]);
    assert_eq!(fsck.code, 0, "round {round}: {fsck}");
    let images: Value = sandbox.pod(["image", "ls", "-o", "json"]).json();
    let listed = images.to_string();
    for reference in victims.references.iter().filter(|reference| listed.contains(*reference)) {
        let args = ["run", "--rm", "--pull", "never", reference, "/probe", "exit", "0"];
        let said = sandbox.pod(args);
        assert_eq!(said.code, 0, "round {round}: an image that is listed runs: {said}");
    }
    // `pod gc` keeps what can still be started: what was prepared in time.
    let prepared = sandbox.pod(["ps", "-a", "-q"]);
    let ids: Vec<String> = prepared.raw.lines().map(str::to_owned).collect();
    prepared.success();
    for id in ids {
        sandbox.pod(["rm", &id]).success();
    }
    let leaks = sandbox.leaks();
    assert!(leaks.is_empty(), "round {round}:\n  {}", leaks.join("\n  "));
}
