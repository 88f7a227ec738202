//! What became of what `before_reboot` left.

use pod_abi::status::AppState;
use tests::sandbox::Sandbox;

#[test]
fn a_pod_that_ran_has_exited() {
    let machine = Sandbox::of_this_machine();
    let line = machine.pod(["ps", "-a"]).success();
    assert!(line.contains("over-reboot  exited"), "{line}");
    let status = machine.status("over-reboot");
    assert!(status.apps.iter().all(|app| app.state != AppState::Running), "{status:?}");
    machine.pod(["rm", "over-reboot"]).success();
}
