//! What a freshly started app gets around it beside its tree: namespaces of its own, and the file
//! systems that belong to them.

use std::io;
use std::os::fd::AsFd;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use pod_abi::app::PidMode;
use pod_sys::{CloneFlags, MountAttr, Propagation, Recursive, mount_setattr, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::failure::{At, Failure, Phase};
use super::masks::open_root;

/// Makes the namespaces and mounts of a fresh app, in the current mount namespace's root.
///
/// 1. A copy of the mount namespace: the supervisor's own stays as it was, for the next start. The
///    cgroup namespace must be made here rather than by `clone3`, which would root it in the
///    caller's cgroup instead of the app's.
/// 2. Nothing that is mounted from here on gets out.
/// 3. procfs for the pid namespace the app really has, over the pod's; proven to be procfs, for
///    what follows masks paths beneath it.
/// 4. The app's own cgroup, read-only. Left out if the app has no `/sys/fs/cgroup`.
pub(super) fn surround(pid: PidMode, own_cgroup: bool) -> Result<(), Failure> {
    let namespaces =
        if own_cgroup { CloneFlags::NEWNS | CloneFlags::NEWCGROUP } else { CloneFlags::NEWNS };
    unshare(namespaces).at(Phase::Namespaces, "namespaces")?;
    let root = open_root().at(Phase::Mount, "`/`")?;
    let private = MountAttr { propagation: Some(Propagation::Private), ..MountAttr::default() };
    mount_setattr(root.as_fd(), &private, Recursive::Yes).at(Phase::Mount, "`/`")?;
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let nothing = None::<&str>;
    if pid == PidMode::App {
        mount(Some("proc"), "/proc", Some("proc"), inert, nothing).at(Phase::Mount, "`/proc`")?;
    }
    prove_procfs().at(Phase::Mount, "`/proc`")?;
    if own_cgroup {
        let read_only = inert | MsFlags::MS_RDONLY;
        match mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), read_only, nothing) {
            Err(nix::errno::Errno::ENOENT) => {}
            other => other.at(Phase::Mount, "`/sys/fs/cgroup`")?,
        }
    }
    Ok(())
}

/// Refuses a `/proc` that is anything but procfs (CVE-2019-16884, CVE-2019-19921).
fn prove_procfs() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
    let kind: FsType = fstatfs(&proc)?.filesystem_type();
    if kind == PROC_SUPER_MAGIC { Ok(()) } else { Err(Errno::NOTDIR.into()) }
}
