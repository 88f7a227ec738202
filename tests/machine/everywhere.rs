//! What every machine must be like, cheap enough to be looked at in each.

use std::env;

use tests::sandbox::Sandbox;

#[test]
fn the_machine_has_booted_without_a_failed_unit() {
    let machine = Sandbox::of_this_machine();
    let said = machine.program("systemctl").args(["is-system-running"]).run();
    assert_eq!(said.success(), "running\n");
}

#[test]
fn a_test_is_no_service() {
    // So a pod started by it is one that a person started at a prompt.
    for name in ["SYSTEMD_EXEC_PID", "INVOCATION_ID", "NOTIFY_SOCKET"] {
        assert_eq!(env::var_os(name), None, "{name}");
    }
}

#[test]
fn an_app_is_heard_and_its_code_is_the_pods() {
    let machine = Sandbox::of_this_machine();
    let said = machine.run_app(&[], &["sh", "-c", "echo hello; exit 7"]);
    assert_eq!(said.exits(7), "hello\n");
}
