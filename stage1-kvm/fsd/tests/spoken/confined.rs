//! Which system calls serving takes, and what the others do.
//!
//! A violation ends the whole process, so each is tried in one of its own: this program again, with
//! one ignored test that is not a test. In it a thread is confined, and another one is the monitor.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;

use confine::{OnViolation, Use};
use fsd::sandbox::{CALLS, Shared, enter_with};
use fsd::server::serve;
use fsd::share::{Access, Share};
use pod_abi::share::fd::OWN;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Signal, geteuid};

use crate::talk::ask_everything;

/// What is tried instead of serving.
const DEEDS: [(&str, fn()); 3] = [
    ("open", || drop(openat(CWD, "/", OFlags::RDONLY, Mode::empty()))),
    ("socket", || drop(socket(AddressFamily::UNIX, SocketType::STREAM, None))),
    ("execute", || drop(Command::new("/bin/true").status())),
];

fn other_process(deed: &str, without: &str) -> ExitStatus {
    let mut again = Command::new(env::current_exe().unwrap());
    let name = "confined::deed_of_another_process";
    again.args(["--exact", name, "--ignored", "--test-threads=1"]);
    // Made here: the other process does not live to take it away.
    let home = tempfile::TempDir::new().unwrap();
    fs::write(home.path().join("file"), "x").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    again.env("DEED", deed).env("WITHOUT", without).env("SHARE", home.path());
    let output = again.output().unwrap();
    if !output.status.success() && output.status.signal().is_none() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }
    output.status
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SYS.as_raw())
}

#[test]
fn serving_takes_each_of_its_calls_and_no_other() {
    if !geteuid().is_root() {
        println!("skipped: acting for users of a guest needs root");
        return;
    }
    let ended = other_process("serve", "");
    assert!(ended.success(), "{ended}");
    for call in CALLS.iter().filter(|call| call.made == Use::Served) {
        let ended = other_process("serve", call.name);
        assert!(killed(ended), "without `{}`: {ended}", call.name);
    }
}

#[test]
fn whatever_else_is_tried_ends_the_server() {
    if !geteuid().is_root() {
        println!("skipped: acting for users of a guest needs root");
        return;
    }
    for (deed, _) in DEEDS {
        let ended = other_process(deed, "");
        assert!(killed(ended), "{deed}: {ended}");
    }
}

#[test]
#[ignore = "it is the other process of another test"]
fn deed_of_another_process() {
    // First of all, so that the number is nobody's.
    let own = openat(CWD, "/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let own = own.unwrap();
    pod_sys::place(own.as_fd(), OWN).unwrap();
    let own = if own.as_raw_fd() == OWN { own } else { pod_sys::inherited(OWN).unwrap() };
    let wanted = |name| env::var(name).unwrap_or_default();
    let (deed, without) = (wanted("DEED"), wanted("WITHOUT"));
    let root = OwnedFd::from(File::open(wanted("SHARE")).unwrap());
    let (mut monitor, stream) = UnixStream::pair().unwrap();
    let stream = File::from(OwnedFd::from(stream));
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let left = |name: &str| name != without;
        let confined = enter_with(root, Shared::Directory, OnViolation::Kill, left).unwrap();
        if let Some((_, deed)) = DEEDS.into_iter().find(|(name, _)| *name == deed) {
            deed();
        }
        let mut share = Share::new(confined.root, own, Access::ReadWrite, confined.limit).unwrap();
        serve(&mut share, stream).unwrap();
        done.send(()).unwrap();
        // A thread's end takes a call that a process's does not.
        loop {
            thread::park();
        }
    });
    ask_everything(|request| {
        monitor.write_all(&u32::try_from(request.len()).unwrap().to_le_bytes()).unwrap();
        monitor.write_all(request).unwrap();
        let mut length = [0; 4];
        monitor.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
        monitor.read_exact(&mut reply).unwrap();
        reply
    });
    drop(monitor);
    is_done.recv().unwrap();
}
