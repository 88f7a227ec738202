//! What runs when the power fails; `after_reset` looks what became of it.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

#[test]
fn a_pod_runs() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--name", "over-reset", &image, "sleep", "1000"]).success();
    machine.leave_to_the_next_boot();
}
