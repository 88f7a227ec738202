//! Where the server is: in namespaces of its own, with the share for its file system.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use pod_abi::guest::SHARED_FILE;
use pod_sys::{MountAttr, MountFlags, Propagation, Recursive, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root, umask};

use crate::share::Access;

use super::{During, Fault};

/// What no file of a share is to this process: a device, a program, more rights.
fn inert() -> MountFlags {
    MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID
}

/// Moves into namespaces in which there is nothing but the share, and returns its root and
/// `/proc/self/fd`.
///
/// 1. the tree is cloned while it can be: where it is mounted;
/// 2. a proc is mounted nowhere, so that no way leads from it to anything else;
/// 3. new namespaces, from which nothing reaches the host's mounts;
/// 4. the tree, or a directory with the one file, becomes the root, and the host's is let go.
pub(super) fn move_into(share: OwnedFd, access: Access) -> Result<(OwnedFd, OwnedFd), Fault> {
    umask(Mode::empty());
    let kind = FileType::from_raw_mode(fstat(&share).during("fstat(share)")?.st_mode);
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&share, "", clone).during("open_tree(share)")?;
    // The host's mount is not held by a server that only has its clone.
    drop(share);
    restrict(&tree, access)?;
    let descriptors = own_descriptors().during("mount(proc)")?;
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    unshare(namespaces)
        .map_err(std::io::Error::from)
        .during("unshare(CLONE_NEWNS|CLONE_NEWNET|CLONE_NEWIPC)")?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", alone).during("mount(/, MS_PRIVATE)")?;
    if kind == FileType::Directory {
        attach(&tree)?;
        become_root(&tree)?;
    } else {
        become_root(&directory_of(&tree)?)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).during("open(/)")?;
    Ok((root, descriptors))
}

/// Sets what holds for every mount of the share, whatever the host says of it.
fn restrict(tree: &OwnedFd, access: Access) -> Result<(), Fault> {
    let set = match access {
        Access::ReadOnly => inert() | MountFlags::RDONLY,
        Access::ReadWrite => inert(),
    };
    let attr = MountAttr { set, propagation: Some(Propagation::Private), ..MountAttr::default() };
    mount_setattr(tree.as_fd(), &attr, Recursive::Yes).during("mount_setattr(share)")
}

/// `/proc/self/fd` of a proc of processes alone.
fn own_descriptors() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "subset", "pid")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(proc, "self/fd", flags, Mode::empty())
}

/// A directory, of memory, with the file `tree` in it as the only thing; nothing else can be made
/// there. It is attached.
fn directory_of(tree: &OwnedFd) -> Result<OwnedFd, Fault> {
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

/// Makes `mount`, which is attached, the root, and lets the old one go.
fn become_root(mount: &OwnedFd) -> Result<(), Fault> {
    fchdir(mount).during("fchdir(share)")?;
    pivot_root(".", ".").during("pivot_root(., .)")?;
    unmount(".", UnmountFlags::DETACH).during("umount2(., MNT_DETACH)")?;
    chdir("/").during("chdir(/)")
}
