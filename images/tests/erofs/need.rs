//! What these tests need, and the record of those that did without running.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;

/// The variable that names the file skipped tests are recorded in.
const RECORD: &str = "POD_TESTS_SKIPPED";

/// Tells whether this is root, who may make devices and mounts.
pub(crate) fn root() -> bool {
    met(rustix::process::geteuid().is_root(), "root: layers have owners and devices")
}

/// Tells whether the kernel has EROFS.
pub(crate) fn erofs() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    met(known.contains("\terofs"), "a kernel with EROFS")
}

/// Tells whether a program of erofs-utils is there.
pub(crate) fn program(name: &str) -> bool {
    let there = ["/usr/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(name).is_file());
    met(there, &format!("`{name}` of erofs-utils"))
}

fn met(there: bool, what: &str) -> bool {
    if !there {
        record(what);
    }
    there
}

/// Writes down that this test does without what it needs.
pub(crate) fn record(what: &str) {
    let test = thread::current().name().unwrap_or("unknown").to_owned();
    let file = env::var_os(RECORD).map(|path| OpenOptions::new().append(true).open(path));
    if let Some(Ok(mut file)) = file {
        // The record is for people; a test must not fail for want of it.
        let _ = file.write_all(format!("{test}: needs {what}\n").as_bytes());
    }
}
