//! Names of units that are taken before a pod can have them.

use std::fs;

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

#[test]
fn a_masked_name_is_refused_with_what_takes_it() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let mask = |verb| machine.program("systemctl").args([verb, "--runtime", "pod-masked.service"]);
    mask("mask").run().success();
    let said = machine.pod(["run", "-d", "--name", "masked", &image, "sleep", "1000"]);
    mask("unmask").run().success();
    assert_eq!(said.code, 125);
    assert!(said.stderr.contains("systemctl cat pod-masked.service"), "{}", said.stderr);
    assert_eq!(machine.pod(["ps", "-aq"]).success(), "");
}

#[test]
fn what_a_pod_that_is_no_more_has_left_failed_does_not_keep_its_name() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let policy = ["--unit-property", "Restart=always", "--unit-property", "RestartSec=1h"];
    let run = [&["run", "-d", "--name", "gone"], &policy[..], &[&image, "sleep", "1000"]].concat();
    machine.pod(run).success();
    let systemctl = |args: &[&str]| machine.program("systemctl").args(args).run();
    systemctl(&["kill", "--kill-who=main", "--signal=KILL", "pod-gone.service"]).success();
    let is = |sub: &str| {
        let args = ["show", "--value", "--property", "SubState", "pod-gone.service"];
        systemctl(&args).success().trim_end() == sub
    };
    until(|| is("auto-restart"));
    for pod in fs::read_dir(machine.path("root/pods/run")).unwrap() {
        fs::remove_dir_all(pod.unwrap().path()).unwrap();
    }
    assert_ne!(systemctl(&["restart", "pod-gone.service"]).code, 0);
    systemctl(&["stop", "pod-gone.service"]).success();
    let said = machine.pod(["run", "--rm", "--name", "gone", &image, "true"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}
