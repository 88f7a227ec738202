//! The directory that is served, where what is shared is a single file.

use std::os::fd::{AsFd, OwnedFd};

use confine::{During, Fault};
use nix::sched::{CloneFlags, unshare};
use pod_abi::guest::SHARED_FILE;
use pod_sys::{MountAttr, MountFlags, Recursive, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
};

/// Makes a directory, of memory, with the file `tree` in it as the only thing; nothing else can be
/// made there.
///
/// The kernel then sees to all that is special about it: the file cannot be taken away or moved,
/// for something is mounted there, and nothing can be put beside it.
pub(super) fn directory_of(tree: &OwnedFd) -> Result<OwnedFd, Fault> {
    // Not for safety, which is the cage's, but so that nobody else sees what is mounted here.
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(std::io::Error::from)
        .during("unshare(CLONE_NEWNS)")?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", alone).during("mount(/, MS_PRIVATE)")?;
    let making = "mount(tmpfs)";
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(making)?;
    for (key, value) in [("size", "4k"), ("nr_inodes", "8"), ("mode", "0755")] {
        fsconfig_set_string(&context, key, value).during(making)?;
    }
    fsconfig_create(&context).during(making)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let directory = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during(making)?;
    // A mount that is nowhere takes no other: it has to be somewhere first.
    attach(&directory)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&directory, SHARED_FILE, flags, Mode::from_raw_mode(0o600)).during(making)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", &directory, SHARED_FILE, empty).during("move_mount(file)")?;
    let read_only = MountAttr { set: MountFlags::RDONLY, ..MountAttr::default() };
    mount_setattr(directory.as_fd(), &read_only, Recursive::No).during("mount_setattr(tmpfs)")?;
    Ok(directory)
}

/// Mounts a detached mount over the root, where nobody sees it yet.
fn attach(mount: &OwnedFd) -> Result<(), Fault> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", CWD, "/", empty).during("move_mount(/)")
}
