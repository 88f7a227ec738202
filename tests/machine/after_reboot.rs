//! What became of what `before_reboot` left. One test: what looks after the pods of one test collects
//! those of all.

use pod_abi::status::AppState;
use tests::sandbox::Sandbox;

#[test]
fn a_pod_that_ran_has_exited_and_one_of_the_host_is_back_with_its_files() {
    let machine = Sandbox::of_this_machine();
    let line = machine.pod(["ps", "-a"]).success();
    assert!(line.contains("over-reboot  exited (host restarted)"), "{line}");
    let status = machine.status("over-reboot");
    assert!(status.apps.iter().all(|app| app.state != AppState::Running), "{status:?}");
    machine.pod(["rm", "over-reboot"]).success();

    machine.call().args(["logs", "-f", "kept"]).start().wait_for("boot 2\n");
    let state = machine.program("systemctl").args(["is-active", "pod@kept"]).run();
    assert_eq!(state.success(), "active\n");
    machine.pod(["disable", "--now", "kept"]).success();
    machine.pod(["rm", "kept"]).success();
}
