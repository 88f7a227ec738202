//! What is left to the machine's reboot; `after_reboot` looks what became of it.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

#[test]
fn a_pod_runs() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--name", "over-reboot", &image, "sleep", "1000"]).success();
    machine.leave_to_the_next_boot();
}

#[test]
fn a_pod_of_the_host_runs() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let script = "echo >>/boots; echo boot $(wc -l </boots); exec sleep 1000";
    machine.pod(["prepare", "--name", "kept", &image, "sh", "-c", script]).success();
    machine.pod(["enable", "--now", "kept"]).success();
    machine.call().args(["logs", "-f", "kept"]).start().wait_for("boot 1\n");
    machine.leave_to_the_next_boot();
}
