//! Many pods, one after the other and at once, and what systemd still knows of them afterwards:
//! nothing. The leak check of the sandbox looks for units, cgroups, mounts and processes.

use std::time::Duration;

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

/// Counts the pods' units that systemd has told the journal it started, from the beginning.
fn started(machine: &Sandbox) -> usize {
    // SD_MESSAGE_UNIT_STARTED of `systemd/sd-messages.h`.
    let message = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf";
    let args = ["--no-pager", "--output=cat", "--output-fields=UNIT", "--boot", message];
    let said = machine.program("journalctl").args(args).run().success();
    said.lines().filter(|unit| unit.starts_with("pod-") && unit.ends_with(".service")).count()
}

#[test]
fn two_hundred_pods_in_a_row_leave_no_unit() {
    const PODS: usize = 200;
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let before = started(&machine);
    let script = "for i in $(seq \"$2\"); do pod run -d --rm \"$1\" true || exit 1; done";
    let words = ["-c", script, "sh", &image, &PODS.to_string()];
    machine.program("sh").args(words).patience(Duration::from_secs(300)).run().success();
    let failed = machine.program("systemctl").args(["--failed", "--no-legend"]).run().success();
    assert_eq!(failed, "", "units that failed");
    assert_eq!(started(&machine) - before, PODS, "each of them was a unit");
    // That the last of them goes is waited for by the leak check, which finds no pod, either.
}

#[test]
fn twenty_pods_start_at_one_moment_as_twenty_units() {
    const PODS: usize = 20;
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let names: Vec<String> = (0..PODS).map(|number| format!("crowd-{number}")).collect();
    let start = |name: &String| {
        machine.call().args(["run", "-d", "--rm", "--name", name, &image, "sleep", "1000"]).start()
    };
    let starts: Vec<_> = names.iter().map(start).collect();
    starts.into_iter().for_each(|start| drop(start.wait().success()));
    let args = ["list-units", "--plain", "--no-legend", "pod-crowd-*.service"];
    let units = machine.program("systemctl").args(args).run().success();
    assert_eq!(units.lines().filter(|line| line.contains(" active ")).count(), PODS, "{units}");
    machine.call().args(["stop", "-t", "0"]).args(&names).run().success();
}
