//! What the monitor's threads cannot do once they are confined.
//!
//! A violation ends the whole process, so each is tried in one of its own: this program again, with
//! one ignored test that is not a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use confine::OnViolation;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::Signal;
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
