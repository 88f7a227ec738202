//! Hiding paths of an app and making paths read-only, by descriptor.
//!
//! Each path is resolved once, beneath the app's root; everything after uses what was found. What
//! stands in for a file is a `/dev/null` proven to be it (CVE-2025-31133: an app had replaced its
//! own), for a directory an empty read-only tmpfs. Only a path that does not exist is left out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::path::PodPath;
use pod_sys::{MountAttr, MountFlags, Recursive, mount_setattr, open_in_root};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::failure::{At, Failure, Phase};

/// Hides `masked` and makes `read_only` read-only in the current root.
pub(super) fn apply(masked: &[PodPath], read_only: &[PodPath]) -> Result<(), Failure> {
    let root = open_root().at(Phase::Mask, "`/`")?;
    let mut covers = Covers::default();
    for path in masked {
        let object = format!("`{path}`");
        if let Some(found) = find(root.as_fd(), path).at(Phase::Mask, &object)? {
            covers.cover(root.as_fd(), found.as_fd()).at(Phase::Mask, &object)?;
        }
    }
    for path in read_only {
        let object = format!("`{path}`");
        if let Some(found) = find(root.as_fd(), path).at(Phase::ReadOnly, &object)? {
            freeze(found.as_fd()).at(Phase::ReadOnly, &object)?;
        }
    }
    Ok(())
}

/// Opens the root, to resolve beneath it.
pub(super) fn open_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, "/", flags, Mode::empty())?)
}

/// Resolves a path beneath the root, or tells that it does not exist.
fn find(root: BorrowedFd<'_>, path: &PodPath) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match open_in_root(root, path.relative(), flags) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is mounted over masked paths, made when first needed.
#[derive(Default)]
struct Covers {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers {
    fn cover(&mut self, root: BorrowedFd<'_>, path: BorrowedFd<'_>) -> io::Result<()> {
        let stat = rustix::fs::fstat(path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let null = match self.null.take() {
                Some(null) => null,
                None => open_null(root)?,
            };
            attach(clone_of(null.as_fd(), OpenTreeFlags::empty())?.as_fd(), path)?;
            self.null = Some(null);
        } else if let Some(empty) = &self.empty {
            attach(clone_of(empty.as_fd(), OpenTreeFlags::empty())?.as_fd(), path)?;
        } else {
            // The first is mounted itself: a detached mount cannot be cloned before Linux 6.15.
            let empty = empty_directory()?;
            attach(empty.as_fd(), path)?;
            self.empty = Some(empty);
        }
        Ok(())
    }
}

/// Opens the app's `/dev/null` and proves that it is the null device.
fn open_null(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let null = rustix::fs::openat2(root, "dev/null", flags, Mode::empty(), resolve)?;
    let about = rustix::fs::statx(&null, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    let kind = FileType::from_raw_mode(about.stx_mode.into());
    if kind == FileType::CharacterDevice && (about.stx_rdev_major, about.stx_rdev_minor) == (1, 3) {
        return Ok(null);
    }
    Err(Errno::NODEV.into())
}

/// Makes a file system that holds one empty directory and cannot be written.
fn empty_directory() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "nr_inodes", "1")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Makes what is at `path` read-only, mounts beneath it included.
fn freeze(path: BorrowedFd<'_>) -> io::Result<()> {
    let tree = clone_of(path, OpenTreeFlags::AT_RECURSIVE)?;
    let attr = MountAttr { set: MountFlags::RDONLY, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), &attr, Recursive::Yes)?;
    attach(tree.as_fd(), path)
}

fn clone_of(of: BorrowedFd<'_>, more: OpenTreeFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | more;
    Ok(rustix::mount::open_tree(of, "", flags)?)
}

fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", at, "", flags)?)
}
