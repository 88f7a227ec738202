//! What a test needs of the machine, and the record of tests that did without running.
//!
//! A test that cannot run says so and why: it is written to the file that `$POD_TESTS_SKIPPED`
//! names, and `cargo xtask test` counts the lines. A silent pass would be a lie.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::thread;

/// The variable that names the file skipped tests are recorded in.
pub const RECORD: &str = "POD_TESTS_SKIPPED";

/// Tells whether the test may go on: it needs root, for `reason`.
#[must_use = "return from the test if it is false"]
pub fn root(reason: &str) -> bool {
    met(nix::unistd::geteuid().is_root(), "root", reason)
}

/// Tells whether the test may go on: it needs `program` on the machine, for `reason`.
#[must_use = "return from the test if it is false"]
pub fn program(program: &str, reason: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let sbin = Path::new("/usr/sbin").join(program).is_file();
    met(found || sbin, &format!("`{program}`"), reason)
}

/// Tells whether the test may go on: it needs `what`, which is there if `there`, for `reason`.
#[must_use = "return from the test if it is false"]
pub fn that(there: Met, what: &str, reason: &str) -> bool {
    met(there == Met::Yes, what, reason)
}

/// Whether a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It is.
    Yes,
    /// It is not.
    No,
}

fn met(there: bool, what: &str, reason: &str) -> bool {
    if !there {
        let test = thread::current().name().unwrap_or("unknown").to_owned();
        let line = format!("{test}: needs {what}: {reason}\n");
        let file = env::var_os(RECORD).map(|path| OpenOptions::new().append(true).open(path));
        if let Some(Ok(mut file)) = file {
            // The record is for people; a test must not fail for want of it.
            let _ = file.write_all(line.as_bytes());
        }
    }
    there
}
