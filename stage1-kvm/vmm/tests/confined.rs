//! What the monitor's threads cannot do once they are confined.
//!
//! A violation ends the whole process, so each is tried in one of its own: this program again, with
//! one ignored test that is not a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use confine::{Files, OnViolation, give_up};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Signal, getppid, test_kill_process};
use rustix::thread::CapabilitySet;
use vmm::machine::{Confine as _, Role};
use vmm::sandbox::Sandbox;

const ROLES: [(&str, Role); 3] =
    [("loop", Role::Loop), ("disks", Role::Disks), ("processor", Role::Processor)];

const DEEDS: [(&str, fn()); 4] = [
    ("nothing", || {}),
    ("open", || drop(openat(CWD, "/", OFlags::RDONLY, Mode::empty()))),
    ("socket", || drop(socket(AddressFamily::UNIX, SocketType::STREAM, None))),
    ("execute", || drop(Command::new("/bin/true").status())),
];

#[test]
fn no_thread_opens_calls_or_executes_anything() {
    for (role, _) in ROLES {
        for (deed, _) in DEEDS {
            let mut again = Command::new(env::current_exe().unwrap());
            again.args(["--exact", "deed_of_another_process", "--ignored", "--test-threads=1"]);
            let ended = again.env("ROLE", role).env("DEED", deed).output().unwrap().status;
            let expected = (deed != "nothing").then_some(Signal::SYS.as_raw());
            assert_eq!(ended.signal(), expected, "{role}, {deed}: {ended}");
            assert!(ended.success() || expected.is_some(), "{role}, {deed}: {ended}");
        }
    }
}

#[test]
#[ignore = "it is the other process of another test"]
fn deed_of_another_process() {
    let wanted = |name| env::var(name).unwrap_or_default();
    let (role, deed) = (wanted("ROLE"), wanted("DEED"));
    let (_, role) = ROLES.into_iter().find(|(name, _)| *name == role).unwrap();
    let (_, deed) = DEEDS.into_iter().find(|(name, _)| *name == deed).unwrap();
    let sandbox = Sandbox { on: OnViolation::Kill };
    let done = std::thread::spawn(move || {
        sandbox.process().unwrap();
        sandbox.thread(role).unwrap();
        deed();
    });
    done.join().unwrap();
}

/// Landlock by itself: no filter of system calls, no cage, and files whose permissions are no
/// hindrance. What a thread gives up is its own, so this one needs no process.
#[test]
fn without_a_filter_no_path_is_opened_and_nobody_else_is_reached() {
    let Some(version) = pod_sys::landlock_version() else {
        let _ = writeln!(std::io::stderr(), "skipped: this kernel has no Landlock");
        return;
    };
    let path = env::current_exe().unwrap();
    let mut open = File::open(&path).unwrap();
    let denied = std::thread::spawn(move || {
        give_up(Files::Open, CapabilitySet::empty()).unwrap();
        let kinds = [&*path, Path::new("/"), Path::new("/dev/null"), Path::new("/proc/self")]
            .map(|path| File::open(path).map(drop));
        // What is open stays so.
        open.read_exact(&mut [0; 4]).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").map(drop);
        let signal = test_kill_process(getppid().unwrap()).map_err(std::io::Error::from);
        (kinds, port, signal)
    });
    let (opened, port, signal) = denied.join().unwrap();
    let denied = |done: &std::io::Result<()>| {
        done.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    assert!(opened.iter().all(denied), "{opened:?}");
    // Later versions know ports, and then signals.
    assert!(version < 4 || denied(&port), "{port:?}");
    assert!(version < 6 || denied(&signal), "{signal:?}");
}
