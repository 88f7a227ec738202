//! SIGKILL for the supervisor, for PID 1 of a pod, for the client, for anybody: systemd and
//! `pod reap` leave nothing behind, and a restart policy of the unit brings the pod back.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::fixtures::Fixture;
use tests::random::Random;
use tests::sandbox::Sandbox;

use crate::wait::until;

fn systemctl(machine: &Sandbox, args: &[&str]) -> String {
    machine.program("systemctl").args(args).run().success()
}

/// Returns a property of the unit of pod `name`.
fn property(machine: &Sandbox, name: &str, property: &str) -> String {
    let unit = format!("pod-{name}.service");
    let said = systemctl(machine, &["show", "--value", "--property", property, &unit]);
    said.trim_end().to_owned()
}

#[test]
fn a_killed_supervisor_leaves_a_failed_unit_and_nothing_else() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let _pod = machine.detached("victim", [image.as_str(), "sleep", "1000"]);
    systemctl(&machine, &["kill", "--kill-who=main", "--signal=KILL", "pod-victim.service"]);
    until(|| property(&machine, "victim", "ActiveState") == "failed");
    assert_eq!(property(&machine, "victim", "Result"), "signal");
    assert!(machine.pod(["ps", "-a"]).success().contains("victim  exited"));
    // Removing the pod forgets the failure; that no process, cgroup or mount is left is looked
    // for by the sandbox before anything is collected.
    machine.pod(["rm", "victim"]).success();
}

#[test]
fn a_whole_unit_that_is_killed_leaves_nothing() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let _pod = machine.detached("victim", [image.as_str(), "sleep", "1000"]);
    systemctl(&machine, &["kill", "--kill-who=all", "--signal=KILL", "pod-victim.service"]);
    until(|| property(&machine, "victim", "ActiveState") == "failed");
    assert!(machine.pod(["ps", "-a"]).success().contains("victim  exited"));
    machine.pod(["rm", "victim"]).success();
}

#[test]
fn a_unit_that_restarts_on_failure_brings_the_pod_back() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let policy = ["--unit-property", "Restart=on-failure", "--unit-property", "RestartSec=100ms"];
    let args = [&policy[..], &[&image, "sleep", "1000"]].concat();
    let pod = machine.detached("phoenix", args);
    let main = property(&machine, "phoenix", "MainPID");
    systemctl(&machine, &["kill", "--kill-who=main", "--signal=KILL", "pod-phoenix.service"]);
    until(|| {
        property(&machine, "phoenix", "NRestarts") == "1"
            && property(&machine, "phoenix", "ActiveState") == "active"
    });
    assert_ne!(property(&machine, "phoenix", "MainPID"), main);
    assert!(pod.is_running());
    pod.exec(&[], &["true"]).success();
    // A stop that was asked for is no failure.
    pod.stop(&["-t", "0"]).success();
    assert_eq!(property(&machine, "phoenix", "ActiveState"), "inactive");
    machine.pod(["rm", "phoenix"]).success();
}

#[test]
fn a_killed_client_harms_no_pod() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let client = machine
        .call()
        .args(["run", "--name", "left", &image, "sh", "-c", "echo begun; sleep 1000"])
        .start();
    client.wait_for("begun");
    client.signal(Signal::SIGKILL);
    assert_eq!(client.wait().code, 137);
    assert_eq!(property(&machine, "left", "ActiveState"), "active");
    machine.pod(["exec", "left", "true"]).success();
    machine.pod(["stop", "-t", "0", "left"]).success();
    machine.pod(["rm", "left"]).success();
}

/// Every process in a unit of a pod.
fn processes_of_pods() -> Vec<i32> {
    fn collect(directory: &Path, pids: &mut Vec<i32>) {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            collect(&entry.path(), pids);
        }
    }
    let slice = PathBuf::from("/sys/fs/cgroup/machine.slice/machine-pods.slice");
    let mut pids = Vec::new();
    collect(&slice, &mut pids);
    pids
}

#[test]
fn sixty_kills_at_random_leave_nothing_that_gc_does_not_clean() {
    const KILLS: u32 = 60;
    /// How many pods there are at one moment, at most.
    const AT_ONCE: u32 = 4;
    let machine = Sandbox::of_this_machine();
    machine.expect_debris();
    let image = machine.fixture(Fixture::App);
    let mut random = Random::of_the_environment();
    let (mut killed, mut round) = (0, 0);
    let name = |round: u32| format!("storm-{round}");
    let said = RefCell::new(String::new());
    let end = |round: u32| {
        // One that never came to be is not known.
        for verb in [&["stop", "-t", "0"][..], &["rm"]] {
            let ended = machine.call().args(verb).args([name(round)]).run();
            *said.borrow_mut() += &format!("{} {}: {ended}\n", verb[0], name(round));
        }
    };
    while killed < KILLS {
        assert!(round < 10 * KILLS, "there is nothing to kill: {killed} so far");
        let restarts = if round % 3 == 0 { "on-failure" } else { "no" };
        let restarts = format!("Restart={restarts}");
        let run = machine
            .call()
            .args(["run", "-d", "--name", &name(round), "--unit-property", &restarts])
            .args(["--unit-property", "RestartSec=50ms", &image, "sleep", "1000"])
            .start();
        thread::sleep(Duration::from_millis(random.below(150)));
        let victims = processes_of_pods();
        if random.below(6) == 0 {
            // Now and then the command line itself.
            let _ = kill(run.pid(), Signal::SIGKILL);
        } else if !victims.is_empty() {
            let victim = Pid::from_raw(*random.one_of(&victims));
            killed += u32::from(kill(victim, Signal::SIGKILL).is_ok());
        }
        // Killed or served: how it ended depends on the moment.
        let _ = run.wait();
        round += 1;
        if round > AT_ONCE {
            end(round - AT_ONCE - 1);
        }
    }
    (round.saturating_sub(AT_ONCE)..round).for_each(end);
    let args = ["list-units", "--all", "--plain", "--no-legend", "pod-storm-*"];
    let left = systemctl(&machine, &args);
    assert!(left.is_empty(), "{left}{}", said.borrow());
    machine.pod(["gc"]).success();
}
