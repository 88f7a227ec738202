//! The fence of paths around a server (Landlock), by itself: no filter of system calls, no cage, and
//! permissions that are no hindrance.
//!
//! What a thread gives up is its own, so each test is a thread. One is shown with the filter too:
//! what that lets through leads nowhere else either.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails says so, and one that cannot run says why"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use confine::{Files, OnViolation, give_up};
use fsd::sandbox::{Shared, enter};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mknodat, openat2};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;
use tempfile::TempDir;

/// Whether there is anything to see; says why not.
fn has_landlock() -> bool {
    let version = pod_sys::landlock_version();
    if version.is_none() {
        println!("skipped: this kernel has no Landlock");
    }
    version.is_some()
}

/// Makes a directory with a program and a file in it, and a file beside it.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("share")).unwrap();
    for name in ["share/file", "secret"] {
        fs::write(home.path().join(name), name).unwrap();
    }
    fs::copy("/bin/true", home.path().join("share/program")).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(home.path().join("share/program"), mode).unwrap();
    home
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

#[test]
fn only_what_is_shared_can_be_opened_and_nothing_executed() {
    if !has_landlock() {
        return;
    }
    let home = home();
    let place = home.path().to_owned();
    let root = open(&place.join("share"));
    let tried = thread::spawn(move || {
        // All capabilities are kept: it is not them that are missing.
        give_up(Files::Beneath(root.as_fd()), CapabilitySet::all()).unwrap();
        let of_share = fs::read_to_string(place.join("share/file")).unwrap();
        fs::write(place.join("share/new"), "new").unwrap();
        let outside = ["secret", ""].map(|name| File::open(place.join(name)).map(drop));
        let made = File::create(place.join("new")).map(drop);
        let executed = Command::new(place.join("share/program")).status().map(drop);
        let device = mknodat(
            CWD,
            place.join("share/device"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(1, 3),
        );
        (of_share, outside.into_iter().chain([made, executed]).collect::<Vec<_>>(), device)
    });
    let (of_share, denied, device) = tried.join().unwrap();
    assert_eq!(of_share, "share/file");
    assert_eq!(fs::read(home.path().join("share/new")).unwrap(), b"new");
    for done in denied {
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    assert_eq!(device, Err(Errno::ACCESS));
}

/// Looking up a name is let through, by any descriptor: the fence is what it meets outside.
#[test]
fn what_the_filter_lets_through_leads_nowhere_else() {
    if !geteuid().is_root() {
        println!("skipped: confining the server needs root");
        return;
    }
    if !has_landlock() {
        return;
    }
    let home = home();
    let (root, place) = (open(&home.path().join("share")), open(home.path()));
    let (said, hears) = mpsc::channel();
    thread::spawn(move || {
        let find = |directory: &OwnedFd, name: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat2(directory, name, flags, Mode::empty(), ResolveFlags::empty()).map(drop)
        };
        let before = find(&place, "secret");
        let confined = enter(root, Shared::Directory, OnViolation::Kill).unwrap();
        let within = find(&confined.root, "file");
        let after = ["../secret", "/bin/true", "/"].map(|name| find(&confined.root, name));
        said.send((before, within, after)).unwrap();
        // A thread's end takes a call that a process's does not.
        loop {
            thread::park();
        }
    });
    let (before, within, after) = hears.recv().unwrap();
    assert_eq!((before, within), (Ok(()), Ok(())));
    assert_eq!(after, [Err(Errno::ACCESS); 3]);
}
