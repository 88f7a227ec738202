//! SIGKILL for the supervisor, for all of a unit, for the client: systemd and `pod reap` leave
//! nothing behind, and a restart policy of the unit brings the pod back.

use nix::sys::signal::Signal;
use tests::fixtures::Fixture;
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
