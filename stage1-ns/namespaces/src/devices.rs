//! `/dev` of an app: memory with the devices every program expects, and those of the host it was
//! given.
//!
//! A device is its numbers: what an app gets is a node of its own, never the host's, so that its
//! owner can be the pod's root, and that nothing an app does to the node is seen by the host.

use std::os::fd::{AsFd, OwnedFd};

use pod_abi::AppName;
use pod_abi::isolators::{Device, DeviceAccess};
use pod_abi::stage::IdRange;
use pod_sys::{attach_device_program, load_device_program};
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, Uid, chownat, major, makedev, minor, mkdirat, mknodat,
    statat, symlinkat,
};
use rustix::io::Result as IoResult;
use supervisor::{During, Failure};

use crate::device_rules::{Kind, OF_EVERY_APP, Rule, program};
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

/// Where a node lies for the moment until it is mounted elsewhere.
pub(crate) const HIDDEN: &str = ".device";

/// A device of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    kind: FileType,
    numbers: Dev,
    mode: Mode,
    owner: (u32, u32),
}

impl Node {
    /// Looks at a node of the host.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is none, or something else that is no device.
    pub(crate) fn of(path: &str) -> Result<Self, Failure> {
        let stat = statat(CWD, path, AtFlags::empty())
            .during(|| format!("cannot look at device `{path}` of this host"))
            .map_err(|failure| failure.code("device.not-found"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(Failure::new(format!("`{path}` of this host is no device"))
                .code("device.none")
                .hint("files and directories are given by `--volume`"));
        }
        let (mode, owner) = (Mode::from_raw_mode(stat.st_mode), (stat.st_uid, stat.st_gid));
        Ok(Self { kind, numbers: stat.st_rdev, mode, owner })
    }

    fn rule(self, access: DeviceAccess) -> Rule {
        let kind = if self.kind == FileType::BlockDevice { Kind::Block } else { Kind::Character };
        Rule { kind, major: major(self.numbers), minor: Some(minor(self.numbers)), access }
    }

    /// Makes the app's own node, of the same permissions. Its owner and group have the same
    /// numbers in the pod, as far as the pod has them, for groups such as `video` are known by
    /// number; the umask is 0.
    pub(crate) fn make(
        self,
        directory: &OwnedFd,
        name: &str,
        ids: Option<IdRange>,
    ) -> IoResult<()> {
        mknodat(directory, name, self.kind, self.mode, self.numbers)?;
        let inside = |id: u32| match ids {
            None => id,
            Some(IdRange { base, count }) if id < count => base.saturating_add(id),
            Some(IdRange { base, .. }) => base,
        };
        let (uid, gid) = (inside(self.owner.0), inside(self.owner.1));
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Holds an app to the devices of every app and its own, by its cgroup `leaf`.
///
/// # Errors
///
/// [`Failure`] if a device is none, or the kernel cannot enforce it: then the app must not start,
/// for nothing else keeps it from other devices.
pub(crate) fn hold(
    app: &AppName,
    leaf: Option<&OwnedFd>,
    devices: &[Device],
) -> Result<(), Failure> {
    let what = format!("app `{app}` cannot be kept from other devices than its own");
    let refuse = |failure: Failure| failure.code("app.devices").hint(WAY_OUT);
    let Some(leaf) = leaf else {
        let why = "this host has no cgroup v2 that can be written";
        return Err(refuse(Failure::of(what, why)));
    };
    let mut rules = OF_EVERY_APP.to_vec();
    for device in devices {
        rules.push(Node::of(&device.source)?.rule(device.access));
    }
    let loaded = load_device_program(&program(&rules)).during(|| format!("{what}, bpf(PROG_LOAD)"));
    let attached = loaded.and_then(|program| {
        attach_device_program(&program, leaf.as_fd()).during(|| format!("{what}, bpf(PROG_ATTACH)"))
    });
    attached.map_err(refuse)
}

const WAY_OUT: &str = "give up no more than it needs: no `--userns host` with CAP_MKNOD or CAP_SYS_ADMIN, devices with `rw`; `--insecure-options paths` gives up the rules";
