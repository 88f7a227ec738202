//! Tries what an app must not be able to do, and says how the kernel answered.
//!
//! One table of attempts, each harmless should it succeed: the process that tries is about to
//! end, and what it changes is its own. Every attempt goes through a safe wrapper; the complete
//! profile is proven against its table where it is compiled, this shows that it is in force.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::kmod;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::{Pid, chroot, pivot_root, sethostname, setuid};

use serde::{Deserialize, Serialize};

type Attempt = fn() -> Result<(), Errno>;

/// Every attempt there is, by name.
#[rustfmt::skip]
pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("chroot",            || chroot("/")),
    ("clock-settime",     || clock_settime(ClockId::CLOCK_REALTIME, clock_gettime(ClockId::CLOCK_REALTIME)?)),
    ("delete-module",     || kmod::delete_module(c"pod_probe_none", kmod::DeleteModuleFlags::O_NONBLOCK)),
    ("init-module",       || kmod::init_module(b"", c"")),
    ("kill-parent",       || kill(Pid::parent(), None)),
    ("mknod-kmem",        || mknod("/tmp/probe-kmem", SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 2))),
    ("mount-cgroup",      || filesystem(c"cgroup2")),
    ("mount-proc",        || filesystem(c"proc")),
    ("mount-tmpfs",       || filesystem(c"tmpfs")),
    ("personality",       || personality::set(Persona::ADDR_NO_RANDOMIZE).map(drop)),
    ("pivot-root",        || pivot_root(".", ".")),
    ("ptrace-init",       || ptrace::attach(Pid::from_raw(1))),
    ("remount-root-rw",   || remount("/")),
    ("remount-sys-rw",    || remount("/sys")),
    ("sethostname",       || sethostname("probe")),
    ("setns-own",         setns_own),
    ("setuid-root",       || setuid(0.into())),
    ("socket-alg",        || open_socket(AddressFamily::Alg, SockType::SeqPacket)),
    ("socket-inet-raw",   || ping_socket()),
    ("socket-inet-stream",|| open_socket(AddressFamily::Inet, SockType::Stream)),
    ("socket-netlink",    || open_socket(AddressFamily::Netlink, SockType::Raw)),
    ("socket-packet",     || open_socket(AddressFamily::Packet, SockType::Raw)),
    ("socket-unix",       || open_socket(AddressFamily::Unix, SockType::Stream)),
    ("socket-vsock",      || open_socket(AddressFamily::Vsock, SockType::Stream)),
    ("umount-proc",       || umount("/proc")),
    ("unshare-cgroup",    || unshare(CloneFlags::CLONE_NEWCGROUP)),
    ("unshare-ipc",       || unshare(CloneFlags::CLONE_NEWIPC)),
    ("unshare-mount",     || unshare(CloneFlags::CLONE_NEWNS)),
    ("unshare-net",       || unshare(CloneFlags::CLONE_NEWNET)),
    ("unshare-pid",       || unshare(CloneFlags::CLONE_NEWPID)),
    ("unshare-user",      || unshare(CloneFlags::CLONE_NEWUSER)),
    ("unshare-uts",       || unshare(CloneFlags::CLONE_NEWUTS)),
];

fn filesystem(kind: &CStr) -> Result<(), Errno> {
    mount(Some(c"none"), c"/tmp", Some(kind), MsFlags::empty(), None::<&CStr>)
}

fn remount(point: &str) -> Result<(), Errno> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(None::<&CStr>, point, None::<&CStr>, flags, None::<&CStr>)
}

fn setns_own() -> Result<(), Errno> {
    let own = nix::fcntl::open("/proc/self/ns/uts", OFlag::O_RDONLY, Mode::empty())?;
    setns(own, CloneFlags::CLONE_NEWUTS)
}

fn ping_socket() -> Result<(), Errno> {
    let icmp = SockProtocol::Icmp;
    socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, icmp).map(drop)
}

fn open_socket(family: AddressFamily, kind: SockType) -> Result<(), Errno> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, None).map(drop)
}

/// Makes the attempts named, all if none is, and returns each one's errno, or `ok`.
///
/// Each is made in the process itself, in the order of the table; those that could influence
/// later ones are named last by the caller or tried alone.
#[must_use]
pub fn make(names: &[String]) -> BTreeMap<String, String> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let answer = |attempt: &Attempt| match attempt() {
        Ok(()) => "ok".to_owned(),
        Err(errno) => format!("{errno:?}"),
    };
    ATTEMPTS
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, attempt)| ((*name).to_owned(), answer(attempt)))
        .collect()
}

/// How far a path can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// What looking at it says: its type, or an errno.
    pub kind: String,
    /// The first bytes that can be read, at most 64, or an errno.
    pub read: String,
    /// Whether it can be opened for writing, or a file made beneath it: `ok`, or an errno.
    pub write: String,
}

/// Reaches for each of `paths`. A file is opened for writing but not written to; beneath a
/// directory an empty file is made and removed again.
#[must_use]
pub fn reach(paths: &[String]) -> BTreeMap<String, Reach> {
    paths.iter().map(|path| (path.clone(), reach_one(Path::new(path)))).collect()
}

fn reach_one(path: &Path) -> Reach {
    use std::os::unix::fs::FileTypeExt;

    let answer = |error: &std::io::Error| {
        error.raw_os_error().map_or_else(
            || format!("{:?}", error.kind()),
            |number| format!("{:?}", Errno::from_raw(number)),
        )
    };
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) => {
            let errno = answer(&error);
            return Reach { kind: errno.clone(), read: errno.clone(), write: errno };
        }
    };
    let file_type = meta.file_type();
    let kind = match file_type {
        _ if file_type.is_dir() => "directory",
        _ if file_type.is_symlink() => "symlink",
        _ if file_type.is_char_device() => "character-device",
        _ if file_type.is_block_device() => "block-device",
        _ if file_type.is_fifo() => "fifo",
        _ if file_type.is_socket() => "socket",
        _ => "file",
    };
    let read = if file_type.is_dir() {
        path.read_dir()
            .map_or_else(|error| answer(&error), |entries| format!("{} entries", entries.count()))
    } else {
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(path);
        let read = opened.and_then(|file| file.take(64).read_to_end(&mut bytes));
        read.map_or_else(|error| answer(&error), |_| String::from_utf8_lossy(&bytes).into_owned())
    };
    let write = if file_type.is_dir() { write_beneath(path) } else { open_for_writing(path) };
    let write = write.map_or_else(|error| answer(&error), |()| "ok".to_owned());
    Reach { kind: kind.to_owned(), read, write }
}

fn write_beneath(directory: &Path) -> std::io::Result<()> {
    let file = directory.join(".probe-was-here");
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(_) => std::fs::remove_file(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_for_writing(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_sorted_and_unique() {
        assert!(ATTEMPTS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_missing_path_is_answered_with_its_errno() {
        let reached = reach(&["/nonexistent/probe".to_owned()]);
        assert_eq!(reached["/nonexistent/probe"].kind, "ENOENT");
    }
}
