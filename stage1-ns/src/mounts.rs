//! Mounts as descriptors: made detached, changed, and then attached by descriptor.
//!
//! No path of an image is ever given to `mount(2)`; where a mount goes is a descriptor that
//! [`crate::root`] has found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_sys::{MountAttr, MountFlags, Recursive, mount_setattr};
use rustix::io::Result;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Flags of a file system that holds data, never programs with privileges or devices.
pub(crate) const DATA: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// [`DATA`] from which nothing is executed either.
pub(crate) const INERT: MountAttrFlags = DATA.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Makes a file system and returns its mount, detached. An option without a value is a flag.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// How much is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The one mount.
    One,
    /// With the mounts beneath.
    All,
}

/// Clones the tree at `path` beneath `directory`, detached; the empty path is the directory.
pub(crate) fn clone(directory: BorrowedFd<'_>, path: &str, depth: Depth) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path, flags)
}

/// Attaches a detached tree over what `target` refers to.
pub(crate) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// Attaches a detached tree over `name` in `directory`, which is ours.
pub(crate) fn attach_at(tree: &OwnedFd, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
    move_mount(tree, "", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Sets flags on a tree, of which `depth` is meant.
pub(crate) fn restrict(tree: &OwnedFd, set: MountFlags, depth: Depth) -> std::io::Result<()> {
    let attr = MountAttr { set, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), &attr, recursive(depth))
}

/// Maps the ids of a detached tree through a user namespace.
pub(crate) fn map_ids(
    tree: &OwnedFd,
    user_namespace: &OwnedFd,
    depth: Depth,
) -> std::io::Result<()> {
    let attr = MountAttr { idmap: Some(user_namespace.as_fd()), ..MountAttr::default() };
    mount_setattr(tree.as_fd(), &attr, recursive(depth))
}

fn recursive(depth: Depth) -> Recursive {
    match depth {
        Depth::One => Recursive::No,
        Depth::All => Recursive::Yes,
    }
}
