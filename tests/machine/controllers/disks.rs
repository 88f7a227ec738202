//! Limits of block devices, on a real one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};
use serde_json::json;
use tests::sandbox::Sandbox;

use super::limited::{Wanted, number};

const SLEEPS: &str = "sleep 1000";

/// Returns the numbers of the disk that the store of pods is on.
fn disk() -> (u64, u64) {
    let device = fs::metadata("/var/lib").expect("it is there").dev();
    (major(device), minor(device))
}

#[test]
fn an_app_writes_no_faster_than_it_may() {
    let machine = Sandbox::of_this_machine();
    let (major, minor) = disk();
    let device = json!({ "major": major, "minor": minor });
    let io = json!([{ "device": device, "writeBytes": 512 << 10 }]);
    let writes = "while true; do dd if=/dev/zero of=/file bs=64k count=64 conv=fsync; done";
    let pod = Wanted::new(&machine, "writes").app("web", json!({ "io": io }), writes).start();
    let line = pod.leaf("web", "io.max");
    assert_eq!(line, format!("{major}:{minor} rbps=max wbps=524288 riops=max wiops=max"));
    let written = || number(&pod.leaf("web", "io.stat"), "wbytes");
    let before = pod.wait_for("it writes", || written().filter(|written| *written > 0));
    let start = Instant::now();
    thread::sleep(Duration::from_secs(6));
    let (more, gone) = (written().unwrap_or(0) - before, start.elapsed().as_millis());
    // One and a half times the rate, for what was let through at the ends.
    let most = 512 * 1024 * u64::try_from(gone).expect("a test is short") / 1000 * 3 / 2;
    assert!(more > 0 && more <= most, "{more} bytes in {gone} ms; at most {most}");
}

#[test]
fn a_share_of_disks_is_given() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "share").app("web", json!({ "ioWeight": 250 }), SLEEPS).start();
    assert_eq!(pod.leaf("web", "io.weight"), "default 250");
}

#[test]
fn a_disk_that_is_not_there_is_refused() {
    let machine = Sandbox::of_this_machine();
    let io = json!([{ "device": { "major": 240, "minor": 77 }, "reads": 10 }]);
    let said = Wanted::new(&machine, "nodisk").app("web", json!({ "io": io }), SLEEPS).refused();
    assert!(said.contains("app `web` cannot be limited: there is no disk 240:77"), "{said}");
    assert!(said.contains("hint: name a whole disk"), "{said}");
}
