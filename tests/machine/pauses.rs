//! A pod of a unit that stands still: the service manager sees a service that runs, and can stop it.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

/// Quits in order, which takes a process that runs.
const QUITS: &str = "trap 'echo bye; exit 0' TERM; echo up; while :; do read -t 1 x; done";

#[test]
fn a_paused_pod_is_stopped_in_order_by_the_service_manager() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let pod = machine.detached("still", [&image, "sh", "-c", QUITS]);
    pod.logs_until("up");
    assert_eq!(machine.pod(["pause", "still"]).success(), "still\n");
    let active = ["is-active", "pod-still.service"];
    assert_eq!(machine.program("systemctl").args(active).run().success(), "active\n");
    machine.pod(["exec", "still", "true"]).refuses(125, &["pod `still` is paused", "unpause"]);
    machine.program("systemctl").args(["stop", "pod-still.service"]).run().success();
    assert!(machine.pod(["logs", "still"]).success().contains("bye"));
    assert_eq!(machine.pod(["ps", "-q"]).success(), "");
    machine.pod(["rm", "still"]).success();
}

#[test]
fn a_paused_pod_is_restarted_and_goes_with_all_its_processes() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let pod = machine.detached("still", [&image, "sh", "-c", QUITS]);
    machine.pod(["pause", "still"]).success();
    machine.pod(["restart", "still"]).success();
    assert!(pod.is_running());
    assert_eq!(machine.pod(["ps", "-qf", "status=paused"]).success(), "");
    machine.pod(["pause", "--all"]).success();
    machine.pod(["rm", "-f", "still"]).success();
}
