//! Pods as machines of machined's: they come, are shown, and go with their units.

use std::process::{Command, Stdio};

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

fn machines(machine: &Sandbox) -> String {
    machine.program("machinectl").args(["list", "--no-legend"]).run().success()
}

fn leader(machine: &Sandbox, name: &str) -> String {
    let said = machine.program("machinectl").args(["show", "--value", "-p", "Leader", name]).run();
    said.stdout.trim().to_owned()
}

#[test]
fn a_pod_is_a_machine_until_it_is_terminated() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--name", "shop", &image, "sleep", "1000"]).success();
    until(|| machines(&machine).contains("shop"));
    let line = machines(&machine);
    let words: Vec<&str> = line.split_whitespace().take(3).collect();
    assert_eq!(words, ["shop", "container", "pod"]);
    let init = machine.status("shop").init.expect("it runs").to_string();
    assert_eq!(leader(&machine, "shop"), init);
    let said = machine.program("machinectl").args(["status", "shop"]).run();
    assert!(said.success().contains("Unit: pod-shop.service"));
    machine.program("machinectl").args(["terminate", "shop"]).run().success();
    until(|| {
        let said = machine.program("systemctl").args(["is-active", "pod-shop"]).run();
        said.stdout == "inactive\n"
    });
    until(|| machines(&machine).is_empty());
    assert!(machine.status("shop").ended.is_some());
    machine.pod(["rm", "shop"]).success();
}

#[test]
fn a_pod_that_was_killed_and_starts_anew_is_a_machine_anew() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--name", "shop", &image, "sleep", "1000"]).success();
    until(|| machines(&machine).contains("shop"));
    let first = leader(&machine, "shop");
    machine.program("systemctl").args(["kill", "-s", "KILL", "pod-shop"]).run().success();
    until(|| machine.program("systemctl").args(["is-active", "pod-shop"]).run().code != 0);
    machine.pod(["start", "-d", "shop"]).success();
    until(|| {
        let now = leader(&machine, "shop");
        !now.is_empty() && now != first && now != "0"
    });
    machine.pod(["rm", "-f", "shop"]).success();
    until(|| machines(&machine).is_empty());
}

#[test]
fn a_name_that_is_taken_keeps_no_pod_from_running_and_is_told() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let id: Vec<String> = (1..=16).map(|byte: u8| byte.to_string()).collect();
    let call = machine.program("busctl").args(["call", "org.freedesktop.machine1"]);
    let call = call.args(["/org/freedesktop/machine1", "org.freedesktop.machine1.Manager"]);
    let call = call.args(["RegisterMachine", "sayssus", "shop", "16"]).args(&id);
    call.args(["test", "container", &other.id().to_string(), ""]).run().success();
    machine.pod(["run", "-d", "--name", "shop", &image, "sleep", "1000"]).success();
    until(|| {
        let words = ["--quiet", "--output=cat", "POD_NAME=shop", "POD_EVENT=not-registered"];
        let said = machine.program("journalctl").args(words).run();
        said.stdout.contains("there is a machine `shop` already")
    });
    assert_eq!(leader(&machine, "shop"), other.id().to_string());
    machine.pod(["rm", "-f", "shop"]).success();
    let words = ["call", "org.freedesktop.machine1", "/org/freedesktop/machine1"];
    let call = machine.program("busctl").args(words).args(["org.freedesktop.machine1.Manager"]);
    call.args(["UnregisterMachine", "s", "shop"]).run().success();
    other.kill().unwrap();
    other.wait().unwrap();
}
