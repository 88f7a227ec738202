//! `/dev` of an app: memory with the devices every program expects, and nothing of the host's.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use supervisor::{During, Failure};

use crate::mounts::{self, DEVICES, INERT};

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

/// Mounts `/dev` of the tree that is at `root` in the working directory over `place`, which is its
/// `dev`. Files belong to whom this process acts as, `base`; the umask is 0.
pub(crate) fn mount(root: &str, place: &OwnedFd, base: u32) -> Result<(), Failure> {
    let options = [("mode", "0755"), ("size", "64k")];
    let dev = mounts::new("tmpfs", &options, DEVICES).during(|| "cannot mount `/dev`")?;
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
    // SECURITY: by path, but through nothing of the image: `dev` is the directory that was made
    // or found to be one, nobody else can reach the tree yet, and beneath it all is ours.
    let group = base.saturating_add(TTY);
    let options = format!("newinstance,mode=0620,ptmxmode=0666,gid={group}");
    mounts::mount_at(&format!("{root}/dev/pts"), "devpts", &options, DEVICES)
        .during(|| "cannot mount `/dev/pts`, mount(devpts)")?;
    mounts::mount_at(&format!("{root}/dev/mqueue"), "mqueue", "", INERT)
        .during(|| "cannot mount `/dev/mqueue`, mount(mqueue)")
}
