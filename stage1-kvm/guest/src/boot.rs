//! From an initramfs to a machine with a root, its kernel's file systems, and its modules.
//!
//! 1. The initramfs is the kernel's first root, which cannot be pivoted away, as stage2-init and
//!    every app's tree must. A bind mount of it can: it is moved over `/`, and nothing is copied.
//! 2. procfs, sysfs, devtmpfs and cgroup2, for this process and `namespaces`. Apps never see them:
//!    each has a procfs, a sysfs and a `/dev` of its own.

use std::ffi::CString;

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{chdir, chroot, umask};
use supervisor::{During, Failure};

/// Where the root is bound for a moment.
const ROOT: &str = "/root";

/// Makes the initramfs a root like any other, with the kernel's file systems in it.
///
/// # Errors
///
/// What the kernel has against it.
pub fn boot() -> Result<(), Failure> {
    // Modes of what is made are those that are written.
    umask(Mode::from_raw_mode(0o022));
    make(ROOT)?;
    mount_bind("/", ROOT).during(|| "cannot bind the root, mount(MS_BIND)")?;
    chdir(ROOT).during(|| "cannot enter the root, chdir()")?;
    mount_move(".", "/").during(|| "cannot move the root, mount(MS_MOVE)")?;
    chroot(".").during(|| "cannot enter the root, chroot()")?;
    chdir("/").during(|| "cannot enter the root, chdir()")?;
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let table = [
        ("proc", "/proc", inert, ""),
        ("sysfs", "/sys", inert, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755"),
        ("cgroup2", "/sys/fs/cgroup", inert, ""),
    ];
    for (kind, place, flags, options) in table {
        if !place.starts_with("/sys/") {
            make(place)?;
        }
        let options = CString::new(options).map_err(|error| Failure::of("no options", error))?;
        match mount(kind, place, kind, flags, options.as_c_str()) {
            // A kernel may have mounted its devices itself.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(error).during(|| format!("cannot mount `{place}`, mount()")),
        }
    }
    Ok(())
}

fn make(path: &str) -> Result<(), Failure> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).during(|| format!("cannot make `{path}`")),
    }
}
