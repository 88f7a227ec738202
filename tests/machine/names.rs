//! Names of units that are taken before a pod can have them.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

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
