//! Mounts as descriptors: made detached, changed, and then attached by descriptor.
//!
//! No path of an image is ever given to `mount(2)`; where a mount goes in an image is a descriptor
//! that `root` has found. Only into directories that are ours from top to bottom is anything
//! mounted by path ([`mount_at`]), which takes one call instead of ten.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_sys::{MountAttr, MountFlags, Propagation, Recursive, mount_setattr};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags as OldFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    move_mount, open_tree,
};

/// What cannot be done through a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    new: MountAttrFlags,
    old: OldFlags,
}

/// Neither privileges nor devices: a file system that holds data.
pub(crate) const DATA: Ban = Ban {
    new: MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV),
    old: OldFlags::NOSUID.union(OldFlags::NODEV),
};

/// [`DATA`], from which nothing is executed either.
pub(crate) const INERT: Ban = Ban {
    new: DATA.new.union(MountAttrFlags::MOUNT_ATTR_NOEXEC),
    old: DATA.old.union(OldFlags::NOEXEC),
};

/// Neither privileges nor programs: a file system that holds devices.
pub(crate) const DEVICES: Ban = Ban {
    new: MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC),
    old: OldFlags::NOSUID.union(OldFlags::NOEXEC),
};

impl Ban {
    /// Bans writing, too.
    pub(crate) const fn read_only(self) -> Self {
        Self {
            new: self.new.union(MountAttrFlags::MOUNT_ATTR_RDONLY),
            old: self.old.union(OldFlags::RDONLY),
        }
    }
}

/// Makes a file system and returns its mount, detached.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], ban: Ban) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ban.new)
}

/// Mounts what `source` holds, read-only, and returns the mount, detached. Neither privileges nor
/// devices count on it.
pub(crate) fn of_source(kind: &str, source: &str) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    // A block device is opened for writing otherwise, which one that cannot be written refuses.
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, DATA.read_only().new)
}

/// Makes a file system and mounts it at `path`, every component of which is a directory of ours.
pub(crate) fn mount_at(path: &str, kind: &str, options: &str, ban: Ban) -> Result<()> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount(kind, path, kind, ban.old, options.as_c_str())
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
    change(tree, &MountAttr { set, ..MountAttr::default() }, depth)
}

/// Makes a detached tree the pod's own: sets flags, maps its ids through a user namespace, if one
/// is given, and cuts it off from the host.
///
/// SECURITY: a clone of a shared mount, which all are where systemd runs, is a peer of what it was
/// cloned from. As long as it is, a mount beneath it appears on the host, and when a helper lets
/// go of the old root, the host's own mounts beneath the volume are unmounted.
pub(crate) fn make_own(
    tree: &OwnedFd,
    set: MountFlags,
    user_namespace: Option<&OwnedFd>,
    depth: Depth,
) -> std::io::Result<()> {
    let idmap = user_namespace.map(AsFd::as_fd);
    let propagation = Some(Propagation::Private);
    change(tree, &MountAttr { set, propagation, idmap, ..MountAttr::default() }, depth)
}

fn change(tree: &OwnedFd, attr: &MountAttr<'_>, depth: Depth) -> std::io::Result<()> {
    let recursive = match depth {
        Depth::One => Recursive::No,
        Depth::All => Recursive::Yes,
    };
    mount_setattr(tree.as_fd(), attr, recursive)
}
