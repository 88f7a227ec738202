//! What became of what `before_reset` left.

use tests::sandbox::Sandbox;

#[test]
fn nothing_of_a_pod_that_ran_is_left_but_the_pod() {
    let machine = Sandbox::of_this_machine();
    // Dead as it is, it is an exited pod like any other.
    let line = machine.pod(["ps", "-a"]).success();
    assert!(line.contains("over-reset  exited (host restarted)"), "{line}");
    machine.pod(["start", "-d", "over-reset"]).success();
    machine.pod(["stop", "-t", "0", "over-reset"]).success();
    machine.pod(["rm", "over-reset"]).success();
}
