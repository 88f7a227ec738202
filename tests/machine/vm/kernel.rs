//! The kernel of guests is made ready from the machine's own, and `pod doctor` believes in it.

use std::fs;
use std::process::{Command, Output};

use tests::sandbox::Sandbox;

const STAGE1: &str = "/usr/lib/pod/stage1/kvm/stage1-kvm";

fn setup() -> (Output, String) {
    let output = Command::new(STAGE1).arg("setup").output().expect("it is installed");
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output, directory)
}

#[test]
fn the_kernel_of_the_distribution_is_made_ready_and_found_again() {
    let (output, directory) = setup();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let length = |name: &str| fs::metadata(format!("{directory}/{name}")).expect(name).len();
    // As Debian's cloud kernel has them: less would lack something, more would not be stripped.
    assert!((20 << 20..45 << 20).contains(&length("vmlinux")), "{}", length("vmlinux"));
    assert!((2 << 20..64 << 20).contains(&length("initramfs")), "{}", length("initramfs"));
    assert_eq!(setup().1, directory);

    let machine = Sandbox::of_this_machine();
    let said = machine.pod(["doctor", "--stage1", "kvm"]);
    assert_eq!(said.code, 0, "{said}");
    let ready = format!("ready in `{directory}`\n");
    assert!(said.stdout.contains("ok       speed of guests: "), "{said}");
    assert!(said.stdout.contains(&ready), "{said}");
}
