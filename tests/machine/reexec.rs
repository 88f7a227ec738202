//! systemd executes itself anew, as on every upgrade of its package, in the middle of something.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

/// Replaces the running systemd by itself.
fn reexec(machine: &Sandbox) {
    machine.program("systemctl").args(["daemon-reexec"]).run().success();
}

/// Returns a property of the unit of pod `name`.
fn property(machine: &Sandbox, name: &str, property: &str) -> String {
    let unit = format!("pod-{name}.service");
    let args = ["show", "--value", "--property", property, &unit];
    machine.program("systemctl").args(args).run().success().trim_end().to_owned()
}

#[test]
fn a_start_that_waits_for_readiness_goes_on() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let start = machine
        .call()
        .args(["run", "-d", "--name", "slow", "--readiness", "exec:test -e /ready"])
        .args([image.as_str(), "sh", "-c", "sleep 3; touch /ready; sleep 1000"])
        .start();
    until(|| property(&machine, "slow", "ActiveState") == "activating");
    reexec(&machine);
    start.wait().success();
    assert_eq!(property(&machine, "slow", "ActiveState"), "active");
    machine.pod(["stop", "-t", "0", "slow"]).success();
    machine.pod(["rm", "slow"]).success();
}

#[test]
fn a_pod_that_runs_goes_on_and_is_stopped_as_ever() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let pod = machine.detached("steady", [image.as_str(), "sleep", "1000"]);
    let main = property(&machine, "steady", "MainPID");
    reexec(&machine);
    assert!(pod.is_running());
    assert_eq!(property(&machine, "steady", "MainPID"), main);
    assert_eq!(property(&machine, "steady", "NRestarts"), "0");
    pod.exec(&[], &["true"]).success();
    pod.stop(&["-t", "0"]).success();
    assert_eq!(property(&machine, "steady", "ActiveState"), "inactive");
}

#[test]
fn a_pod_in_the_foreground_keeps_its_client_and_its_code() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let script = "echo begun; while ! test -e /go; do sleep 0.1; done; echo done; exit 9";
    let run =
        machine.call().args(["run", "--rm", "--name", "front", &image, "sh", "-c", script]).start();
    run.wait_for("begun");
    reexec(&machine);
    machine.pod(["exec", "front", "touch", "/go"]).success();
    assert_eq!(run.wait().exits(9), "begun\ndone\n");
}
