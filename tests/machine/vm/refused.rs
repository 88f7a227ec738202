//! What a pod in a machine is never given: told before anything boots, with the way out.

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

#[test]
fn what_a_machine_cannot_have_is_refused_by_name() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    for (of_pod, of_app, words) in [
        (&["--net", "host"][..], &[][..], ["`--net host`", "`--stage1 ns`"]),
        (&["--ipc", "host"], &[], ["`--ipc host`", "`--stage1 ns`"]),
        (&[], &["--pid", "host"], ["`--pid host`", "--stage1"]),
        (&[], &["--device", "/dev/fuse"], ["`--device`", "`--stage1 ns`"]),
        (&[], &["-v", "/dev/null:/x"], ["neither a directory nor a regular file", "ns"]),
        (&[], &["--cpuset-cpus", "0"], ["`--cpuset-cpus`", "`--stage1 ns`"]),
        (&[], &["--blkio-weight", "100"], ["limits of the host's disks", "whole pod"]),
    ] {
        let call = machine.call().args(["run", "--rm", "--stage1", "kvm"]).args(of_pod);
        let _ = call.args([&image]).args(of_app).args(["true"]).run().refuses(125, &words);
    }
}

#[test]
fn a_socket_of_the_service_manager_is_refused() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let pod = machine.programs().path("pod");
    let socket = format!("web=unix:{}", machine.path("web").display());
    let activate = machine.programs().path("activate").display().to_string();
    let call = machine.program(&activate).args([&socket, "--"]).args([&pod]);
    let call = call.args(["run", "--rm", "--stage1", "kvm", &image, "--socket", "web", "true"]);
    let _ = call.run().refuses(125, &["`--socket`", "`--stage1 ns`"]);
}
