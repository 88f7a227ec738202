//! `/dev` of an app: memory with the devices every program expects, and nothing of the host's.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use rustix::mount::MountAttrFlags;
use supervisor::{During, Failure};

use crate::mounts;

/// Devices by name and numbers (`Documentation/admin-guide/devices.txt`); all of mode 0666.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The group of terminals, by the number every distribution gives it.
const TTY: u32 = 5;

/// Mounts `/dev` at `place`; its files belong to `base`, the root of the pod. The umask is 0.
pub(crate) fn mount(place: &OwnedFd, base: u32) -> Result<(), Failure> {
    let owner = base.to_string();
    let options = [("mode", "0755"), ("size", "64k"), ("uid", &owner), ("gid", &owner)];
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = mounts::new("tmpfs", &options, flags).during(|| "cannot mount `/dev`")?;
    mounts::attach(&dev, place).during(|| "cannot mount `/dev`, move_mount()")?;
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))
            .during(|| format!("cannot make `/dev/{name}`, mknodat()"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).during(|| format!("cannot make `/dev/{name}`"))?;
    }
    for name in ["pts", "mqueue", "shm"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755))
            .during(|| format!("cannot make `/dev/{name}`"))?;
    }
    let group = base.saturating_add(TTY).to_string();
    let options = [("newinstance", ""), ("mode", "0620"), ("ptmxmode", "0666"), ("gid", &group)];
    let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    sub(&dev, "pts", "devpts", &options, inert)?;
    sub(&dev, "mqueue", "mqueue", &[], mounts::INERT)
}

fn sub(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> Result<(), Failure> {
    use std::os::fd::AsFd;

    let mounting = || format!("cannot mount `/dev/{name}`, fsmount({kind})");
    let tree = mounts::new(kind, options, flags).during(mounting)?;
    mounts::attach_at(&tree, dev.as_fd(), name).during(mounting)
}
